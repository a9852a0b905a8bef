"""A vision transformer in the layout of SigLIP.

Sources: Dosovitskiy et al. (2021), "An Image is Worth 16x16 Words"; Zhai et al. (2023), "Sigmoid Loss for Language
Image Pre-Training"; the pooling head: Zhai et al. (2022), "Scaling Vision Transformers".
``rebus.formats.siglip`` renames the parameters of a Hugging Face SiglipVisionModel to these.
Letters: B items, S side of the picture, P side of a patch, L = (S / P)^2 tokens, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rebus.models.features import Features
from rebus.models.towers import TOWERS
from rebus.models.towers.convnet import check_grid
from rebus.nn.attention import Attention
from rebus.nn.block import EncoderLayer, start_weights
from rebus.nn.feedforward import MLP
from rebus.recipe import Tower


class PoolingHead(nn.Module):
    """One learned question asked of all patches: (B, L, D) -> (B, D)."""

    def __init__(self, width: int, heads: int, hidden: int, activation: str, eps: float) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.randn(1, 1, width) * width**-0.5)
        self.attention = Attention(width, heads, bias=True)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.mlp = MLP(width, hidden, activation)

    def forward(self, tokens: Tensor) -> Tensor:
        """Ask."""
        asked = self.attention(self.probe.expand(len(tokens), -1, -1), memory=tokens)
        out: Tensor = (asked + self.mlp(self.norm(asked)))[:, 0]
        return out


@TOWERS.register("vit")
class ViT(nn.Module):
    """Patches, learned positions, layers that norm first, and a last norm.

    Args:
        settings: width, depth, heads, hidden (None: four times the width), patch, dropout.
        size: S, a multiple of the patch.
        head: pool by attention, as SigLIP does; False: by the mean over tokens.
        activation: of the MLPs.
        eps: of the norms.
        zero_init: start the projections that end attention and MLP at zero, for training from scratch.
        context: ignored.

    Raises:
        RecipeError: the size is not a multiple of the patch.
    """

    def __init__(
        self,
        settings: Tower,
        *,
        size: int,
        head: bool = False,
        activation: str = "gelu_tanh",
        eps: float = 1e-6,
        zero_init: bool = True,
        **context: Any,
    ) -> None:
        super().__init__()
        check_grid(size, settings.patch)
        width, hidden = settings.width, settings.hidden or 4 * settings.width
        self.settings, self.width, self.size, self.grid = settings, width, size, size // settings.patch
        self.num_tokens = self.grid**2
        self.patches = nn.Conv2d(3, width, settings.patch, stride=settings.patch)
        self.position = nn.Parameter(torch.randn(self.num_tokens, width) * 0.02)
        self.layers = nn.ModuleList(
            EncoderLayer(width, settings.heads, hidden, activation=activation, eps=eps, dropout=settings.dropout)
            for _ in range(settings.depth)
        )
        self.norm = nn.LayerNorm(width, eps=eps)
        self.head = PoolingHead(width, settings.heads, hidden, activation, eps) if head else None
        start_weights(self)
        if zero_init:
            for name, weight in self.layers.named_parameters():
                if name.endswith(("attention.o_proj.weight", "mlp.fc2.weight")):
                    nn.init.zeros_(weight)

    def forward(self, pixels: Tensor) -> Features:
        """(B, 3, S, S) normalised -> Features of L tokens, row by row."""
        x = self.patches(pixels).flatten(2).transpose(1, 2) + self.position  # (B, L, D)
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        return Features(x, mask, x.mean(1) if self.head is None else self.head(x))
