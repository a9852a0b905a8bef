"""ViT checkpoints (Google's, in the ViTModel layout) and the vision transformer: names and configuration, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rebus.formats.config import decimal, demand, number, side
from rebus.formats.names import NameMap, State
from rebus.formats.siglip import BASE
from rebus.formats.vision import shape_from_hf, shape_to_hf
from rebus.recipe import Tower

_LAYER = "vit.encoder.layer.{n}"
EMBEDDING_ROWS = (
    ("class_token", "embeddings.cls_token"),
    ("position", "embeddings.position_embeddings"),
    ("patches.{p}", "embeddings.patch_embeddings.projection.{p}"),
)
ROWS = (
    *((ours, f"vit.{theirs}") for ours, theirs in EMBEDDING_ROWS),
    ("layers.{n}.norm1.{p}", f"{_LAYER}.layernorm_before.{{p}}"),
    ("layers.{n}.attention.q_proj.{p}", f"{_LAYER}.attention.attention.query.{{p}}"),
    ("layers.{n}.attention.k_proj.{p}", f"{_LAYER}.attention.attention.key.{{p}}"),
    ("layers.{n}.attention.v_proj.{p}", f"{_LAYER}.attention.attention.value.{{p}}"),
    ("layers.{n}.attention.o_proj.{p}", f"{_LAYER}.attention.output.dense.{{p}}"),
    ("layers.{n}.norm2.{p}", f"{_LAYER}.layernorm_after.{{p}}"),
    ("layers.{n}.mlp.fc1.{p}", f"{_LAYER}.intermediate.dense.{{p}}"),
    ("layers.{n}.mlp.fc2.{p}", f"{_LAYER}.output.dense.{{p}}"),
    ("norm.{p}", "vit.layernorm.{p}"),
    ("pooler.{p}", "vit.pooler.dense.{p}"),
)
NAMES = NameMap("vit", ROWS, base="vit.", ignored=r"^classifier\.|mask_token$|^decoder\.")
_BASE = {**BASE, "image_size": 224, "patch_size": 16}


def to_hf(state: Mapping[str, Tensor]) -> State:
    """A vision transformer's parameters under the names of a ViTModel within a larger one, ``vit.`` before each."""
    return NAMES.to_hf(with_batch(state))


def from_hf(state: Mapping[str, Tensor], settings: Tower) -> State:
    """A checkpoint's parameters under the vision transformer's names.

    Args:
        state: of a ViTModel, or of a ViTForImageClassification, whose classifier is left out.
        settings: the tower's; the pooler is kept where ``pool`` is ``pooler``.

    Raises:
        WeightsError: a name that ViT has not.
    """
    named = without_batch(NAMES.from_hf(state))
    return {name: tensor for name, tensor in named.items() if settings.pool == "pooler" or "pooler." not in name}


def config_to_hf(settings: Tower, size: int) -> dict[str, Any]:
    """The config.json of a vision transformer that sees images of ``size`` pixels a side."""
    return {
        "model_type": "vit",
        "architectures": ["ViTModel"],
        **shape_to_hf(settings, size),
        "intermediate_size": settings.hidden or 4 * settings.width,
        "hidden_dropout_prob": settings.dropout,
        "attention_probs_dropout_prob": settings.dropout,
        "qkv_bias": True,
        "pooler_act": "tanh",
        "pooler_output_size": settings.width,
    }


def settings_from_hf(config: Mapping[str, Any]) -> tuple[Tower, int]:
    """The vision transformer's settings, and the side of the images it sees.

    Its pooler is taken for what it is in a ViTModel; a model with another head, as its ``architectures`` tell, was
    trained without it and is pooled by its class token alone.

    Raises:
        WeightsError: the configuration asks for something that the tower does not do.
    """
    demand(config, "vit", "model_type", ("vit",))
    demand(config, "vit", "qkv_bias", (True,), True)
    demand(config, "vit", "pooler_act", ("tanh",), "tanh")
    full = {**_BASE, **config}
    width = number(full, "vit", "hidden_size")
    demand(config, "vit", "pooler_output_size", (width, None))
    named = config.get("architectures") or ["ViTModel"]
    whole = isinstance(named, list) and "ViTModel" in named
    settings = shape_from_hf(
        full,
        "vit",
        activation="gelu",
        eps=1e-12,
        hidden=number(full, "vit", "intermediate_size"),
        class_token=True,
        pool="pooler" if whole else "cls",
        dropout=decimal(full, "vit", "hidden_dropout_prob", 0.0),
    )
    return settings, side(full, "vit", "image_size")


def fits(settings: Tower) -> bool:
    """Whether an image tower can be written so."""
    own = settings.class_token and settings.patch_bias and not settings.pre_norm and not settings.layer_scale
    return settings.kind == "vit" and own and settings.pool in ("cls", "pooler") and settings.last_norm == "tokens"


def with_batch(state: Mapping[str, Tensor]) -> State:
    """(D,) and (L, D) embeddings as (1, 1, D) and (1, L, D)."""
    shapes = {"class_token": (1, 1, -1), "position": (1, *state["position"].shape)} if "position" in state else {}
    return {name: tensor.view(shapes[name]) if name in shapes else tensor for name, tensor in state.items()}


def without_batch(state: Mapping[str, Tensor]) -> State:
    """The other way round; a tensor of another shape stays as it is, to be told by whoever loads it."""
    flat = dict(state)
    if "class_token" in flat and flat["class_token"].shape[:2] == (1, 1):
        flat["class_token"] = flat["class_token"][0, 0]
    if "position" in flat and flat["position"].dim() == 3 and flat["position"].shape[0] == 1:
        flat["position"] = flat["position"][0]
    return flat
