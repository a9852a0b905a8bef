"""Tiny decoders with random weights, the same weights in transformers, and requests drawn at random."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from one_tower import tower_family
from rebus.generation.engine import Engine
from rebus.generation.requests import Request, Ticket, Written
from rebus.generation.sampling import Sampling
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

    family = tower_family(decoder.settings)
    assert family is not None
    config = family.config_to_hf(decoder.settings, decoder.vocab_size, max_length=decoder.max_length)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    missing, extra = model.load_state_dict(family.to_hf(decoder.state_dict()), strict=False)
    assert not extra
    assert set(missing) <= {"lm_head.weight"}
    model.tie_weights()
    return model.eval()


@dataclass
class Told:
    """What a ticket said."""

    ids: list[list[int]] = field(default_factory=list)
    logprobs: list[list[float]] = field(default_factory=list)
    ends: dict[int, str] = field(default_factory=dict)


def gather(ticket: Ticket) -> Told:
    count = ticket.request.sampling.n
    told = Told([[] for _ in range(count)], [[] for _ in range(count)])
    for step in ticket:
        assert step.text not in told.ends  # nothing follows an end
        told.ids[step.text] += [token.id for token in step.tokens]
        told.logprobs[step.text] += [token.logprob for token in step.tokens]
        if step.end is not None:
            told.ends[step.text] = step.end
    return told


def expect(told: Told, known: Sequence[Written], *, exact: bool = False) -> None:
    assert told.ids == [text.ids for text in known]
    assert told.ends == {number: text.end for number, text in enumerate(known)}
    for ours, text in zip(told.logprobs, known, strict=True):
        theirs = [token.logprob for token in text.tokens]
        assert ours == theirs if exact else ours == pytest.approx(theirs, abs=2e-4)


def draw_request(rng: random.Random, common: list[int], **more: Any) -> Request:
    ids = common[: rng.choice([0, 0, 5, 11, 20])] + [rng.randrange(2, 60) for _ in range(rng.randrange(1, 16))]
    sampling = Sampling(
        rng.randrange(1, 24),
        temperature=rng.choice([0.0, 0.0, 1.0, 1.6]),
        top_p=rng.choice([1.0, 0.8]),
        top_k=rng.choice([0, 7]),
        seed=rng.randrange(1000),
        n=rng.choice([1, 1, 1, 3]),
        stop=((5, 6), (9,)) if rng.random() < 0.3 else (),
        repetition_penalty=rng.choice([1.0, 1.0, 1.3]),
        frequency_penalty=rng.choice([0.0, 0.0, 0.4]),
        alternatives=rng.choice([0, 2]),
    )
    return Request(ids, sampling, user=rng.choice("abc"), **more)


def settle(engine: Engine, most: int = 3000) -> int:
    """Steps until nothing is left; an engine that makes none is stuck."""
    for count in range(most):
        if not engine.run_once():
            assert engine.idle
            return count
    raise AssertionError("it never ends")


def no_leak(engine: Engine) -> None:
    """Every block is free, and what is known of it is consistent."""
    stats, blocks = engine.stats(), engine._scheduler.blocks
    assert (stats.blocks_used, stats.running, stats.queued) == (0, 0, 0)
    assert set(blocks._holders) == {0}
    assert sorted([*blocks._blank, *blocks._reusable]) == list(range(1, blocks.count + 1))
    assert {blocks._names[block] for block in blocks._reusable} == set(blocks._by_name)
    assert not engine._scheduler._pending


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


@pytest.fixture
def requested() -> Callable[..., Request]:
    return draw_request


@pytest.fixture
def told_by() -> Callable[[Ticket], Told]:
    return gather


@pytest.fixture
def expects() -> Callable[..., None]:
    return expect


@pytest.fixture
def settled() -> Callable[..., int]:
    return settle


@pytest.fixture
def leaks_nothing() -> Callable[[Engine], None]:
    return no_leak


@pytest.fixture
def offline() -> Callable[..., list[Written]]:
    def write(writer: Any, request: Request, **more: Any) -> list[Written]:
        return Engine(writer, [EOS]).write([request.ids], request.sampling, constraint=request.constraint, **more)

    return write
