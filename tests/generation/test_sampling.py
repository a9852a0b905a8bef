"""Each filter against transformers' own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers.generation import logits_process as theirs

from rebus.generation import sampling as ours
from rebus.generation.sampling import Chooser, Sampling

R, V = 5, 3000


def logits(seed: int = 0, spread: float = 4.0) -> Tensor:
    return torch.randn(R, V, generator=torch.Generator().manual_seed(seed)) * spread


def filtered(work: Callable[..., None], *args: float | Tensor, seed: int, spread: float) -> Tensor:
    scores = logits(seed, spread)
    work(scores, *args)
    return scores


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("spread", [0.05, 1.0, 6.0])
@pytest.mark.parametrize(
    ("work", "value", "reference"),
    [
        (ours.keep_top_k, 1, theirs.TopKLogitsWarper(1)),
        (ours.keep_top_k, 50, theirs.TopKLogitsWarper(50)),
        (ours.keep_top_k, 9000, theirs.TopKLogitsWarper(9000)),
        (ours.keep_top_p, 0.01, theirs.TopPLogitsWarper(0.01)),
        (ours.keep_top_p, 0.5, theirs.TopPLogitsWarper(0.5)),
        (ours.keep_top_p, 0.97, theirs.TopPLogitsWarper(0.97)),
        (ours.keep_min_p, 0.05, theirs.MinPLogitsWarper(0.05)),
        (ours.keep_min_p, 0.9, theirs.MinPLogitsWarper(0.9)),
    ],
)
def test_filters_equal_transformers(
    work: Callable[..., None], value: float, reference: theirs.LogitsProcessor, seed: int, spread: float
) -> None:
    torch.testing.assert_close(
        filtered(work, value, seed=seed, spread=spread), reference(torch.zeros(R, 1).long(), logits(seed, spread))
    )


@pytest.mark.parametrize("penalty", [1.3, 0.8])
def test_repetition_penalty_equals_transformers(penalty: float) -> None:
    ids = torch.randint(0, V, (R, 40), generator=torch.Generator().manual_seed(5))
    expected = theirs.RepetitionPenaltyLogitsProcessor(penalty)(ids, logits())
    chooser = Chooser(Sampling(repetition_penalty=penalty), ids[:, :30].tolist(), range(R), V)
    for place in range(30, 40):
        chooser.note(ids[:, place])
    torch.testing.assert_close(chooser.scores(logits()), expected)


def test_frequency_and_presence_penalties_count_what_was_written() -> None:
    """logit - count x frequency - (count > 0) x presence, as the API that named them says."""
    chooser = Chooser(Sampling(frequency_penalty=0.5, presence_penalty=0.25), [[1, 1, 1]] * R, range(R), V)
    for token in (7, 7, 9):
        chooser.note(torch.full((R,), token))
    change = chooser.scores(logits()) - logits()
    expected = torch.zeros(R, V)
    expected[:, 7], expected[:, 9] = -1.25, -0.75
    torch.testing.assert_close(change, expected, atol=1e-5, rtol=0)


def test_all_at_once_in_transformers_order() -> None:
    ids = torch.randint(0, V, (R, 20), generator=torch.Generator().manual_seed(6))
    chain = theirs.LogitsProcessorList(
        [
            theirs.RepetitionPenaltyLogitsProcessor(1.2),
            theirs.TemperatureLogitsWarper(0.7),
            theirs.TopKLogitsWarper(40),
            theirs.TopPLogitsWarper(0.9),
            theirs.MinPLogitsWarper(0.02),
        ]
    )
    expected = chain(ids, logits(1)).softmax(-1)
    sampling = Sampling(temperature=0.7, top_k=40, top_p=0.9, min_p=0.02, repetition_penalty=1.2)
    counts = torch.zeros(R, V)
    for seed in range(300):
        chooser = Chooser(sampling.__class__(**{**sampling.__dict__, "seed": seed}), ids.tolist(), range(R), V)
        counts[torch.arange(R), chooser.choose(logits(1))] += 1
    assert bool((expected[counts > 0] > 0).all())  # nothing that transformers forbids is ever drawn
    assert float((counts / 300 - expected).abs().sum(-1).max()) < 0.35  # and all of it as often, within chance


def test_draws_follow_the_probabilities() -> None:
    scores = torch.tensor([0.1, 0.0, 0.5, 0.4]).log()
    rng = [torch.Generator().manual_seed(seed) for seed in range(4000)]
    drawn = ours.draw(scores.expand(4000, 4), rng)
    share = torch.bincount(drawn, minlength=4) / 4000
    assert share[1] == 0
    torch.testing.assert_close(share, torch.tensor([0.1, 0.0, 0.5, 0.4]), atol=0.025, rtol=0)


def test_what_is_not_allowed_is_not_chosen() -> None:
    allowed = torch.zeros(R, V, dtype=torch.bool)
    allowed[:, [4, 8]] = True
    for sampling in (Sampling(), Sampling(temperature=5.0, top_k=100)):
        chosen = Chooser(sampling, [[1]] * R, range(R), V).choose(logits(), allowed)
        assert set(chosen.tolist()) <= {4, 8}
        if sampling.temperature == 0:
            assert chosen.tolist() == [4 if row[4] > row[8] else 8 for row in logits()]


def test_selecting_texts_keeps_their_dice_and_counts() -> None:
    sampling = Sampling(temperature=1.0, repetition_penalty=1.5, presence_penalty=1.0)
    whole = Chooser(sampling, [[row] for row in range(R)], range(R), V)
    part = Chooser(sampling, [[row] for row in range(R)], range(R), V)
    part.select([3, 1])
    first = whole.choose(logits())[[3, 1]]
    assert part.choose(logits()[[3, 1]]).tolist() == first.tolist()
    part.note(first)
    whole.note(torch.tensor([0, first[1], 0, first[0], 0]))
    torch.testing.assert_close(part.scores(logits()[[3, 1]]), whole.scores(logits())[[3, 1]])
