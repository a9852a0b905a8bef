"""Qwen3 checkpoints and the decoder: Llama's names, and a norm on each head's queries and keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rebus.formats import llama
from rebus.formats.config import demand
from rebus.formats.names import NameMap, State
from rebus.recipe import Tower

ROWS = (
    *llama.ROWS,
    ("layers.{n}.self_attn.q_norm.weight", "model.layers.{n}.self_attn.q_norm.weight"),
    ("layers.{n}.self_attn.k_norm.weight", "model.layers.{n}.self_attn.k_norm.weight"),
)
NAMES = NameMap("qwen3", ROWS, base="model.", ignored=r"rotary_emb\.inv_freq$")


def to_hf(state: Mapping[str, Tensor]) -> State:
    """A decoder's parameters under Hugging Face's names. Raises WeightsError for cross-attention: Qwen3 has none."""
    return NAMES.to_hf(state)


def from_hf(state: Mapping[str, Tensor], tied: bool = False) -> State:
    """A checkpoint's parameters under the decoder's names; see ``rebus.formats.llama.from_hf``."""
    return llama.untied(NAMES.from_hf(state), tied)


def config_to_hf(settings: Tower, **context: Any) -> dict[str, Any]:
    """The config.json of a decoder with query and key norms; see ``rebus.formats.llama.config_to_hf``."""
    common = llama.shared_config(settings, context)
    return {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "use_sliding_window": False, **common}


def settings_from_hf(config: Mapping[str, Any]) -> tuple[Tower, dict[str, Any]]:
    """The decoder's settings, and the keyword arguments that it is built with beside them.

    Raises:
        WeightsError: the configuration asks for something that the decoder does not do.
    """
    demand(config, "qwen3", "model_type", ("qwen3",))
    demand(config, "qwen3", "use_sliding_window", (False,), False)
    return llama.shared_settings(config, "qwen3", qk_norm=True)
