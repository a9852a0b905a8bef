"""Llama and Mistral checkpoints and the decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from rebus.errors import RecipeError, WeightsError
from rebus.formats.config import OTHER_VARIANT, Fields, shared_entries, tower_of
from rebus.formats.family import FAMILIES, CheckpointFamily, CheckpointSpec
from rebus.formats.names import NameMap, State, prefixed
from rebus.nn.feedforward import swiglu_hidden
from rebus.nn.rotary import rope_scaling
from rebus.recipe import Tower

_LAYER = "model.layers.{n}"
ROWS = prefixed(
    "decoder.",
    (
        ("embed_tokens.weight", "model.embed_tokens.weight"),
        ("layers.{n}.input_layernorm.weight", f"{_LAYER}.input_layernorm.weight"),
        ("layers.{n}.self_attn.q_proj.{p}", f"{_LAYER}.self_attn.q_proj.{{p}}"),
        ("layers.{n}.self_attn.k_proj.{p}", f"{_LAYER}.self_attn.k_proj.{{p}}"),
        ("layers.{n}.self_attn.v_proj.{p}", f"{_LAYER}.self_attn.v_proj.{{p}}"),
        ("layers.{n}.self_attn.o_proj.{p}", f"{_LAYER}.self_attn.o_proj.{{p}}"),
        ("layers.{n}.post_attention_layernorm.weight", f"{_LAYER}.post_attention_layernorm.weight"),
        ("layers.{n}.mlp.gate_proj.{p}", f"{_LAYER}.mlp.gate_proj.{{p}}"),
        ("layers.{n}.mlp.up_proj.{p}", f"{_LAYER}.mlp.up_proj.{{p}}"),
        ("layers.{n}.mlp.down_proj.{p}", f"{_LAYER}.mlp.down_proj.{{p}}"),
        ("norm.weight", "model.norm.weight"),
        ("lm_head.weight", "lm_head.weight"),
    ),
)
_CONTEXT = 2048  # tokens, where a configuration does not say
_EPS, _THETA = 1e-6, 10000.0
SIZES = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32}


def name_map(family: str, rows: tuple[tuple[str, str], ...] = ROWS) -> NameMap:
    """The names of a family that has Llama's."""
    return NameMap(family, rows, base="model.", ignored=r"rotary_emb\.inv_freq$")


def without_tied_copy(state: State, spec: CheckpointSpec) -> State:
    """Without the copy of the embeddings that some checkpoints with tied output weights hold."""
    tied = spec.text is not None and spec.text.tied
    return {name: tensor for name, tensor in state.items() if not (tied and name == "decoder.lm_head.weight")}


def is_plain_decoder(spec: CheckpointSpec) -> bool:
    """Whether a model is one decoder and nothing else, with rotary positions and SwiGLU."""
    text = spec.text
    plain = text is not None and text.kind == "decoder" and spec.image is None and text.norm != "layer"
    return plain and text is not None and text.feedforward == "swiglu" and text.positions == "rotary"


