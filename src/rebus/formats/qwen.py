"""Qwen2 and Qwen3 checkpoints and the decoder: Llama's names, with biases or with norms of queries and keys."""

from __future__ import annotations

from typing import Any

from rebus.formats.config import Fields
from rebus.formats.family import FAMILIES, CheckpointSpec
from rebus.formats.llama import ROWS, SIZES, LlamaLike, demand_whole_attention, is_plain_decoder, name_map
from rebus.formats.names import prefixed
from rebus.recipe import Tower

_WHOLE_ATTENTION = {"use_sliding_window": False, "sliding_window": None}
_INSIDE = {**SIZES, "intermediate_size": 22016, "num_key_value_heads": 32, "vocab_size": 151936}
_NORMS = (
    ("layers.{n}.self_attn.q_norm.weight", "model.layers.{n}.self_attn.q_norm.weight"),
    ("layers.{n}.self_attn.k_norm.weight", "model.layers.{n}.self_attn.k_norm.weight"),
)


@FAMILIES.register("qwen2")
class Qwen2(LlamaLike):
    """Biases on queries, keys and values."""

    name, base, architecture = "qwen2", "Qwen2Model", "Qwen2ForCausalLM"
    names = name_map("qwen2")
    inside = {**_INSIDE, "max_position_embeddings": 32768}
    pattern = "qwen2"

    def own_settings(self, fields: Fields) -> dict[str, Any]:
        """The biases; layers that see only the nearest tokens are refused."""
        demand_whole_attention(fields)
        return {"bias": "qkv"}

    def own_config(self, text: Tower) -> dict[str, Any]:
        """All layers see all tokens."""
        return _WHOLE_ATTENTION

    def fits(self, spec: CheckpointSpec) -> bool:
        """Whether a model is such a decoder."""
        return is_plain_decoder(spec) and spec.text is not None and not spec.text.qk_norm and spec.text.bias == "qkv"


@FAMILIES.register("qwen3")
class Qwen3(LlamaLike):
    """A norm on each head's queries and keys."""

    name, base, architecture = "qwen3", "Qwen3Model", "Qwen3ForCausalLM"
    names = name_map("qwen3", (*ROWS, *prefixed("decoder.", _NORMS)))
    inside = {**_INSIDE, "max_position_embeddings": 32768, "head_dim": 128}

    def own_settings(self, fields: Fields) -> dict[str, Any]:
        """The norms and biases; layers that see only the nearest tokens are refused."""
        demand_whole_attention(fields)
        attention = fields.demand("attention_bias", (False, True), False)
        return {"qk_norm": True, "bias": "attention" if attention else "none", "head_dim": 128}

    def own_config(self, text: Tower) -> dict[str, Any]:
        """All layers see all tokens."""
        return {**_WHOLE_ATTENTION, "attention_bias": text.bias == "attention"}

    def fits(self, spec: CheckpointSpec) -> bool:
        """Whether a model is such a decoder."""
        text = spec.text
        return is_plain_decoder(spec) and text is not None and text.qk_norm and text.bias in ("none", "attention")
