"""ResNet checkpoints (in the ResNetModel layout) and the residual network: names and configuration, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rebus.formats.config import as_many, demand, number, numbers, tower_of
from rebus.formats.names import NameMap, State
from rebus.nn.stages import resnet_shape
from rebus.recipe import Tower

_BLOCK = "resnet.encoder.stages.{n}.layers.{m}"
ROWS = tuple(
    (f"{ours}.{part}", f"{theirs}.{its}")
    for ours, theirs in (
        ("stem", "resnet.embedder.embedder"),
        ("stages.{n}.{m}.shortcut", f"{_BLOCK}.shortcut"),
        ("stages.{n}.{m}.layers.{k}", f"{_BLOCK}.layer.{{k}}"),
    )
    for part, its in (
        ("conv.weight", "convolution.weight"),
        ("norm.{p}", "normalization.{p}"),
        ("norm.{s}", "normalization.{s}"),
    )
)
NAMES = NameMap("resnet", ROWS, base="resnet.", ignored=r"^classifier\.")
SIZE = 224  # of the images, which the configuration does not say


def to_hf(state: Mapping[str, Tensor]) -> State:
    """A residual network's parameters under the names of a ResNetModel within a larger one, ``resnet.`` before each."""
    return NAMES.to_hf(state)


def from_hf(state: Mapping[str, Tensor], settings: Tower) -> State:
    """A checkpoint's parameters, of a ResNetModel or one with a classifier, under the residual network's names.

    Raises:
        WeightsError: a name that ResNet has not.
    """
    return NAMES.from_hf(state)


def config_to_hf(settings: Tower, size: int) -> dict[str, Any]:
    """The config.json of a residual network; the size of its images has no place there."""
    blocks, channels = resnet_shape(settings)
    return {
        "model_type": "resnet",
        "architectures": ["ResNetModel"],
        "num_channels": 3,
        "embedding_size": channels[0],
        "hidden_sizes": channels[1:],
        "depths": blocks,
        "layer_type": settings.block,
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": False,
    }


def settings_from_hf(config: Mapping[str, Any]) -> tuple[Tower, int]:
    """The residual network's settings, and the side of the images it is usually shown.

    Raises:
        WeightsError: the configuration asks for something that the tower does not do.
    """
    demand(config, "resnet", "model_type", ("resnet",))
    demand(config, "resnet", "num_channels", (3,), 3)
    demand(config, "resnet", "hidden_act", ("relu",), "relu")
    demand(config, "resnet", "downsample_in_first_stage", (False,), False)
    demand(config, "resnet", "downsample_in_bottleneck", (False,), False)
    channels = numbers(config, "resnet", "hidden_sizes", (256, 512, 1024, 2048))
    blocks = numbers(config, "resnet", "depths", (3, 4, 6, 3))
    as_many("hidden_sizes", channels, "depths has", len(blocks), "resnet")
    settings = tower_of(
        "resnet",
        kind="resnet",
        width=channels[-1],
        depth=max(blocks),
        patch=2 ** (len(blocks) + 1),
        block=demand(config, "resnet", "layer_type", ("basic", "bottleneck"), "bottleneck"),
        stages=blocks,
        channels=[number(config, "resnet", "embedding_size", 64), *channels],
    )
    return settings, SIZE


def fits(settings: Tower) -> bool:
    """Whether an image tower can be written so."""
    return settings.kind == "resnet" and settings.eps in (None, 1e-5)
