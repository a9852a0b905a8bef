"""The dial: its rule, and that what people say stays as they say it."""

from __future__ import annotations

import pytest

from rebus import api
from rebus.recipe import Recipe, override
from rebus.resolve.known import Tokens
from rebus.resolve.scaling import (
    SHAPES,
    SIZES,
    batch_for,
    choose_size,
    flops_a_token,
    layer_weights,
    turn_dial,
    vocabulary_for,
)

TOKENS = [10_000, 1_000_000, 30_000_000, 10_000_000_000]


def dialled(tokens: int = 1_000_000, *words: str, speed: float | None = None) -> Recipe:
    known = Tokens(tokens, 2048, None if speed is None else lambda flops: speed / flops)
    return turn_dial(override(Recipe(), list(words)), known, print)


def test_a_larger_dial_is_a_larger_model_that_reads_more() -> None:
    made = [dialled(10**9, f"model.size={size}") for size in SIZES]
    weights = [layer_weights(one.model.text.width, one.model.text.depth) for one in made]
    read = [(one.train.steps or 0) * one.train.batch_size for one in made]
    batches = [one.train.batch_size for one in made]
    rates = [one.train.muon_lr or 0 for one in made]
    assert weights == sorted(set(weights))
    assert read == sorted(set(read))
    assert batches == sorted(batches)
    assert rates == sorted(rates, reverse=True)
    assert all(one.model.text.width % one.model.text.heads == 0 for one in made)


def test_more_text_and_more_time_never_make_a_smaller_model() -> None:
    by_text = [SIZES.index(choose_size(tokens, 2048, 256, None, None)) for tokens in TOKENS]
    assert by_text == sorted(by_text)
    assert by_text[-1] == len(SIZES) - 1

    def speed(flops: float) -> float:
        return 1e11 / flops

    by_time = [SIZES.index(choose_size(10**9, 2048, 256, seconds, speed)) for seconds in (10, 300, 10**4, 10**7)]
    assert by_time == sorted(by_time)
    assert (by_time[0], by_time[-1]) == (0, len(SIZES) - 1)
    assert [batch_for(tokens) for tokens in TOKENS] == sorted(batch_for(tokens) for tokens in TOKENS)
    vocabularies = [vocabulary_for(tokens, "base") for tokens in TOKENS]
    assert vocabularies == sorted(set(vocabularies))
    assert all(vocabulary % 64 == 0 for vocabulary in vocabularies)
    assert vocabulary_for(10**10, "nano") * SHAPES["nano"][0] <= layer_weights(*SHAPES["nano"])


@pytest.mark.parametrize("tokens", TOKENS)
def test_the_horizon_is_the_budget(tokens: int) -> None:
    recipe = dialled(tokens, "model.size=nano")
    budget = min(20 * layer_weights(*SHAPES["nano"]), 8 * tokens)
    read = (recipe.train.steps or 0) * recipe.train.batch_size * recipe.corpus.block
    assert read == pytest.approx(budget, rel=0.05)


def test_what_is_said_stays_even_at_its_default() -> None:
    recipe = dialled(
        10**6, "model.size=mini", "train.batch_size=32", "train.lr=0.5", "train.decay=0.3", "train.steps=7"
    )
    assert (recipe.train.batch_size, recipe.train.lr, recipe.train.decay, recipe.train.steps) == (32, 0.5, 0.3, 7)
    assert recipe.train.schedule == "wsd"
    assert recipe.sets("train.batch_size")
    assert not Recipe().sets("train.batch_size")


def test_a_time_limit_or_epochs_decide_the_length() -> None:
    limited = dialled(10**7, "train.time_limit=5", speed=1e11)
    assert limited.train.steps is None
    assert limited.model.size is not None
    twice = dialled(10**6, "model.size=nano", "train.epochs=2")
    assert twice.train.steps is None
    assert twice.train.weight_decay < dialled(10**6, "model.size=nano", "train.epochs=6").train.weight_decay


def test_large_batches_are_cut_so_that_logits_fit() -> None:
    recipe = turn_dial(override(Recipe(), ["model.size=base"]), Tokens(10**9, 32_768), print)
    part = recipe.train.batch_size // recipe.train.accumulate
    assert recipe.train.batch_size % recipe.train.accumulate == 0
    assert part * recipe.corpus.block * 32_768 * 10 <= 1 << 30


def test_the_dial_can_be_turned_again_in_a_saved_recipe() -> None:
    saved = dialled(10**6, "model.size=nano")
    again = api.make_recipe("text.txt", None, saved, ["model.size=mini"])
    assert turn_dial(again, Tokens(10**6, 2048), print).model.text.width == SHAPES["mini"][0]
    same = api.make_recipe("text.txt", None, saved, ["seed=1"])
    assert turn_dial(same, Tokens(10**9, 2048), print).train.steps == saved.train.steps


def test_work_a_token() -> None:
    """6 a weight; and for attention 2 products of the forward pass and 4 of the backward, each over half the row."""
    assert flops_a_token(1000, 2, 16, 64) == 6 * 1000 + 2 * 6 * 2 * (64 / 2) * 16
