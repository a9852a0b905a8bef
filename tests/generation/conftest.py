"""Tiny decoders with random weights, and the same weights in transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from rebus.formats.families import family_for
from rebus.models.towers.decoder import Decoder
from rebus.recipe import Tower

VOCAB, EOS = 61, 1
KINDS: dict[str, dict[str, Any]] = {
    "llama": {"kv_heads": 2, "qk_norm": False, "eps": 1e-5, "context": 64},
    "qwen2": {"kv_heads": 1, "qk_norm": False, "bias": "qkv", "tied": False, "context": 64},
    "qwen3": {"kv_heads": 2, "qk_norm": True, "head_dim": 16, "context": 64},
    "gpt2": {
        "qk_norm": False,
        "norm": "layer",
        "feedforward": "mlp",
        "positions": "learned",
        "bias": "all",
        "eps": 1e-5,
        "context": 64,
    },
}


def make_decoder(kind: str = "llama", vocab: int = VOCAB, **more: Any) -> Decoder:
    settings = Tower(kind="decoder", **{"width": 32, "depth": 2, "heads": 4, "hidden": 48, **KINDS[kind], **more})
    torch.manual_seed(3)
    made = Decoder(settings, vocab, zero_init=False).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3) if parameter.dim() > 1 else nn.init.normal_(parameter, 1.0, 0.2)
    return made


def make_reference(decoder: Decoder) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    family = family_for(decoder.settings)
    assert family is not None
    config = family.config_to_hf(decoder.settings, decoder.vocab_size, max_length=decoder.max_length)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    missing, extra = model.load_state_dict(family.to_hf(decoder.state_dict()), strict=False)
    assert not extra
    assert set(missing) <= {"lm_head.weight"}
    model.tie_weights()
    return model.eval()


@pytest.fixture
def decoder_of() -> Callable[..., Decoder]:
    return make_decoder


@pytest.fixture
def reference_of() -> Callable[[Decoder], Any]:
    return make_reference


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def prompts() -> list[list[int]]:
    return [[5, 9, 33, 8, 12, 40, 7], [6, 7], [11, 30, 4, 22], [5, 9, 33, 8, 12, 41]]
