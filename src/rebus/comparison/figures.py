"""What differences between strategies are worth: intervals, tests, and how many of them were made.

Three questions, three answers. How far could a difference be off because the test rows are a sample? The bootstrap over
rows, all splits pooled, rows of one image together. How far because the training rows are one? The t-test over splits
that is corrected for the rows they share. How many chances did chance have? Holm's correction over the strategies.

Knows no model and no language. Letters: N test items of all splits, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rebus.comparison.t_test import t_quantile, t_tail
from rebus.tasks.metrics.intervals import Interval, Statistic, resamples

Floats = NDArray[np.float64]
RESAMPLES = 2000


@dataclass(frozen=True)
class Difference:
    """How much better one thing is than another, in the figure's unit; positive is better.

    Attributes:
        value: the difference.
        low, high: its 95% interval, from the bootstrap paired over test rows.
        p: two-sided, of the same bootstrap.
        holm: ``p`` corrected for the number of strategies tested beside it; 1 alone: ``p`` itself.
        t: p of the corrected resampled t-test over splits; None where there is one split, or splits share no rows.
        t_low, t_high: the interval that goes with it.
    """

    value: float
    low: float
    high: float
    p: float
    holm: float
    t: float | None = None
    t_low: float | None = None
    t_high: float | None = None

    @property
    def sure(self) -> bool:
        """Whether it can be told from chance: p after correction below 0.05."""
        return self.holm < 0.05 and math.isfinite(self.value)


def over_splits(parts: Sequence[tuple[Statistic, Sequence[int]]]) -> Statistic:
    """The mean over splits of a figure, each weighted by its items: a function of all N items' weights.

    Args:
        parts: for each split its figure, a function of its own items' weights, and the places of these items.
    """
    placed = [(figure, np.asarray(places, dtype=np.intp)) for figure, places in parts]

    def whole(weights: Floats) -> Floats:
        total, mass = np.zeros(len(weights)), np.zeros(len(weights))
        for figure, places in placed:
            own = weights[:, places]
            share = own.sum(1)
            some = share > 0  # a resample may leave a small split out
            if some.any():
                total[some] += share[some] * figure(own[some])
                mass[some] += share[some]
        return total / mass

    return whole


def drawn(
    figure: Callable[[Floats], Floats], size: int, groups: Sequence[Hashable] | None = None, *, n: int = RESAMPLES
) -> tuple[float, Floats]:
    """A figure of N items, and in ``n`` resamples of them: (R,). The same resamples for every figure."""
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(figure(np.ones((1, size)))[0])
        spread = np.concatenate([figure(weights) for weights in resamples(size, n=n, groups=groups)])
    return value, spread


def interval_of(value: float, spread: Floats, level: float = 0.95) -> Interval:
    """The percentile interval; resamples in which the figure cannot be computed do not count."""
    known = spread[np.isfinite(spread)]
    if not len(known):
        return Interval(value, value, value)
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def chance_of_zero(spread: Floats) -> float:
    """Two-sided p of a bootstrap distribution of a difference: how often it falls on zero's other side, doubled.

    Never below 2 / (R + 1): so many resamples cannot tell more. Source: Davison and Hinkley 1997, "Bootstrap Methods
    and their Application", section 4.4.
    """
    known = spread[np.isfinite(spread)]
    below, above = int((known <= 0).sum()), int((known >= 0).sum())
    return min(1.0, 2 * (1 + min(below, above)) / (len(known) + 1))


def corrected_t(differences: Sequence[float], ratio: float, level: float = 0.95) -> tuple[float, float, float] | None:
    """The corrected resampled t-test of differences over J splits: p, and the bounds of their mean's interval.

    Splits share training rows, so that their differences are alike and the plain t-test finds too much. Here their
    variance counts 1/J + n_test/n_train times. Source: Nadeau and Bengio 2003, "Inference for the Generalization
    Error", Machine Learning 52.

    Args:
        differences: one a split.
        ratio: test rows by training rows.
        level: share of the distribution inside the interval.

    Returns:
        None for fewer than two splits.
    """
    count = len(differences)
    if count < 2 or not np.isfinite(differences).all():
        return None
    mean, variance = float(np.mean(differences)), float(np.var(differences, ddof=1))
    error = math.sqrt((1 / count + ratio) * variance)
    if error == 0.0:
        return (1.0 if mean == 0.0 else 0.0), mean, mean
    reach = t_quantile(level, count - 1) * error
    return t_tail(mean / error, count - 1), mean - reach, mean + reach


def holm(chances: Mapping[str, float]) -> dict[str, float]:
    """Corrected p values by name, for as many as there are.

    Source: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    corrected: dict[str, float] = {}
    worst = 0.0
    for place, name in enumerate(sorted(chances, key=lambda key: chances[key])):
        worst = max(worst, min(1.0, (len(chances) - place) * chances[name]))
        corrected[name] = worst
    return {name: corrected[name] for name in chances}
