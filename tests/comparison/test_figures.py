"""The statistics: against scipy, against theory, and whether intervals cover and tests err as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from rebus.comparison.figures import chance_of_zero, corrected_t, drawn, holm, interval_of, over_splits
from rebus.comparison.t_test import t_quantile, t_tail
from rebus.tasks.metrics.intervals import mean_of


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 8, 29, 100])
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0, 2.5, 12.0])
def test_tail_of_student(t: float, freedom: int) -> None:
    assert t_tail(t, freedom) == pytest.approx(2 * stats.t.sf(t, freedom), abs=1e-10)
    assert t_tail(-t, freedom) == t_tail(t, freedom)


@pytest.mark.parametrize("freedom", [1, 2, 9, 50])
def test_quantile_of_student(freedom: int) -> None:
    assert t_quantile(0.95, freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-6)
    assert t_tail(math.inf, freedom) == 0.0


def test_without_shared_rows_the_corrected_test_is_the_plain_one() -> None:
    differences = [0.02, 0.05, -0.01, 0.04, 0.03]
    found = corrected_t(differences, 0.0)
    assert found is not None
    plain = stats.ttest_1samp(differences, 0.0)
    assert found[0] == pytest.approx(plain.pvalue)
    assert found[1:] == pytest.approx(tuple(plain.confidence_interval(0.95)))
    corrected = corrected_t(differences, 0.25)
    assert corrected is not None
    assert corrected[0] > found[0]
    assert corrected[2] - corrected[1] == pytest.approx(1.5 * (found[2] - found[1]))  # sqrt((1/5 + 1/4) / (1/5))


def test_corrected_test_of_too_few_or_equal_differences() -> None:
    assert corrected_t([0.1], 0.5) is None
    assert corrected_t([0.1, float("nan")], 0.5) is None
    assert corrected_t([0.1, 0.1], 0.5) == (0.0, 0.1, 0.1)
    assert corrected_t([0.0, 0.0], 0.5) == (1.0, 0.0, 0.0)


def test_holm_steps_down() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.5})
    assert found == pytest.approx({"a": 0.04, "b": 0.09, "c": 0.09, "d": 0.5})  # 4 x 0.01, 3 x 0.03, then not below
    assert holm({}) == {}


def test_figure_over_splits_is_the_mean_weighted_by_items() -> None:
    whole = over_splits([(mean_of([1.0, 0.0]), [0, 1]), (mean_of([1.0]), [2])])
    assert whole(np.ones((1, 3))) == pytest.approx([2 / 3])
    assert whole(np.array([[2.0, 0.0, 0.0], [0.0, 1.0, 3.0]])) == pytest.approx([1.0, 0.75])


def test_intervals_cover_and_tests_err_as_often_as_they_say() -> None:
    rng, covered, missed = np.random.default_rng(1), 0, 0
    for _ in range(150):
        groups = np.repeat(np.arange(40), 2).tolist()  # two questions about each image
        shared = np.repeat(rng.normal(size=40), 2)
        value, spread = drawn(mean_of(shared + 0.5 * rng.normal(size=80)), 80, groups, n=400)
        low, high = interval_of(value, spread)[1:]
        covered += low <= 0.0 <= high
        missed += chance_of_zero(spread) < 0.05
    assert 0.89 <= covered / 150 <= 0.98
    assert missed / 150 <= 0.11


def test_rows_of_one_image_are_no_two_witnesses() -> None:
    values = np.repeat(np.random.default_rng(0).normal(size=30), 4)
    _, alone = drawn(mean_of(values), 120)
    _, together = drawn(mean_of(values), 120, np.repeat(np.arange(30), 4).tolist())
    assert 1.7 < together.std() / alone.std() < 2.3  # sqrt(4)


def test_chance_of_a_difference_that_never_changes_sign() -> None:
    assert chance_of_zero(np.ones(999)) == pytest.approx(2 / 1000)
    assert chance_of_zero(np.zeros(999)) == 1.0
    assert chance_of_zero(np.array([1.0, np.nan, -1.0])) == 1.0
