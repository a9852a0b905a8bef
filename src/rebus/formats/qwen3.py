"""Qwen3 checkpoints and the decoder: Llama's names, and a norm on each head's queries and keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rebus.formats import llama
from rebus.formats.config import demand
from rebus.formats.names import NameMap, State
from rebus.formats.qwen2 import WHOLE_ATTENTION, demand_whole_attention
from rebus.recipe import Tower

ROWS = (
    *llama.ROWS,
    ("layers.{n}.self_attn.q_norm.weight", "model.layers.{n}.self_attn.q_norm.weight"),
    ("layers.{n}.self_attn.k_norm.weight", "model.layers.{n}.self_attn.k_norm.weight"),
)
NAMES = NameMap("qwen3", ROWS, base="model.", ignored=r"rotary_emb\.inv_freq$")
_HEAD = 128  # size of a head where the configuration does not say


def to_hf(state: Mapping[str, Tensor]) -> State:
    """A decoder's parameters under Hugging Face's names. Raises WeightsError for cross-attention: Qwen3 has none."""
    return NAMES.to_hf(state)


def from_hf(state: Mapping[str, Tensor], settings: Tower) -> State:
    """A checkpoint's parameters under the decoder's names; see ``rebus.formats.llama.from_hf``."""
    return llama.untied(NAMES.from_hf(state), settings)


def config_to_hf(settings: Tower, vocab_size: int, **context: Any) -> dict[str, Any]:
    """The config.json of a decoder with query and key norms; see ``rebus.formats.llama.config_to_hf``."""
    common = llama.shared_config(settings, vocab_size, context)
    own = {**WHOLE_ATTENTION, "attention_bias": settings.bias == "attention"}
    return {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], **common, **own}


def settings_from_hf(config: Mapping[str, Any]) -> tuple[Tower, int]:
    """The decoder's settings, and the rows of its embeddings.

    Raises:
        WeightsError: the configuration asks for something that the decoder does not do.
    """
    demand(config, "qwen3", "model_type", ("qwen3",))
    demand_whole_attention(config, "qwen3")
    bias = "attention" if demand(config, "qwen3", "attention_bias", (False, True), False) else "none"
    return llama.shared_settings(config, "qwen3", qk_norm=True, bias=bias, head_dim=_HEAD)
