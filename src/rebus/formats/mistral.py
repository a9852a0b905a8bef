"""Mistral checkpoints: Llama's tensors under Llama's names, where no layer sees only the nearest tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rebus.errors import WeightsError
from rebus.formats import llama
from rebus.formats.config import demand, number
from rebus.formats.llama import config_to_hf, from_hf, to_hf
from rebus.formats.qwen2 import demand_whole_attention
from rebus.recipe import Tower

__all__ = ["config_to_hf", "from_hf", "settings_from_hf", "to_hf"]
_WINDOW, _CONTEXT, _KV_HEADS = 4096, 131072, 8  # what a configuration leaves out is as MistralConfig has it


def settings_from_hf(config: Mapping[str, Any]) -> tuple[Tower, int]:
    """The decoder's settings, and the rows of its embeddings.

    Raises:
        WeightsError: the configuration asks for something that the decoder does not do, such as a window.
    """
    demand(config, "mistral", "model_type", ("mistral",))
    full = {"max_position_embeddings": _CONTEXT, "sliding_window": _WINDOW, "num_key_value_heads": _KV_HEADS, **config}
    if full["sliding_window"] is not None:
        window, context = (number(full, "mistral", key) for key in ("sliding_window", "max_position_embeddings"))
        if window < context:
            expected = f"none, or one as long as the context, {context}"
            do = "use a checkpoint without a window: the layers here see all tokens"
            raise WeightsError("the mistral configuration, 'sliding_window'", expected, str(window), do)
    else:
        demand_whole_attention(config, "mistral")
    return llama.shared_settings(full, "mistral", qk_norm=False, bias="none")
