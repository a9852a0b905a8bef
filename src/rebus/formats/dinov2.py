"""DINOv2 checkpoints (in the Dinov2Model layout) and the vision transformer: names and configuration, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rebus.errors import WeightsError
from rebus.formats.config import decimal, demand, number, side
from rebus.formats.names import NameMap, State
from rebus.formats.siglip import BASE
from rebus.formats.vision import shape_from_hf, shape_to_hf
from rebus.formats.vit import EMBEDDING_ROWS, with_batch, without_batch
from rebus.recipe import Tower

_LAYER = "dinov2.encoder.layer.{n}"
ROWS = (
    *((ours, f"dinov2.{theirs}") for ours, theirs in EMBEDDING_ROWS),
    ("layers.{n}.norm1.{p}", f"{_LAYER}.norm1.{{p}}"),
    ("layers.{n}.attention.q_proj.{p}", f"{_LAYER}.attention.attention.query.{{p}}"),
    ("layers.{n}.attention.k_proj.{p}", f"{_LAYER}.attention.attention.key.{{p}}"),
    ("layers.{n}.attention.v_proj.{p}", f"{_LAYER}.attention.attention.value.{{p}}"),
    ("layers.{n}.attention.o_proj.{p}", f"{_LAYER}.attention.output.dense.{{p}}"),
    ("layers.{n}.scale1", f"{_LAYER}.layer_scale1.lambda1"),
    ("layers.{n}.norm2.{p}", f"{_LAYER}.norm2.{{p}}"),
    ("layers.{n}.mlp.fc1.{p}", f"{_LAYER}.mlp.fc1.{{p}}"),
    ("layers.{n}.mlp.fc2.{p}", f"{_LAYER}.mlp.fc2.{{p}}"),
    ("layers.{n}.scale2", f"{_LAYER}.layer_scale2.lambda1"),
    ("norm.{p}", "dinov2.layernorm.{p}"),
)
# the mask token stands for hidden patches while it is trained
NAMES = NameMap("dinov2", ROWS, base="dinov2.", ignored=r"^classifier\.|mask_token$")
_BASE = {**BASE, "image_size": 224, "patch_size": 14, "mlp_ratio": 4}


def to_hf(state: Mapping[str, Tensor]) -> State:
    """A vision transformer's parameters under the names of a Dinov2Model within a larger one, ``dinov2.`` before."""
    return NAMES.to_hf(with_batch(state))


def from_hf(state: Mapping[str, Tensor], settings: Tower) -> State:
    """A checkpoint's parameters, of a Dinov2Model or one with a classifier, under the vision transformer's names.

    Raises:
        WeightsError: a name that DINOv2 has not.
    """
    return without_batch(NAMES.from_hf(state))


def config_to_hf(settings: Tower, size: int) -> dict[str, Any]:
    """The config.json of a vision transformer that sees images of ``size`` pixels a side.

    Raises:
        WeightsError: the feed-forward size is no multiple of the width: the layout has a place for the ratio alone.
    """
    ratio, rest = divmod(settings.hidden or 4 * settings.width, settings.width)
    if rest:
        do = "use another layout, or train with a multiple"
        raise WeightsError("model.image.hidden", "a multiple of the width", str(settings.hidden), do)
    return {
        "model_type": "dinov2",
        "architectures": ["Dinov2Model"],
        **shape_to_hf(settings, size),
        "mlp_ratio": ratio,
        "hidden_dropout_prob": settings.dropout,
        "attention_probs_dropout_prob": settings.dropout,
        "layerscale_value": settings.layer_scale,
        "qkv_bias": True,
        "use_mask_token": False,
        "use_swiglu_ffn": False,
    }


def settings_from_hf(config: Mapping[str, Any]) -> tuple[Tower, int]:
    """The vision transformer's settings, and the side of the images that its positions are for.

    Raises:
        WeightsError: the configuration asks for something that the tower does not do.
    """
    demand(config, "dinov2", "model_type", ("dinov2",))
    demand(config, "dinov2", "qkv_bias", (True,), True)
    demand(config, "dinov2", "use_swiglu_ffn", (False,), False)
    full = {**_BASE, **config}
    width = number(full, "dinov2", "hidden_size")
    settings = shape_from_hf(
        full,
        "dinov2",
        activation="gelu",
        eps=1e-6,
        hidden=number(full, "dinov2", "mlp_ratio") * width,
        class_token=True,
        pool="cls",
        layer_scale=decimal(full, "dinov2", "layerscale_value", 1.0)
        or 1.0,  # where it starts: the file holds what it is
        dropout=decimal(full, "dinov2", "hidden_dropout_prob", 0.0),
    )
    return settings, side(full, "dinov2", "image_size")


def fits(settings: Tower) -> bool:
    """Whether an image tower can be written so."""
    own = settings.class_token and settings.patch_bias and not settings.pre_norm and bool(settings.layer_scale)
    return settings.kind == "vit" and own and settings.pool == "cls" and settings.last_norm == "tokens"
