"""Images and texts as vectors in one space, and pairs of them that do not belong together. Knows no task and no loop.

Sources: Radford et al. (2021), "Learning Transferable Visual Models From Natural Language Supervision" (CLIP); Zhai et
al. (2023), "Sigmoid Loss for Language Image Pre-Training" (SigLIP); Li et al. (2021), "Align before Fuse" (ALBEF).

Letters: B images of a batch, I images among them that have texts, R texts, D numbers of the shared space.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

SOFTMAX_SCALE, SIGMOID_SCALE, SIGMOID_BIAS = 1 / 0.07, 10.0, -10.0  # the published starts
MOST_SCALE = 100.0


class Pairs(NamedTuple):
    """A ``pairs`` head's outputs; a tuple, so that DistributedDataParallel finds the tensors in it.

    Attributes:
        images: (I, D) of length one.
        texts: (R, D) of length one.
        scale: () what products are multiplied with, one over the temperature.
        bias: () what is added then; 0 for the softmax loss, which it would not change.
    """

    images: Tensor
    texts: Tensor
    scale: Tensor
    bias: Tensor


class PairHead(nn.Module):
    """Two linear maps into one space, and the learned temperature and bias of the products there.

    Args:
        image: width of the image tower's Features.
        text: width of the text tower's.
        size: D.
        loss: ``softmax``: the temperature starts at 0.07; ``sigmoid``: at 0.1, with a bias of -10, so that at first all
            pairs count as not belonging together, as nearly all of them are.
        maps: ``both``: a linear map each, as CLIP has; ``text``: the image tower's vectors are the space, and texts
            come into it by a linear map with a bias, as SigLIP has it. D then is the image tower's width.
    """

    def __init__(self, image: int, text: int, size: int, loss: str, maps: str = "both") -> None:
        super().__init__()
        alone = maps == "text"
        self.size = image if alone else size
        self.image = None if alone else nn.Linear(image, size, bias=False)
        self.text = nn.Linear(text, self.size, bias=alone)
        for layer in (self.image, self.text):
            if layer is not None:
                nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        if alone:
            nn.init.zeros_(self.text.bias)
        sigmoid = loss == "sigmoid"
        self.logit_scale = nn.Parameter(torch.tensor(math.log(SIGMOID_SCALE if sigmoid else SOFTMAX_SCALE)))
        self.logit_bias = nn.Parameter(torch.tensor(SIGMOID_BIAS)) if sigmoid else None

    def of_images(self, pooled: Tensor) -> Tensor:
        """(I, D_image) -> (I, D) of length one, float32."""
        mapped = pooled if self.image is None else self.image(pooled)
        return functional.normalize(mapped.float(), dim=-1)

    def of_texts(self, pooled: Tensor) -> Tensor:
        """(R, D_text) -> (R, D) of length one, float32."""
        return functional.normalize(self.text(pooled).float(), dim=-1)

    def scale(self) -> Tensor:
        """(): one over the temperature. As in CLIP at most 100: a step that goes beyond is taken back to there."""
        if self.logit_bias is None:
            self.logit_scale.data.clamp_(max=math.log(MOST_SCALE))
        return self.logit_scale.exp()

    def forward(self, images: Tensor, texts: Tensor) -> Pairs:
        """Pooled (I, D_image) and (R, D_text) -> Pairs."""
        scale = self.scale()
        bias = torch.zeros_like(scale) if self.logit_bias is None else self.logit_bias * 1.0  # not the leaf itself: DDP
        return Pairs(self.of_images(images), self.of_texts(texts), scale, bias)


@torch.no_grad()
def with_negatives(part: dict[str, Tensor], likeness: Tensor | None) -> dict[str, Tensor]:
    """R pairs that belong together, then R whose text and R whose image is another one of the batch.

    A partner is drawn with a chance that grows with its likeness (the hard negatives of ALBEF); each of the draw's
    numbers belongs to the two rows that it is about, so that it does not matter what else is in the batch.

    Args:
        part: ``owner`` (R,), place in the batch of each text's image; ``images`` (I,), places of these images;
            ``pair`` (R,), which of the I each text belongs to; ``belongs`` (I, R) bool, pairs that never are negatives;
            ``text_noise`` (R, R) and ``image_noise`` (R, I), Gumbel noise for each text's draws.
        likeness: (I, R) logits of the draw; None: all alike.

    Returns:
        The part with ``owner`` (3R,) and ``text_rows`` (3R,). Where all of the batch belongs to a text or to its
        image, the pair drawn is one that belongs: ``can_draw`` says where.
    """
    belongs, pair = part["belongs"], part["pair"]
    logits = torch.zeros_like(belongs, dtype=torch.float32) if likeness is None else likeness.float()
    logits = logits.masked_fill(belongs, float("-inf"))
    texts = (logits[pair] + part["text_noise"]).argmax(1)  # (R,)
    images = part["images"][(logits.T + part["image_noise"]).argmax(1)]  # (R,)
    owner, own = part["owner"], torch.arange(len(pair), device=pair.device)
    return part | {"owner": torch.cat([owner, owner, images]), "text_rows": torch.cat([own, texts, own])}


def can_draw(part: dict[str, Tensor]) -> Tensor:
    """(3R,) bool: which pairs of ``with_negatives`` are what they should be."""
    free = ~part["belongs"]
    texts, images = free.any(1)[part["pair"]], free.any(0)
    return torch.cat([torch.ones_like(texts), texts, images])
