"""Image tokens inside the text: what turns them into the text's vectors, and what puts them where they belong.

The text holds as many image marks as there are image tokens; the vectors at these places are replaced, and the
decoder reads all of it as it reads any text, causally and with ordinary positions. Sources: Liu et al. (2023), "Visual
Instruction Tuning" (Llava, two layers); Marafioti et al. (2025), "SmolVLM" (pixel shuffle and one matrix).
Letters: B images, R texts, L text tokens, P image tokens, D width of the text, E of the image, F the factor.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from rebus.models.features import Features, masked_mean
from rebus.models.image_tokens import ImagePlan, pixel_shuffle


class InlineProjector(nn.Module):
    """(B, P F^2, E) -> (B, P, D).

    Args:
        plan: what becomes of the tower's tokens; its projector is not None.
        width: E.
        out: D.
        bias: ``mlp``: whether its two layers have biases.

    Attributes:
        proj: ``linear``, ``shuffle``: the matrix, under Idefics3's name.
        linear_1, linear_2: ``mlp``: the layers, under Llava's names.
    """

    def __init__(self, plan: ImagePlan, width: int, out: int, *, bias: bool = True) -> None:
        super().__init__()
        self.plan, self.width = plan, out
        self.proj: nn.Linear | None = None
        if plan.projector == "mlp":
            self.linear_1, self.linear_2 = nn.Linear(width, out, bias=bias), nn.Linear(out, out, bias=bias)
        else:
            self.proj = nn.Linear(width * plan.factor**2, out, bias=False)
        for layer in self.children():
            assert isinstance(layer, nn.Linear)  # noqa: S101 - as built above
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, image: Features) -> Features:
        """(B, K x P F^2, E) of K images -> (B, K x P, D); ``pooled`` is the mean."""
        if self.proj is None:
            tokens = self.linear_2(functional.gelu(self.linear_1(image.tokens)))
        else:
            rows, count, width = image.tokens.shape
            images = image.tokens.reshape(rows * count // self.plan.pooled, self.plan.pooled, width)
            shuffled = self.proj(pixel_shuffle(images, self.plan.factor))  # (B K, P, D)
            tokens = shuffled.reshape(rows, count // self.plan.factor**2, self.width)
        mask = image.mask[:, :: self.plan.factor**2]  # tokens of one image are all real, or none
        return Features(tokens, mask, masked_mean(tokens, mask))


def placed_inside(embedded: Tensor, marks: Tensor, inside: Features, before: Tensor | None = None) -> Tensor:
    """The text with its image tokens: the first mark of a text becomes its first image token, and so on.

    Args:
        embedded: (R, L, D).
        marks: (R, L) bool, where an image mark stands.
        inside: (R, P, D), each text's own; those that are masked stay out.
        before: (R,) marks that each text has had already, in earlier parts of it; None: none. A mark beyond the P-th is
            one that the model wrote itself, and stays what it is.

    Returns:
        (R, L, D).
    """
    number = marks.long().cumsum(1) - 1
    if before is not None:
        number = number + before[:, None]
    most = inside.tokens.shape[1]
    rows = torch.arange(len(marks), device=marks.device)[:, None]
    at = number.clamp(0, most - 1)
    real = marks & (number < most) & inside.mask[rows, at]
    return torch.where(real[..., None], inside.tokens[rows, at].to(embedded.dtype), embedded)
