"""CLIP's vision tower: parameter names and configuration, both ways. The whole of CLIP is in ``dual``.

Its first norm is misspelt in the files: ``pre_layrnorm``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rebus.formats.config import decimal, demand, number, section, side
from rebus.formats.names import NameMap, State
from rebus.formats.siglip import BASE, LAYER_ROWS
from rebus.formats.vision import shape_from_hf, shape_to_hf
from rebus.recipe import Tower

ROWS = (
    *LAYER_ROWS,
    ("class_token", "vision_model.embeddings.class_embedding"),
    ("pre_norm.{p}", "vision_model.pre_layrnorm.{p}"),
)
NAMES = NameMap(
    "clip",
    ROWS,
    base="vision_model.",
    ignored=r"^text_model\.|^logit_scale$|^(text|visual)_projection\.|^classifier\.|position_ids$",
)
_BASE = {**BASE, "image_size": 224, "patch_size": 32}


def to_hf(state: Mapping[str, Tensor]) -> State:
    """A vision transformer's parameters under the names of a CLIPVisionModel, as files on the hub have them."""
    return NAMES.to_hf(state)


def from_hf(state: Mapping[str, Tensor], settings: Tower) -> State:
    """A checkpoint's parameters under the vision transformer's names.

    Args:
        state: of a CLIPVisionModel, or of a whole CLIPModel, whose text tower and projections are left out.
        settings: the tower's.

    Raises:
        WeightsError: a name that CLIP has not.
    """
    return NAMES.from_hf(state)


def config_to_hf(settings: Tower, size: int) -> dict[str, Any]:
    """The config.json of a vision transformer that sees images of ``size`` pixels a side."""
    return {
        "model_type": "clip_vision_model",
        "architectures": ["CLIPVisionModel"],
        **shape_to_hf(settings, size),
        "intermediate_size": settings.hidden or 4 * settings.width,
        "attention_dropout": settings.dropout,
    }


def settings_from_hf(config: Mapping[str, Any]) -> tuple[Tower, int]:
    """The vision transformer's settings, and the side of the images it sees.

    Args:
        config: of a CLIPVisionModel, or of a whole CLIPModel.

    Raises:
        WeightsError: the configuration asks for something that the tower does not do.
    """
    demand(config, "clip", "model_type", ("clip", "clip_vision_model"))
    vision = {**_BASE, **(section(config, "vision") if config["model_type"] == "clip" else config)}
    settings = shape_from_hf(
        vision,
        "clip",
        activation="quick_gelu",
        eps=1e-5,
        hidden=number(vision, "clip", "intermediate_size"),
        class_token=True,
        patch_bias=False,
        pre_norm=True,
        pool="cls",
        last_norm="pooled",
        dropout=decimal(vision, "clip", "attention_dropout", 0.0),
    )
    return settings, side(vision, "clip", "image_size")


def fits(settings: Tower) -> bool:
    """Whether an image tower can be written so."""
    own = settings.class_token and settings.pre_norm and not settings.patch_bias and not settings.layer_scale
    return settings.kind == "vit" and own and settings.pool == "cls" and settings.last_norm == "pooled"
