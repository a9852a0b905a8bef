"""A residual CNN that ends in a grid of tokens: the image tower of choice on a CPU.

It knows no text. Letters: B items, S side of the image, P side of a patch, G = S / P, L = G x G tokens, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rebus import recipe
from rebus.errors import RecipeError
from rebus.models.features import Features
from rebus.models.towers.base import TOWERS, ImageTower, all_real
from rebus.nn.attention import Attention
from rebus.nn.convolution import ChannelNorm, Downsample, ResidualBlock, Stem
from rebus.nn.norms import RMSNorm


@TOWERS.register("convnet")
class ConvNet(ImageTower):
    """Convolutions halve the image until a place is a patch; then one attention lets every place see all others.

    Stages at a quarter of the side and below hold ``settings.depth`` residual blocks each, the last one more. Early
    stages are narrow, a sixth and a third of the width: places are many there, and a weight costs the most time.

    Args:
        settings: width, depth, heads, patch (a power of two, at least 4), dropout.
        context: see ``ImageTower``.

    Raises:
        RecipeError: the patch or the size does not fit.
    """

    follows = True
    maps = "body"

    def __init__(self, settings: recipe.Tower, **context: Any) -> None:
        patch, width = settings.patch, settings.width
        if patch < 4 or patch & (patch - 1):
            expected = "a power of two from 4 up, for a convnet"
            raise RecipeError("setting 'model.image.patch'", expected, str(patch), "use 8, 16 or 32")
        super().__init__(settings, **context)
        channels = stage_channels(width, stages=patch.bit_length() - 2)
        layers: list[nn.Module] = [Stem(channels[0])]
        for index, count in enumerate(channels):
            if index:
                layers.append(Downsample(channels[index - 1], count))
            blocks = settings.depth + (index == len(channels) - 1)
            layers.extend(ResidualBlock(count, settings.dropout) for _ in range(blocks))
        layers.append(ChannelNorm(width))
        self.body = nn.Sequential(*layers)
        self.project = nn.Linear(width, width)
        self.position = nn.Parameter(torch.randn(self.num_tokens, width) * 0.02)
        self.context_norm = RMSNorm(width)
        self.context = Attention(width, settings.heads, qk_norm=True, dropout=settings.dropout)
        self.norm = RMSNorm(width)
        nn.init.normal_(self.project.weight, std=width**-0.5)
        nn.init.zeros_(self.project.bias)
        nn.init.zeros_(self.context.o_proj.weight)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, pixels: Tensor) -> Features:
        """(B, 3, S, S) normalised -> Features of G x G tokens, row by row; pooled is their mean."""
        grid = self.body(pixels.contiguous(memory_format=torch.channels_last))  # (B, D, G, G)
        tokens = self.project(grid.flatten(2).transpose(1, 2)) + self.position  # (B, L, D)
        tokens = tokens + self.context(self.context_norm(tokens))
        return all_real(self.norm(tokens))


def stage_channels(width: int, stages: int) -> list[int]:
    """Channels of each stage, in multiples of 8; the last is the width. For 192 and three stages: 32, 64, 192."""
    shares = [1 / 6, 1 / 3, *[2 / 3] * (stages - 3)] if stages > 2 else [1 / 3] * (stages - 1)
    return [max(8, round(width * share / 8) * 8) for share in shares] + [width]
