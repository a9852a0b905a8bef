"""Bootstrap intervals: how far a figure could be off because the test set is only a sample.

Knows no task. A figure is a ``Statistic``, a function of weights: (R, N) weights of the N test items in R resamples
-> (R,) values. Weights of one give the figure itself; multinomial weights give its bootstrap distribution. One matrix
product then resamples a mean, an F1 score or an AUROC a thousand times, and items that belong together (questions
about one image) share a weight.

Letters: R resamples, N items, G groups.
"""

# ruff: noqa: S101 - asserts hold what callers promise, never what users wrote

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rebus.errors import DataError

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
Statistic = Callable[[Floats], Floats]

_CHUNK = 250_000  # weights held at once: 2 MB, which stay in the cache


class Interval(NamedTuple):
    """A figure with the bounds of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """A model's figure, its baseline's and the difference, each with its interval; paired over the same resamples."""

    value: Interval
    baseline: Interval | None = None
    difference: Interval | None = None


def mean_of(values: ArrayLike) -> Statistic:
    """The weighted mean of per-item ``values`` (N,) as a Statistic."""
    array = np.asarray(values, dtype=np.float64)
    assert array.ndim == 1, array.shape
    assert np.isfinite(array).all(), "per-item values must be finite"
    return lambda weights: weights @ array / weights.sum(1)


def bootstrap_interval(
    values: ArrayLike | Callable[[Rows], float],
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    groups: Sequence[Hashable] | None = None,
    *,
    size: int | None = None,
) -> tuple[float, float]:
    """The bounds (low, high) of the percentile bootstrap interval of a mean or of any figure.

    Args:
        values: per-item values (N,), whose mean is the figure, or a function of row numbers (M,), which may repeat. A
            figure that can be written as a Statistic is resampled much faster by ``compare``.
        n: number of resamples.
        seed: the same seed gives the same interval.
        level: share of the distribution inside the interval.
        groups: (N,) a key for each item; items with one key are resampled together. None: each item by itself.
        size: N, needed for a function only.

    Raises:
        DataError: there are no items.

    Source: Efron 1979, "Bootstrap Methods: Another Look at the Jackknife"; for groups, the cluster bootstrap of
    Davison and Hinkley 1997, "Bootstrap Methods and their Application", section 3.8.
    """
    statistic, size = _statistic(values, size)
    comparison = compare({"figure": statistic}, None, size, n=n, seed=seed, level=level, groups=groups)
    return comparison["figure"].value[1:] if comparison else (np.nan, np.nan)


def paired_difference(
    values: ArrayLike | Callable[[Rows], float],
    others: ArrayLike | Callable[[Rows], float],
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    groups: Sequence[Hashable] | None = None,
    *,
    size: int | None = None,
) -> Interval:
    """The figure of ``values`` minus that of ``others``, both judged on the same resamples. Arguments as above."""
    first, size = _statistic(values, size)
    second, other_size = _statistic(others, size)
    assert size == other_size, (size, other_size)
    both = compare({"figure": first}, {"figure": second}, size, n=n, seed=seed, level=level, groups=groups)
    difference = both["figure"].difference if both else None
    return difference or Interval(np.nan, np.nan, np.nan)


def compare(
    statistics: Mapping[str, Statistic],
    baselines: Mapping[str, Statistic] | None,
    size: int,
    *,
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    groups: Sequence[Hashable] | None = None,
) -> dict[str, Comparison]:
    """Every figure with its interval, and beside the baseline's where ``baselines`` has the same name.

    A figure that cannot be computed (one class only, no variance) is left out; where single resamples cannot be
    computed, the interval is over the others.

    Raises:
        DataError: there are no items.
    """
    baselines = baselines or {}
    named = {("model", name): statistic for name, statistic in statistics.items()}
    named |= {("baseline", name): statistic for name, statistic in baselines.items() if name in statistics}
    once = np.ones((1, size))
    with np.errstate(invalid="ignore", divide="ignore"):
        figures = {key: float(statistic(once)[0]) for key, statistic in named.items()} if size else {}
        drawn: dict[Any, list[Floats]] = {key: [] for key in named}
        for weights in resamples(size, n=n, seed=seed, groups=groups):
            for key, statistic in named.items():
                drawn[key].append(statistic(weights))
    spread = {key: np.concatenate(values) for key, values in drawn.items()}
    compared = {}
    for name in statistics:
        mine, other = ("model", name), ("baseline", name)
        if not np.isfinite(figures[mine]):
            continue
        value = _interval(figures[mine], spread[mine], level)
        if other not in figures or not np.isfinite(figures[other]):
            compared[name] = Comparison(value)
            continue
        compared[name] = Comparison(
            value=value,
            baseline=_interval(figures[other], spread[other], level),
            difference=_interval(figures[mine] - figures[other], spread[mine] - spread[other], level),
        )
    return compared


def figures(statistics: Mapping[str, Statistic], size: int) -> dict[str, float]:
    """The plain figures, without intervals; one that cannot be computed is left out.

    Raises:
        DataError: there are no items.
    """
    if size == 0:
        raise _empty()
    once = np.ones((1, size))
    with np.errstate(invalid="ignore", divide="ignore"):
        values = {name: float(statistic(once)[0]) for name, statistic in statistics.items()}
    return {name: value for name, value in values.items() if np.isfinite(value)}


def resamples(size: int, *, n: int = 1000, seed: int = 0, groups: Sequence[Hashable] | None = None) -> Iterator[Floats]:
    """Weights of ``size`` items in ``n`` resamples, in pieces (R, N): how often each item was drawn.

    Raises:
        DataError: there are no items.
    """
    if size == 0:
        raise _empty()
    random = np.random.default_rng(seed)
    owner = _group_numbers(groups, size)
    count = int(owner.max()) + 1
    step = max(1, _CHUNK // size)
    for start in range(0, n, step):
        drawn = random.multinomial(count, np.full(count, 1 / count), size=min(step, n - start))
        yield drawn.astype(np.float64)[:, owner]


def _interval(figure: float, values: Floats, level: float) -> Interval:
    values = values[np.isfinite(values)]
    if not len(values):
        return Interval(figure, figure, figure)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(figure, float(low), float(high))


def _group_numbers(groups: Sequence[Hashable] | None, size: int) -> NDArray[np.intp]:
    if groups is None:
        return np.arange(size)
    assert len(groups) == size, (len(groups), size)
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.intp)


def _statistic(values: ArrayLike | Callable[[Rows], float], size: int | None) -> tuple[Statistic, int]:
    if not callable(values):
        array = np.asarray(values, dtype=np.float64)
        return mean_of(array), len(array)
    assert size is not None, "a function needs size="
    measure, everything = values, np.arange(size)
    return lambda weights: np.array([measure(np.repeat(everything, row.astype(np.intp))) for row in weights]), size


def _empty() -> DataError:
    return DataError(
        where="evaluation",
        expected="at least one row to judge",
        found="none",
        do="give the split more rows (data.split.test or data.split.valid) or name another table",
    )
