"""How far predicted numbers are from true ones: MAE, RMSE, R2. Knows no model: arrays in, figures out."""

# ruff: noqa: S101 - asserts hold what callers promise, never what users wrote

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rebus.tasks.metrics.intervals import Floats, Statistic, figures, mean_of


def regress_metrics(predictions: ArrayLike, targets: ArrayLike) -> dict[str, float]:
    """Figures over N numbers.

    Returns:
        ``mae`` and ``rmse`` in the target's own unit; ``r2``, the share of its variance that is explained (at most 1,
        negative where the mean would have been better; left out where all targets are equal).

    Raises:
        DataError: there are no items.
    """
    return figures(regress_statistics(predictions, targets), int(np.size(targets)))


def regress_statistics(predictions: ArrayLike, targets: ArrayLike) -> dict[str, Statistic]:
    """The same figures as functions of item weights, for ``intervals.compare``."""
    guess, truth = np.asarray(predictions, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    assert truth.ndim == 1, truth.shape
    assert guess.shape == truth.shape, (guess.shape, truth.shape)
    error = guess - truth
    squared = mean_of(error**2)
    # Centring first keeps the variance exact for large numbers such as years.
    centred = truth - truth.mean() if len(truth) else truth
    varies = bool(np.any(truth != truth[:1]))

    def r2(weights: Floats) -> Floats:
        if not varies:
            return np.full(len(weights), np.nan)
        count = weights.sum(1)
        variance = weights @ centred**2 / count - (weights @ centred / count) ** 2
        return np.asarray(np.where(variance > 0, 1 - squared(weights) / variance, np.nan))

    return {"mae": mean_of(np.abs(error)), "rmse": lambda weights: np.sqrt(squared(weights)), "r2": r2}
