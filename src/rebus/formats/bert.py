"""BERT checkpoints and the encoder, with the head that guesses masked words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rebus.formats.config import Fields, activation_to_hf, shared_entries, tower_of
from rebus.formats.family import FAMILIES, CheckpointFamily, CheckpointSpec
from rebus.formats.names import NameMap, State, prefixed

_BASE = "bert."
_LAYER = "bert.encoder.layer.{n}"
_ROWS = (
    *prefixed(
        "text.",
        (
            ("words.weight", "bert.embeddings.word_embeddings.weight"),
            ("positions.weight", "bert.embeddings.position_embeddings.weight"),
            ("segments.weight", "bert.embeddings.token_type_embeddings.weight"),
            ("norm.{p}", "bert.embeddings.LayerNorm.{p}"),
            ("layers.{n}.attention.q_proj.{p}", f"{_LAYER}.attention.self.query.{{p}}"),
            ("layers.{n}.attention.k_proj.{p}", f"{_LAYER}.attention.self.key.{{p}}"),
            ("layers.{n}.attention.v_proj.{p}", f"{_LAYER}.attention.self.value.{{p}}"),
            ("layers.{n}.attention.o_proj.{p}", f"{_LAYER}.attention.output.dense.{{p}}"),
            ("layers.{n}.norm1.{p}", f"{_LAYER}.attention.output.LayerNorm.{{p}}"),
            ("layers.{n}.mlp.fc1.{p}", f"{_LAYER}.intermediate.dense.{{p}}"),
            ("layers.{n}.mlp.fc2.{p}", f"{_LAYER}.output.dense.{{p}}"),
            ("layers.{n}.norm2.{p}", f"{_LAYER}.output.LayerNorm.{{p}}"),
            ("pooler.{p}", "bert.pooler.dense.{p}"),
        ),
    ),
    # the masked language model's head; its output weights are the word embeddings
    ("heads.mlm.transform.{p}", "cls.predictions.transform.dense.{p}"),
    ("heads.mlm.norm.{p}", "cls.predictions.transform.LayerNorm.{p}"),
    ("heads.mlm.bias", "cls.predictions.bias"),
)
_IGNORED = r"^cls\.(predictions\.decoder\.|seq_relationship\.)|^(classifier|qa_outputs|dropout)\.|position_ids$"


@FAMILIES.register("bert")
class Bert(CheckpointFamily):
    """BERT in the layout of a BertModel, alone or with a head."""

    name, base, masked = "bert", "BertModel", "BertForMaskedLM"
    owns = ("text.", "heads.mlm.")
    names = NameMap("bert", _ROWS, base=_BASE, ignored=_IGNORED)
    heads = {
        "BertForSequenceClassification": "classifier",
        "BertForTokenClassification": "classifier",
        "BertForQuestionAnswering": "qa_outputs",
    }

    def settings(self, config: Mapping[str, Any], where: str = "config.json") -> CheckpointSpec:
        """What a config.json says. Raises WeightsError."""
        fields = Fields(config, self.name)
        fields.demand("model_type", (self.name,))
        fields.demand("position_embedding_type", ("absolute", None), "absolute")
        fields.demand("is_decoder", (False, None), False)
        text = tower_of(
            self.name,
            kind="encoder",
            width=fields.number("hidden_size"),
            depth=fields.number("num_hidden_layers"),
            heads=fields.number("num_attention_heads"),
            hidden=fields.number("intermediate_size"),
            eps=fields.decimal("layer_norm_eps", 1e-12),
            activation=fields.activation("hidden_act", "gelu"),
            context=fields.number("max_position_embeddings", 512),
            segments=fields.number("type_vocab_size", 2),
            dropout=fields.decimal("hidden_dropout_prob", 0.1),
            rows=fields.number("vocab_size"),
        )
        return CheckpointSpec(text)

    def config(self, spec: CheckpointSpec, **context: Any) -> dict[str, Any]:
        """The config.json of an encoder."""
        text = spec.text
        assert text is not None  # noqa: S101 - it fits
        return {
            "model_type": self.name,
            "architectures": [spec.architecture or self.base],
            "hidden_size": text.width,
            "intermediate_size": text.hidden or 4 * text.width,
            "num_hidden_layers": text.depth,
            "num_attention_heads": text.heads,
            "vocab_size": spec.rows,
            "max_position_embeddings": text.context or context.get("max_length", 512),
            "type_vocab_size": text.segments,
            "layer_norm_eps": text.eps or 1e-12,
            "hidden_act": activation_to_hf(text.activation or "gelu"),
            "hidden_dropout_prob": text.dropout,
            "attention_probs_dropout_prob": text.dropout,
            "position_embedding_type": "absolute",
            "tie_word_embeddings": True,
            "pad_token_id": 0,
            **shared_entries(context),
        }

    def fits(self, spec: CheckpointSpec) -> bool:
        """Whether a model is such an encoder."""
        text = spec.text
        if text is None or text.kind != "encoder" or spec.image is not None or text.pool == "last":
            return False
        return not text.norm_first and not text.causal and text.filler is None and bool(text.segments)

    def from_hf(self, state: Mapping[str, Tensor], spec: CheckpointSpec) -> State:
        """Tensors under the names of a model; the pooler is kept where ``pool`` is ``cls``."""
        # checkpoints converted from TensorFlow call the norms' parameters gamma and beta
        renamed = {
            name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"): tensor
            for name, tensor in state.items()
        }
        pooled = spec.text is not None and spec.text.pool == "cls"
        named = self.names.from_hf(renamed).items()
        return {name: tensor for name, tensor in named if pooled or not name.startswith("text.pooler.")}

    def to_hf(self, state: Mapping[str, Tensor], spec: CheckpointSpec) -> State:
        """The other way round: with ``bert.`` before the encoder's names where there is a head beside it."""
        named = self.names.to_hf(state)
        headed = spec.architecture not in (None, self.base)
        return named if headed else {name.removeprefix(_BASE): tensor for name, tensor in named.items()}
