"""Qwen2 checkpoints and the decoder: Llama's names, and biases on queries, keys and values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rebus.errors import WeightsError
from rebus.formats import llama
from rebus.formats.config import demand
from rebus.formats.names import NameMap, State
from rebus.recipe import Tower

NAMES = NameMap("qwen2", llama.ROWS, base="model.", ignored=r"rotary_emb\.inv_freq$")
WHOLE_ATTENTION = {"use_sliding_window": False, "sliding_window": None}


def to_hf(state: Mapping[str, Tensor]) -> State:
    """A decoder's parameters under Hugging Face's names; see ``rebus.formats.llama.to_hf``."""
    return NAMES.to_hf(state)


def from_hf(state: Mapping[str, Tensor], settings: Tower) -> State:
    """A checkpoint's parameters under the decoder's names; see ``rebus.formats.llama.from_hf``."""
    return llama.untied(NAMES.from_hf(state), settings)


def config_to_hf(settings: Tower, vocab_size: int, **context: Any) -> dict[str, Any]:
    """The config.json of a decoder with ``bias="qkv"``; see ``rebus.formats.llama.config_to_hf``."""
    common = llama.shared_config(settings, vocab_size, context)
    return {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], **common, **WHOLE_ATTENTION}


def settings_from_hf(config: Mapping[str, Any]) -> tuple[Tower, int]:
    """The decoder's settings, and the rows of its embeddings.

    Raises:
        WeightsError: the configuration asks for something that the decoder does not do.
    """
    demand(config, "qwen2", "model_type", ("qwen2",))
    demand_whole_attention(config, "qwen2")
    return llama.shared_settings(config, "qwen2", qk_norm=False, bias="qkv")


def demand_whole_attention(config: Mapping[str, Any], family: str) -> None:
    """Refuse layers that see only the nearest tokens. Raises WeightsError."""
    demand(config, family, "use_sliding_window", (False, None), False)
    kinds = config.get("layer_types") or []
    others = [kind for kind in kinds if kind != "full_attention"] if isinstance(kinds, list) else [kinds]
    if others:
        do = "this variant is not supported; use a checkpoint without it"
        where = f"the {family} configuration, 'layer_types'"
        raise WeightsError(where, "'full_attention'", repr(others[0])[:60], do)
