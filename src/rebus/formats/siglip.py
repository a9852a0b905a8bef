"""SigLIP's vision tower: parameter names and configuration, both ways. The whole of SigLIP is in ``dual``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rebus.formats.config import decimal, demand, number, section, side
from rebus.formats.names import NameMap, State
from rebus.formats.vision import shape_from_hf, shape_to_hf
from rebus.recipe import Tower

_LAYER = "vision_model.encoder.layers.{n}"
_HEAD = "vision_model.head"
# of CLIP too
LAYER_ROWS = (
    ("patches.{p}", "vision_model.embeddings.patch_embedding.{p}"),
    ("position", "vision_model.embeddings.position_embedding.weight"),
    ("layers.{n}.norm1.{p}", f"{_LAYER}.layer_norm1.{{p}}"),
    ("layers.{n}.attention.q_proj.{p}", f"{_LAYER}.self_attn.q_proj.{{p}}"),
    ("layers.{n}.attention.k_proj.{p}", f"{_LAYER}.self_attn.k_proj.{{p}}"),
    ("layers.{n}.attention.v_proj.{p}", f"{_LAYER}.self_attn.v_proj.{{p}}"),
    ("layers.{n}.attention.o_proj.{p}", f"{_LAYER}.self_attn.out_proj.{{p}}"),
    ("layers.{n}.norm2.{p}", f"{_LAYER}.layer_norm2.{{p}}"),
    ("layers.{n}.mlp.fc1.{p}", f"{_LAYER}.mlp.fc1.{{p}}"),
    ("layers.{n}.mlp.fc2.{p}", f"{_LAYER}.mlp.fc2.{{p}}"),
    ("norm.{p}", "vision_model.post_layernorm.{p}"),
)
ROWS = (
    *LAYER_ROWS,
    ("head.probe", f"{_HEAD}.probe"),
    # one tensor there, three here: packed and unpacked below
    ("head.attention.in_proj.{p}", f"{_HEAD}.attention.in_proj_{{p}}"),
    ("head.attention.o_proj.{p}", f"{_HEAD}.attention.out_proj.{{p}}"),
    ("head.norm.{p}", f"{_HEAD}.layernorm.{{p}}"),
    ("head.mlp.fc1.{p}", f"{_HEAD}.mlp.fc1.{{p}}"),
    ("head.mlp.fc2.{p}", f"{_HEAD}.mlp.fc2.{{p}}"),
)
NAMES = NameMap(
    "siglip", ROWS, base="vision_model.", ignored=r"^text_model\.|^logit_(scale|bias)$|^classifier\.|position_ids$"
)
# a file leaves out what is as the family's base model has it
BASE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_BASE = {**BASE, "image_size": 224, "patch_size": 16}
_PACKED, _PARTS = "head.attention.in_proj", ("q_proj", "k_proj", "v_proj")


def to_hf(state: Mapping[str, Tensor]) -> State:
    """A vision transformer's parameters under the names of a SiglipVisionModel, as files on the hub have them."""
    packed = dict(state)
    for kind in ("weight", "bias"):
        if f"head.attention.q_proj.{kind}" in packed:
            parts = [packed.pop(f"head.attention.{part}.{kind}") for part in _PARTS]
            packed[f"{_PACKED}.{kind}"] = torch.cat(parts)
    return NAMES.to_hf(packed)


def from_hf(state: Mapping[str, Tensor], settings: Tower) -> State:
    """A checkpoint's parameters under the vision transformer's names.

    Args:
        state: of a SiglipVisionModel, or of a whole SiglipModel, whose text tower is left out.
        settings: the tower's; the pooling head is kept where ``pool`` is ``probe``.

    Raises:
        WeightsError: a name that SigLIP has not.
    """
    named = NAMES.from_hf(state)
    for kind in ("weight", "bias"):
        packed = named.get(f"{_PACKED}.{kind}")
        if packed is not None and len(packed) % 3 == 0:
            del named[f"{_PACKED}.{kind}"]
            for part, tensor in zip(_PARTS, packed.chunk(3), strict=True):
                named[f"head.attention.{part}.{kind}"] = tensor.clone()
    return {name: tensor for name, tensor in named.items() if settings.pool == "probe" or not name.startswith("head.")}


def config_to_hf(settings: Tower, size: int) -> dict[str, Any]:
    """The config.json of a vision transformer that sees images of ``size`` pixels a side."""
    return {
        "model_type": "siglip_vision_model",
        "architectures": ["SiglipVisionModel"],
        **shape_to_hf(settings, size),
        "intermediate_size": settings.hidden or 4 * settings.width,
        "attention_dropout": settings.dropout,
        "vision_use_head": settings.pool == "probe",
    }


def settings_from_hf(config: Mapping[str, Any]) -> tuple[Tower, int]:
    """The vision transformer's settings, and the side of the images it sees.

    Args:
        config: of a SiglipVisionModel, or of a whole SiglipModel.

    Raises:
        WeightsError: the configuration asks for something that the tower does not do.
    """
    demand(config, "siglip", "model_type", ("siglip", "siglip_vision_model"))
    vision = {**_BASE, **(section(config, "vision") if config["model_type"] == "siglip" else config)}
    settings = shape_from_hf(
        vision,
        "siglip",
        activation="gelu_pytorch_tanh",
        eps=1e-6,
        hidden=number(vision, "siglip", "intermediate_size"),
        pool="probe" if demand(vision, "siglip", "vision_use_head", (True, False), True) else "mean",
        dropout=decimal(vision, "siglip", "attention_dropout", 0.0),
    )
    return settings, side(vision, "siglip", "image_size")


def fits(settings: Tower) -> bool:
    """Whether an image tower can be written so."""
    plain = settings.patch_bias and not settings.class_token and not settings.pre_norm and not settings.layer_scale
    return settings.kind == "vit" and plain and settings.last_norm == "tokens" and settings.pool in ("mean", "probe")
