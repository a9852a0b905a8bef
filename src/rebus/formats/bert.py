"""BERT checkpoints and the encoder: parameter names and configuration, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rebus.formats.config import ACTIVATIONS, activation_to_hf, decimal, demand, number, shared_entries, tower_of
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
NAMES = NameMap("bert", ROWS, ignored=r"^cls\.|^classifier\.|^qa_outputs\.|^dropout\.|position_ids$")
# the masked language model's head; its output weights are the word embeddings
HEAD_ROWS = (
    ("transform.{p}", "cls.predictions.transform.dense.{p}"),
    ("norm.{p}", "cls.predictions.transform.LayerNorm.{p}"),
    ("bias", "cls.predictions.bias"),
)
HEAD_NAMES = NameMap("bert", HEAD_ROWS, ignored=r"^cls\.predictions\.decoder\.|^cls\.seq_relationship\.")
# architectures with one linear layer on the pooled vector or on each token, and what they call it
CLASSIFIERS = {
    "BertForSequenceClassification": "classifier",
    "BertForTokenClassification": "classifier",
    "BertForQuestionAnswering": "qa_outputs",
}


def to_hf(state: Mapping[str, Tensor]) -> State:
    """An encoder's parameters under the names of a BertModel."""
    return NAMES.to_hf(state)


def from_hf(state: Mapping[str, Tensor], settings: Tower) -> State:
    """A checkpoint's parameters under the encoder's names.

    Args:
        state: of a BertModel, or of a BERT with a head, which is left out.
        settings: the encoder's; the pooler is kept where ``pool`` is ``cls``.

    Raises:
        WeightsError: a name that BERT has not.
    """
    plain = {_modern(name.removeprefix("bert.")): tensor for name, tensor in state.items()}
    named = NAMES.from_hf(plain)
    return {name: tensor for name, tensor in named.items() if settings.pool == "cls" or not name.startswith("pooler.")}


def masked_to_hf(state: Mapping[str, Tensor], head: Mapping[str, Tensor]) -> State:
    """An encoder's and a masked language model's head's parameters under the names of a BertForMaskedLM."""
    encoder = {f"bert.{name}": tensor for name, tensor in to_hf(state).items()}
    return encoder | HEAD_NAMES.to_hf(head)


def classifier_to_hf(state: Mapping[str, Tensor], head: Mapping[str, Tensor], architecture: str) -> State:
    """An encoder's and a linear head's parameters (``weight``, ``bias``) under the names of an architecture."""
    encoder = {f"bert.{name}": tensor for name, tensor in to_hf(state).items()}
    return encoder | {f"{CLASSIFIERS[architecture]}.{name}": tensor for name, tensor in head.items()}


def classifier_from_hf(state: Mapping[str, Tensor], architecture: str) -> State:
    """The linear head of a checkpoint as ``weight`` and ``bias``; {} where the architecture has none."""
    prefix = f"{CLASSIFIERS[architecture]}." if architecture in CLASSIFIERS else "-"
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def head_from_hf(state: Mapping[str, Tensor]) -> State:
    """The masked language model's head of a checkpoint, under our names; {} where it has none."""
    found = {_modern(name): tensor for name, tensor in state.items() if name.startswith("cls.predictions.")}
    return HEAD_NAMES.from_hf(found)


def config_to_hf(settings: Tower, vocab_size: int, **context: Any) -> dict[str, Any]:
    """The config.json of an encoder.

    Args:
        settings: the encoder's.
        vocab_size: rows of its embeddings.
        context: max_length (where the settings have no context), dtype, and pad_token_id of the tokenizer.
    """
    return {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "hidden_size": settings.width,
        "intermediate_size": settings.hidden or 4 * settings.width,
        "num_hidden_layers": settings.depth,
        "num_attention_heads": settings.heads,
        "vocab_size": vocab_size,
        "max_position_embeddings": settings.context or context.get("max_length", 512),
        "type_vocab_size": settings.segments,
        "layer_norm_eps": settings.eps or 1e-12,
        "hidden_act": activation_to_hf(settings.activation or "gelu"),
        "hidden_dropout_prob": settings.dropout,
        "attention_probs_dropout_prob": settings.dropout,
        "position_embedding_type": "absolute",
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        **shared_entries(context),
    }


def settings_from_hf(config: Mapping[str, Any]) -> tuple[Tower, int]:
    """The encoder's settings, and the rows of its embeddings.

    Raises:
        WeightsError: the configuration asks for something that the encoder does not do.
    """
    demand(config, "bert", "model_type", ("bert",))
    demand(config, "bert", "position_embedding_type", ("absolute", None), "absolute")
    demand(config, "bert", "is_decoder", (False, None), False)
    activation = demand(config, "bert", "hidden_act", tuple(ACTIVATIONS), "gelu")
    settings = tower_of(
        "bert",
        kind="encoder",
        width=number(config, "bert", "hidden_size"),
        depth=number(config, "bert", "num_hidden_layers"),
        heads=number(config, "bert", "num_attention_heads"),
        hidden=number(config, "bert", "intermediate_size"),
        eps=decimal(config, "bert", "layer_norm_eps", 1e-12),
        activation=ACTIVATIONS[activation],
        context=number(config, "bert", "max_position_embeddings", 512),
        segments=number(config, "bert", "type_vocab_size", 2),
        dropout=decimal(config, "bert", "hidden_dropout_prob", 0.1),
    )
    return settings, number(config, "bert", "vocab_size")


def _modern(name: str) -> str:
    """Checkpoints converted from TensorFlow call the norms' parameters gamma and beta."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
