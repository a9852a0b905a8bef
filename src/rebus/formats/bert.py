"""BERT checkpoints and the encoder: parameter names and configuration, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rebus.formats.config import demand, number
from rebus.formats.names import NameMap, State
from rebus.recipe import Tower

_LAYER = "encoder.layer.{n}"
ROWS = (
    ("words.weight", "embeddings.word_embeddings.weight"),
    ("positions.weight", "embeddings.position_embeddings.weight"),
    ("segments.weight", "embeddings.token_type_embeddings.weight"),
    ("norm.{p}", "embeddings.LayerNorm.{p}"),
    ("layers.{n}.attention.q_proj.{p}", f"{_LAYER}.attention.self.query.{{p}}"),
    ("layers.{n}.attention.k_proj.{p}", f"{_LAYER}.attention.self.key.{{p}}"),
    ("layers.{n}.attention.v_proj.{p}", f"{_LAYER}.attention.self.value.{{p}}"),
    ("layers.{n}.attention.o_proj.{p}", f"{_LAYER}.attention.output.dense.{{p}}"),
    ("layers.{n}.norm1.{p}", f"{_LAYER}.attention.output.LayerNorm.{{p}}"),
    ("layers.{n}.mlp.fc1.{p}", f"{_LAYER}.intermediate.dense.{{p}}"),
    ("layers.{n}.mlp.fc2.{p}", f"{_LAYER}.output.dense.{{p}}"),
    ("layers.{n}.norm2.{p}", f"{_LAYER}.output.LayerNorm.{{p}}"),
    ("pooler.{p}", "pooler.dense.{p}"),
)
NAMES = NameMap("bert", ROWS, ignored=r"^cls\.|^classifier\.|^qa_outputs\.|position_ids$")
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
}


def to_hf(state: Mapping[str, Tensor]) -> State:
    """An encoder's parameters under the names of a BertModel."""
    return NAMES.to_hf(state)


def from_hf(state: Mapping[str, Tensor], pooler: bool = True) -> State:
    """A checkpoint's parameters under the encoder's names.

    Args:
        state: of a BertModel, or of a BERT with a head, which is left out.
        pooler: keep the pooler, for an encoder with ``pool="cls"``.

    Raises:
        WeightsError: a name that BERT has not.
    """
    plain = {_modern(name.removeprefix("bert.")): tensor for name, tensor in state.items()}
    named = NAMES.from_hf(plain)
    return {name: tensor for name, tensor in named.items() if pooler or not name.startswith("pooler.")}


def config_to_hf(settings: Tower, **context: Any) -> dict[str, Any]:
    """The config.json of an encoder.

    Args:
        settings: the encoder's.
        context: what else there is: vocab_size, max_length, type_vocab_size, activation, eps, pad_token_id.
    """
    backwards = {ours: theirs for theirs, ours in reversed(_ACTIVATIONS.items())}
    return {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "hidden_size": settings.width,
        "intermediate_size": settings.hidden or 4 * settings.width,
        "num_hidden_layers": settings.depth,
        "num_attention_heads": settings.heads,
        "vocab_size": context["vocab_size"],
        "max_position_embeddings": context.get("max_length", 512),
        "type_vocab_size": context.get("type_vocab_size", 2),
        "layer_norm_eps": context.get("eps", 1e-12),
        "hidden_act": backwards[context.get("activation", "gelu")],
        "hidden_dropout_prob": settings.dropout,
        "attention_probs_dropout_prob": settings.dropout,
        "pad_token_id": context.get("pad_token_id", 0),
    }


def settings_from_hf(config: Mapping[str, Any]) -> tuple[Tower, dict[str, Any]]:
    """The encoder's settings, and the keyword arguments that it is built with beside them.

    Raises:
        WeightsError: the configuration asks for something that the encoder does not do.
    """
    demand(config, "bert", "model_type", ("bert",))
    demand(config, "bert", "position_embedding_type", ("absolute", None), "absolute")
    activation = demand(config, "bert", "hidden_act", tuple(_ACTIVATIONS), "gelu")
    settings = Tower(
        kind="encoder",
        width=number(config, "bert", "hidden_size"),
        depth=number(config, "bert", "num_hidden_layers"),
        heads=number(config, "bert", "num_attention_heads"),
        hidden=number(config, "bert", "intermediate_size"),
        dropout=config.get("hidden_dropout_prob", 0.1),
    )
    context = {
        "vocab_size": number(config, "bert", "vocab_size"),
        "max_length": config.get("max_position_embeddings", 512),
        "type_vocab_size": config.get("type_vocab_size", 2),
        "eps": config.get("layer_norm_eps", 1e-12),
        "activation": _ACTIVATIONS[activation],
    }
    return settings, context


def _modern(name: str) -> str:
    """Checkpoints converted from TensorFlow call the norms' parameters gamma and beta."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
