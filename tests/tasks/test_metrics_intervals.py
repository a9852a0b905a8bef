from __future__ import annotations

import numpy as np
import pytest

from rebus.errors import DataError
from rebus.tasks.metrics import bootstrap_interval, compare, paired_difference
from rebus.tasks.metrics.intervals import mean_of, resamples


def test_interval_of_a_share_is_close_to_theory() -> None:
    values = np.array([0.0, 1.0] * 200)
    low, high = bootstrap_interval(values, n=2000)
    assert low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.006)
    assert high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.006)


def test_a_lower_level_is_narrower() -> None:
    values = np.random.default_rng(0).normal(size=100)
    wide, narrow = bootstrap_interval(values, level=0.95), bootstrap_interval(values, level=0.5)
    assert wide[0] < narrow[0] < values.mean() < narrow[1] < wide[1]


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(3)
    covered = 0
    for seed in range(200):
        low, high = bootstrap_interval(random.normal(size=60), n=300, seed=seed)
        covered += low <= 0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_same_seed_same_interval() -> None:
    values = np.random.default_rng(0).random(50)
    assert bootstrap_interval(values, seed=7) == bootstrap_interval(values, seed=7)
    assert bootstrap_interval(values, seed=7) != bootstrap_interval(values, seed=8)


def test_pieces_do_not_change_the_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(50)
    whole = bootstrap_interval(values)
    monkeypatch.setattr("rebus.tasks.metrics.intervals._CHUNK", 333)
    assert bootstrap_interval(values) == whole


def test_grouped_copies_are_worth_one_item() -> None:
    values = np.random.default_rng(0).random(40)
    copies, owners = np.repeat(values, 25), [f"image {row // 25}" for row in range(1000)]
    alone, grouped = bootstrap_interval(values), bootstrap_interval(copies, groups=owners)
    naive = bootstrap_interval(copies)
    assert grouped == pytest.approx(alone)
    assert naive[1] - naive[0] < 0.4 * (grouped[1] - grouped[0])


def test_groups_of_different_size_are_drawn_whole() -> None:
    for weights in resamples(5, n=20, groups=["a", "a", "b", "b", "b"]):
        assert (weights[:, 0] == weights[:, 1]).all()
        assert (weights[:, 2] == weights[:, 4]).all()
        assert (weights[:, 0] + weights[:, 2] == 2).all()


def test_a_function_of_rows_and_a_statistic_agree_with_plain_values() -> None:
    values, groups = np.random.default_rng(0).random(30), [row // 3 for row in range(30)]
    plain = bootstrap_interval(values, n=100, groups=groups)
    by_rows = bootstrap_interval(lambda rows: float(values[rows].mean()), n=100, groups=groups, size=30)
    by_weights = compare({"mean": mean_of(values)}, None, 30, n=100, groups=groups)["mean"].value
    assert by_rows == pytest.approx(plain)
    assert by_weights == pytest.approx((values.mean(), *plain))


def test_a_constant_has_no_width() -> None:
    assert bootstrap_interval([0.5] * 10) == pytest.approx((0.5, 0.5))


def test_paired_difference_is_narrower_than_the_parts() -> None:
    random = np.random.default_rng(0)
    base = random.normal(size=200)
    better = base + 0.1 + 0.01 * random.normal(size=200)
    found = paired_difference(better, base)
    assert 0.09 < found.low < found.value < found.high < 0.11
    assert paired_difference(base, base) == (0, 0, 0)


def test_compare_pairs_by_name_and_drops_what_cannot_be_computed() -> None:
    statistics = {"accuracy": mean_of([1.0, 1, 0]), "bleu": mean_of([1.0, 1, 1]), "never": lambda w: w[:, 0] * np.nan}
    found = compare(statistics, {"accuracy": mean_of([0.0, 1, 0]), "never": mean_of([1.0, 1, 1])}, 3)
    assert set(found) == {"accuracy", "bleu"}
    assert found["accuracy"].difference is not None
    assert found["accuracy"].difference.value == pytest.approx(1 / 3)
    assert found["accuracy"].baseline is not None
    assert found["accuracy"].baseline.value == pytest.approx(1 / 3)
    assert found["bleu"].baseline is None


def test_resamples_that_cannot_be_computed_are_left_out() -> None:
    def ratio(weights: np.ndarray) -> np.ndarray:
        return weights[:, 1] / weights[:, 0]  # x/0 happens

    found = compare({"ratio": ratio}, None, 2)["ratio"].value
    assert found == pytest.approx((1.0, 0.0, 1.0))


def test_nothing_to_judge_is_a_users_mistake() -> None:
    with pytest.raises(DataError, match="at least one row"):
        bootstrap_interval([])
