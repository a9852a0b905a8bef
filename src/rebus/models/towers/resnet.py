"""A residual network with batch norms, as ResNet-18 to ResNet-152 are: what most pretrained image models are like.

Source: He et al. (2016), "Deep Residual Learning for Image Recognition". It learns from batches of many images; from
scratch on a CPU and in small batches ``convnet`` is the better choice.
``rebus.formats.resnet`` renames the parameters of a Hugging Face ResNetModel to these.
Letters: B items, S side of the image, P side of a patch, G = S / P, L = G x G tokens, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rebus import recipe
from rebus.models.features import Features
from rebus.models.towers.base import TOWERS, ImageTower, grid_features
from rebus.nn.residual import NormedConvolution, ResNetBlock
from rebus.nn.stages import resnet_shape

EPS = 1e-5  # of the norms, where the recipe says nothing


@TOWERS.register("resnet")
class ResNet(ImageTower):
    """A wide first convolution, then stages of residual blocks, each after the first at half the side.

    Args:
        settings: width, depth (blocks of each stage), patch (a power of two from 4 up), block, eps; ``stages`` and
            ``channels`` where they are not to follow from these.
        context: see ``ImageTower``.

    Raises:
        RecipeError: the patch or the size does not fit, or the stages and channels do not go together.
    """

    def __init__(self, settings: recipe.Tower, **context: Any) -> None:
        blocks, channels = resnet_shape(settings)
        super().__init__(settings, **context)
        eps, self.maps = settings.eps or EPS, f"stages.{len(blocks) - 1}"
        self.stem = NormedConvolution(3, channels[0], 7, stride=2, eps=eps)
        self.stages = nn.ModuleList()
        for number, count in enumerate(blocks):
            before, after = channels[number : number + 2]
            self.stages.append(
                nn.Sequential(
                    *(
                        ResNetBlock(
                            after if index else before,
                            after,
                            stride=2 if number and not index else 1,
                            bottleneck=settings.block == "bottleneck",
                            eps=eps,
                        )
                        for index in range(count)
                    )
                )
            )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, pixels: Tensor) -> Features:
        """(B, 3, S, S) normalised -> Features of G x G tokens, row by row; pooled is their mean."""
        x = self.stem(pixels.contiguous(memory_format=torch.channels_last))
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        for stage in self.stages:
            x = stage(x)
        return grid_features(x)