class LlamaLike(CheckpointFamily):
    """Families with Llama's layers: they differ in their biases, in norms of queries and keys, in windows.

    Attributes:
        architecture: of the model that writes.
    """

    owns = ("decoder.",)
    architecture: ClassVar[str]

    def own_settings(self, fields: Fields) -> dict[str, Any]:
        """What the tower has beside what all have: bias, qk_norm. Raises WeightsError."""
        raise NotImplementedError

    def own_config(self, text: Tower) -> dict[str, Any]:
        """Entries of config.json beside those that all have."""
        return {}

    def settings(self, config: Mapping[str, Any], where: str = "config.json") -> CheckpointSpec:
        """What a config.json says. Raises WeightsError."""
        fields = Fields(config, self.name)
        fields.demand("model_type", (self.name,))
        own = {"qk_norm": False, "bias": "none", **self.own_settings(fields)}
        fields.demand("hidden_act", ("silu", "swish"), "silu")
        width, heads = fields.number("hidden_size"), fields.number("num_attention_heads")
        rope = Fields(fields.mapping("rope_scaling") | fields.mapping("rope_parameters"), self.name)
        for place in (fields, rope):
            place.demand("partial_rotary_factor", (None, 1, 1.0))
        try:
            scaling = dict(rope_scaling(rope.entries)) or None
        except RecipeError as error:
            where = f"the {self.name} configuration, {error.where}"
            raise WeightsError(where, error.expected, error.found, OTHER_VARIANT) from error
        size = fields.number("head_dim", own.pop("head_dim", None) or max(1, width // heads))
        text = tower_of(
            self.name,
            kind="decoder",
            width=width,
            depth=fields.number("num_hidden_layers"),
            heads=heads,
            kv_heads=fields.number("num_key_value_heads", heads),
            hidden=fields.number("intermediate_size"),
            head_dim=None if size * heads == width else size,
            tied=fields.flag("tie_word_embeddings", False),
            rope_theta=rope.decimal("rope_theta", fields.decimal("rope_theta", _THETA)),
            rope_scaling=scaling,
            eps=fields.decimal("rms_norm_eps", _EPS),
            context=fields.number("max_position_embeddings", _CONTEXT),
            rows=fields.number("vocab_size"),
            **own,
        )
        return CheckpointSpec(text)

    def config(self, spec: CheckpointSpec, **context: Any) -> dict[str, Any]:
        """The config.json of a decoder."""
        text = spec.text
        assert text is not None  # noqa: S101 - it fits
        scaling = dict(rope_scaling(text.rope_scaling))
        if "original_max_position_embeddings" in scaling:
            scaling["original_max_position_embeddings"] = int(scaling["original_max_position_embeddings"])
        return {
            "model_type": self.name,
            "architectures": [spec.architecture or self.architecture],
            "hidden_size": text.width,
            "intermediate_size": text.hidden or swiglu_hidden(text.width),
            "num_hidden_layers": text.depth,
            "num_attention_heads": text.heads,
            "num_key_value_heads": text.kv_heads or text.heads,
            "head_dim": text.head_dim or text.width // text.heads,
            "vocab_size": spec.rows,
            "max_position_embeddings": text.context or context.get("max_length", _CONTEXT),
            "rope_theta": text.rope_theta,  # this and the next: read by libraries from before rope_parameters
            "rope_scaling": scaling or None,
            "rope_parameters": {"rope_type": "default", **scaling, "rope_theta": text.rope_theta},
            "rms_norm_eps": text.eps or _EPS,
            "hidden_act": "silu",
            "attention_dropout": 0.0,
            "tie_word_embeddings": text.tied,
            **shared_entries(context),
            **self.own_config(text),
        }

    def from_hf(self, state: Mapping[str, Tensor], spec: CheckpointSpec) -> State:
        """Tensors under the decoder's names; where output weights are tied, a copy of the embeddings is left out."""
        return without_tied_copy(self.names.from_hf(state), spec)


@FAMILIES.register("llama")
class Llama(LlamaLike):
    """Llama, and what is built like it."""

    name, base, architecture = "llama", "LlamaModel", "LlamaForCausalLM"
    names = name_map("llama")
    inside = {**SIZES, "intermediate_size": 11008, "vocab_size": 32000}

    def own_settings(self, fields: Fields) -> dict[str, Any]:
        """Biases, on attention or on all."""
        attention = fields.demand("attention_bias", (False, True), False)
        mlp = fields.demand("mlp_bias", (attention, False), False)
        return {"bias": "all" if mlp else "attention" if attention else "none"}

    def own_config(self, text: Tower) -> dict[str, Any]:
        """The same in config.json."""
        return {"attention_bias": text.bias in ("attention", "all"), "mlp_bias": text.bias == "all"}

    def fits(self, spec: CheckpointSpec) -> bool:
        """Whether a model is a decoder without query and key norms."""
        text = spec.text
        plain = text is not None and not text.qk_norm and text.bias != "qkv" and text.width % text.heads == 0
        return is_plain_decoder(spec) and plain


@FAMILIES.register("mistral")
class Mistral(LlamaLike):
    """Llama's tensors under Llama's names, where no layer sees only the nearest tokens; written as Llama's."""

    name, base, architecture = "mistral", "MistralModel", "MistralForCausalLM"
    names = name_map("mistral")
    inside = {**SIZES, "intermediate_size": 14336, "vocab_size": 32000}
    _LEFT_OUT = {"max_position_embeddings": 131072, "sliding_window": 4096, "num_key_value_heads": 8}

    def own_settings(self, fields: Fields) -> dict[str, Any]:
        """Nothing; a window shorter than the context is refused."""
        fields.entries = {**self._LEFT_OUT, **fields.entries}
        if fields.entries["sliding_window"] is None:
            demand_whole_attention(fields)
            return {}
        window, context = fields.number("sliding_window"), fields.number("max_position_embeddings")
        if window < context:
            do = "use a checkpoint without a window: the layers here see all tokens"
            raise fields.refuse("sliding_window", f"none, or one as long as the context, {context}", window, do)
        return {}

    def config(self, spec: CheckpointSpec, **context: Any) -> dict[str, Any]:
        """The config.json of a Llama."""
        return Llama().config(spec, **context)

    def fits(self, spec: CheckpointSpec) -> bool:
        """Never: a model is written as a Llama."""
        return False


def demand_whole_attention(fields: Fields) -> None:
    """Refuse layers that see only the nearest tokens. Raises WeightsError."""
    fields.demand("use_sliding_window", (False, None), False)
    kinds = fields.entries.get("layer_types") or []
    others = [kind for kind in kinds if kind != "full_attention"] if isinstance(kinds, list) else [kinds]
    if others:
        raise fields.refuse("layer_types", "'full_attention'", repr(others[0]), OTHER_VARIANT)
