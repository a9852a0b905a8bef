"""SigLIP checkpoints and the vision transformer: parameter names and configuration, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rebus.formats.config import demand, number
from rebus.formats.names import NameMap, State
from rebus.recipe import Tower

_LAYER = "vision_model.encoder.layers.{n}"
_HEAD = "vision_model.head"
ROWS = (
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
    ("head.probe", f"{_HEAD}.probe"),
    # one tensor there, three here: packed and unpacked below
    ("head.attention.in_proj.{p}", f"{_HEAD}.attention.in_proj_{{p}}"),
    ("head.attention.o_proj.{p}", f"{_HEAD}.attention.out_proj.{{p}}"),
    ("head.norm.{p}", f"{_HEAD}.layernorm.{{p}}"),
    ("head.mlp.fc1.{p}", f"{_HEAD}.mlp.fc1.{{p}}"),
    ("head.mlp.fc2.{p}", f"{_HEAD}.mlp.fc2.{{p}}"),
)
NAMES = NameMap("siglip", ROWS, base="vision_model.", ignored=r"^text_model\.|^logit_|position_ids$")
_ACTIVATIONS = {"gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "quick_gelu": "quick_gelu"}
_PACKED, _PARTS = "head.attention.in_proj", ("q_proj", "k_proj", "v_proj")


def to_hf(state: Mapping[str, Tensor]) -> State:
    """A vision transformer's parameters under the names of a SiglipVisionModel, as files on the hub have them."""
    packed = dict(state)
    for kind in ("weight", "bias"):
        if f"head.attention.q_proj.{kind}" in packed:
            parts = [packed.pop(f"head.attention.{part}.{kind}") for part in _PARTS]
            packed[f"{_PACKED}.{kind}"] = torch.cat(parts)
    return NAMES.to_hf(packed)


def from_hf(state: Mapping[str, Tensor], head: bool = True) -> State:
    """A checkpoint's parameters under the vision transformer's names.

    Args:
        state: of a SiglipVisionModel, or of a whole SiglipModel, whose text tower is left out.
        head: keep the pooling head.

    Raises:
        WeightsError: a name that SigLIP has not.
    """
    named = NAMES.from_hf(state)
    for kind in ("weight", "bias"):
        packed = named.pop(f"{_PACKED}.{kind}", None)
        if packed is not None:
            for part, tensor in zip(_PARTS, packed.chunk(3), strict=True):
                named[f"head.attention.{part}.{kind}"] = tensor.clone()
    return {name: tensor for name, tensor in named.items() if head or not name.startswith("head.")}


def config_to_hf(settings: Tower, **context: Any) -> dict[str, Any]:
    """The config.json of a vision transformer built with ``context`` (size, head, activation, eps)."""
    backwards = {ours: theirs for theirs, ours in _ACTIVATIONS.items()}
    return {
        "model_type": "siglip_vision_model",
        "architectures": ["SiglipVisionModel"],
        "hidden_size": settings.width,
        "intermediate_size": settings.hidden or 4 * settings.width,
        "num_hidden_layers": settings.depth,
        "num_attention_heads": settings.heads,
        "num_channels": 3,
        "image_size": context["size"],
        "patch_size": settings.patch,
        "layer_norm_eps": context.get("eps", 1e-6),
        "hidden_act": backwards[context.get("activation", "gelu_tanh")],
        "attention_dropout": settings.dropout,
        "vision_use_head": bool(context.get("head", False)),
    }


def settings_from_hf(config: Mapping[str, Any]) -> tuple[Tower, dict[str, Any]]:
    """The vision transformer's settings, and the keyword arguments that it is built with beside them.

    Args:
        config: of a SiglipVisionModel, or of a whole SiglipModel.

    Raises:
        WeightsError: the configuration asks for something that the tower does not do.
    """
    demand(config, "siglip", "model_type", ("siglip", "siglip_vision_model"))
    vision = config.get("vision_config", config)
    demand(vision, "siglip", "num_channels", (3,), 3)
    # a whole SiglipModel's file leaves out what is as the family's base model has it
    full = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    full = {**full, "image_size": 224, "patch_size": 16, **vision}
    activation = demand(full, "siglip", "hidden_act", tuple(_ACTIVATIONS), "gelu_pytorch_tanh")
    settings = Tower(
        kind="vit",
        width=number(full, "siglip", "hidden_size"),
        depth=number(full, "siglip", "num_hidden_layers"),
        heads=number(full, "siglip", "num_attention_heads"),
        hidden=number(full, "siglip", "intermediate_size"),
        patch=number(full, "siglip", "patch_size"),
        dropout=vision.get("attention_dropout", 0.0),
    )
    context = {
        "size": number(full, "siglip", "image_size"),
        "head": bool(vision.get("vision_use_head", True)),
        "activation": _ACTIVATIONS[activation],
        "eps": vision.get("layer_norm_eps", 1e-6),
    }
    return settings, context
