"""EfficientNet-lite: a small convolutional network that is quick on a CPU, without squeezing and with ReLU6.

Source: Tan and Le (2019), "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks"; the lite variants
were published by the same authors in 2020 with TensorFlow's models.
``rebus.formats.efficientnet`` renames the parameters of published weights to these.
Letters: B items, S side of the image, P side of a patch, G = S / P, L = G x G tokens, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rebus import recipe
from rebus.models.features import Features
from rebus.models.towers.base import TOWERS, ImageTower, grid_features
from rebus.nn.residual import MOMENTUM, InvertedBottleneck, NormedConvolution
from rebus.nn.stages import EXPANSIONS, KERNELS, STRIDES, efficientnet_shape

EPS = 1e-3  # of the norms, where the recipe says nothing


@TOWERS.register("efficientnet")
class EfficientNet(ImageTower):
    """A first convolution, seven stages of inverted bottlenecks, a last one to the width.

    Args:
        settings: width (1280 in lite0; channels of all stages go with it), depth (most blocks of a stage), patch (32
            in lite0; 4, 8 or 16: later stages keep the side), eps; ``stages`` and ``channels`` where they are not to
            follow from these.
        context: see ``ImageTower``.

    Raises:
        RecipeError: the patch or the size does not fit, or the stages and channels do not go together.
    """

    maps = "top"

    def __init__(self, settings: recipe.Tower, **context: Any) -> None:
        blocks, channels = efficientnet_shape(settings)
        super().__init__(settings, **context)
        eps = settings.eps or EPS
        self.stem = NormedConvolution(3, channels[0], 3, stride=2, cut="relu6", same=True, eps=eps, momentum=MOMENTUM)
        strides, reduced = [], 2
        for stride in STRIDES:
            strides.append(stride if reduced < settings.patch else 1)
            reduced *= strides[-1]
        layers = [
            InvertedBottleneck(
                channels[stage + 1] if index else channels[stage],
                channels[stage + 1],
                kernel=KERNELS[stage],
                stride=1 if index else strides[stage],
                expand=EXPANSIONS[stage],
                eps=eps,
            )
            for stage, count in enumerate(blocks)
            for index in range(count)
        ]
        self.blocks = nn.ModuleList(layers)
        self.top = NormedConvolution(channels[-1], settings.width, 1, cut="relu6", eps=eps, momentum=MOMENTUM)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, pixels: Tensor) -> Features:
        """(B, 3, S, S) normalised -> Features of G x G tokens, row by row; pooled is their mean."""
        x = self.stem(pixels.contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = block(x)
        return grid_features(self.top(x))
