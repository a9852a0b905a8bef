"""How well probabilities fit labels: accuracy, top-5, F1, AUROC, calibration error, average precision.

Knows no model. Every figure is written as a function of item weights (see ``intervals``), which no metrics library
offers and which a bootstrap of a ranking measure needs to be quick; the tests hold them against torchmetrics.

Letters: N items, C classes, R resamples.
"""

# ruff: noqa: S101 - asserts hold what callers promise, never what users wrote

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rebus.errors import TrainingError
from rebus.tasks.metrics.intervals import Floats, Statistic, figures, mean_of

Flags = NDArray[np.bool_]
_BINS = 15
_THRESHOLD = 0.5


def classify_metrics(probabilities: ArrayLike, labels: ArrayLike) -> dict[str, Any]:
    """Figures of a classifier, between 0 and 1.

    Args:
        probabilities: (N, C), rows that sum to 1.
        labels: (N,) class numbers; -1 for a class the model does not know, which is always counted as wrong.

    Returns:
        ``accuracy``; ``top5`` (where C > 5); ``macro_f1`` over classes that were predicted or occur; ``auroc``, one
        class against the rest, averaged over the ``auroc_classes`` classes that occur (left out where there are none);
        ``ece``, the expected calibration error in 15 bins of confidence; ``unknown_labels``, how many labels were -1.

    Raises:
        DataError: there are no items.

    Source of the calibration error: Guo et al. 2017, "On Calibration of Modern Neural Networks".
    """
    chance, truth = _checked(probabilities, labels)
    result: dict[str, Any] = dict(figures(classify_statistics(chance, truth), len(truth)))
    occurs = _one_hot(truth, chance.shape[1]).sum(0)
    result["auroc_classes"] = int(((occurs > 0) & (occurs < len(truth))).sum())
    result["unknown_labels"] = int((truth < 0).sum())
    return result


def classify_statistics(probabilities: ArrayLike, labels: ArrayLike) -> dict[str, Statistic]:
    """The same figures as functions of item weights, for ``intervals.compare``."""
    chance, truth = _checked(probabilities, labels)
    classes = chance.shape[1]
    guess = chance.argmax(1) if classes else np.zeros(len(truth), dtype=np.intp)
    is_truth = _one_hot(truth, classes)
    result: dict[str, Statistic] = {"accuracy": mean_of(guess == truth)}
    if classes > 5:
        best = np.argsort(-chance, axis=1, kind="stable")[:, :5]
        result["top5"] = mean_of((best == truth[:, None]).any(1))
    result["macro_f1"] = _macro_f1(_one_hot(guess, classes), is_truth)
    result["auroc"] = _over_columns(auroc, chance, is_truth)
    result["ece"] = calibration_error(chance.max(1, initial=0.0), guess == truth)
    return result


def tag_metrics(probabilities: ArrayLike, targets: ArrayLike) -> dict[str, Any]:
    """Figures of a tagger (several labels an item), between 0 and 1.

    Args:
        probabilities: (N, C), each on its own between 0 and 1.
        targets: (N, C) of 0 and 1.

    Returns:
        ``map``, average precision averaged over the ``map_classes`` labels that occur; ``micro_f1`` and ``macro_f1``
        (over labels that were predicted or occur) at a threshold of 0.5. A figure without any label to judge is left
        out.

    Raises:
        DataError: there are no items.
    """
    truth = np.asarray(targets).astype(bool)
    result: dict[str, Any] = dict(figures(tag_statistics(probabilities, truth), len(truth)))
    result["map_classes"] = int(truth.any(0).sum())
    return result


def tag_statistics(probabilities: ArrayLike, targets: ArrayLike, known: int | None = None) -> dict[str, Statistic]:
    """The same figures as functions of item weights, for ``intervals.compare``.

    Args:
        probabilities: (N, C).
        targets: (N, C).
        known: the first labels, which the model knows; the average precision of the others is 0. None: all.
    """
    chance, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(targets).astype(bool)
    assert chance.shape == truth.shape, (chance.shape, truth.shape)
    _refuse_no_numbers(chance)
    guess = chance >= _THRESHOLD
    known = truth.shape[1] if known is None else known
    return {
        "map": _shared(_over_columns(average_precision, chance[:, :known], truth[:, :known]), truth, known),
        "micro_f1": _micro_f1(guess, truth),
        "macro_f1": _macro_f1(guess, truth),
    }


def _shared(figure: Statistic, truth: Flags, known: int) -> Statistic:
    """The mean over all labels that occur, where ``figure`` is that of the first ``known`` and the others have 0."""
    if known == truth.shape[1]:
        return figure

    def of(weights: Floats) -> Floats:
        occurs = weights @ truth > 0
        share = occurs[:, :known].sum(1) / np.maximum(occurs.sum(1), 1)
        return np.asarray(np.where(share > 0, figure(weights) * share, 0.0))

    return of


def auroc(scores: Floats, truth: Flags) -> Statistic:
    """Area under the receiver operating characteristic of ``scores`` (N,): how often a positive ranks above a negative.

    Ties count half. NaN where a resample lacks positives or negatives.
    """
    order, positive, above, upto = _ranking(scores, truth)
    hits_above, hits_upto = np.searchsorted(positive, above), np.searchsorted(positive, upto)

    def of(weights: Floats) -> Floats:
        ranked = weights[:, order]
        mine = ranked[:, positive]
        seen, hits = _running(ranked), _running(mine)
        misses = seen[:, -1:] - hits[:, -1:]
        misses_above, misses_upto = seen[:, above] - hits[:, hits_above], seen[:, upto] - hits[:, hits_upto]
        won = mine * (misses - (misses_above + misses_upto) / 2)
        return np.asarray(won.sum(1) / (hits[:, -1] * misses[:, 0]))

    return of


def average_precision(scores: Floats, truth: Flags) -> Statistic:
    """Average precision of ``scores`` (N,): precision at each threshold, weighted by the gain in recall.

    NaN where a resample lacks positives.
    """
    order, positive, _, upto = _ranking(scores, truth)
    hits_upto = np.searchsorted(positive, upto)

    def of(weights: Floats) -> Floats:
        ranked = weights[:, order]
        mine = ranked[:, positive]
        seen, hits = _running(ranked)[:, upto], _running(mine)
        precision = np.divide(hits[:, hits_upto], seen, out=np.zeros_like(seen), where=seen > 0)
        return np.asarray((mine * precision).sum(1) / hits[:, -1])

    return of


def calibration_error(confidence: Floats, right: Flags, bins: int = _BINS) -> Statistic:
    """Expected calibration error: the mean gap between confidence (N,) and accuracy in equal bins of confidence."""
    inside = calibration_bins(confidence, bins)[:, None] == np.arange(bins)
    gap = inside * (confidence - right)[:, None]
    return lambda weights: np.asarray(np.abs(weights @ gap).sum(1) / weights.sum(1))


def calibration_bins(confidence: Floats, bins: int = _BINS) -> NDArray[np.intp]:
    """(N,) the number of the bin (lower bound excluded, upper included) that each confidence falls into."""
    return np.clip(np.ceil(np.asarray(confidence) * bins).astype(np.intp) - 1, 0, bins - 1)


def confusion_matrix(guesses: ArrayLike, labels: ArrayLike, classes: int) -> NDArray[np.intp]:
    """(C, C) counts: row = true class, column = guess. Items with a label of -1 are left out."""
    truth, guess = np.asarray(labels, dtype=np.intp), np.asarray(guesses, dtype=np.intp)
    known = truth >= 0
    counts = np.bincount(truth[known] * classes + guess[known], minlength=classes * classes)
    return counts.reshape(classes, classes)


def _checked(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Floats, NDArray[np.intp]]:
    chance, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.intp)
    assert chance.ndim == 2, chance.shape
    assert truth.shape == chance.shape[:1], (chance.shape, truth.shape)
    _refuse_no_numbers(chance)
    assert not len(truth) or (truth.min() >= -1 and truth.max() < chance.shape[1]), "labels are -1 or class numbers"
    return chance, truth


def _one_hot(labels: NDArray[np.intp], classes: int) -> Flags:
    return np.asarray(labels[:, None] == np.arange(classes))


def _ranking(scores: Floats, truth: Flags) -> tuple[NDArray[np.intp], ...]:
    # Places from the highest score down; among them the positives' (P,); for each of those, how many items rank above
    # it and how many rank no lower, equal scores included.
    order = np.argsort(-scores, kind="stable")
    falling = -scores[order]
    positive = np.flatnonzero(truth[order])
    above = np.searchsorted(falling, falling[positive], side="left")
    upto = np.searchsorted(falling, falling[positive], side="right")
    return order, positive, above, upto


def _running(values: Floats) -> Floats:
    """Sums of the first 0, 1, ..., N values of each row: (R, N) -> (R, N + 1)."""
    sums = np.zeros((values.shape[0], values.shape[1] + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums


def _over_columns(metric: Callable[[Floats, Flags], Statistic], scores: Floats, truth: Flags) -> Statistic:
    """The mean of a metric over the columns (N, C) for which it is defined; NaN where it is for none."""
    occurring = [column for column in range(truth.shape[1]) if truth[:, column].any()]
    columns = [metric(scores[:, column], truth[:, column]) for column in occurring]

    def of(weights: Floats) -> Floats:
        total, count = np.zeros(len(weights)), np.zeros(len(weights))
        for column in columns:
            values = column(weights)
            known = np.isfinite(values)
            total += np.where(known, values, 0.0)
            count += known
        return total / count

    return of


def _counts(weights: Floats, guess: Flags, truth: Flags) -> tuple[Floats, Floats]:
    """Per class (R, C): twice the true positives, and that plus false positives and negatives."""
    return 2 * (weights @ (guess & truth)), weights @ (guess.astype(np.float64) + truth)


def _macro_f1(guess: Flags, truth: Flags) -> Statistic:
    def of(weights: Floats) -> Floats:
        shared, all_of_them = _counts(weights, guess, truth)
        each = np.divide(shared, all_of_them, out=np.zeros_like(shared), where=all_of_them > 0)
        return np.asarray(each.sum(1) / (all_of_them > 0).sum(1))

    return of


def _micro_f1(guess: Flags, truth: Flags) -> Statistic:
    def of(weights: Floats) -> Floats:
        shared, all_of_them = _counts(weights, guess, truth)
        return np.asarray(shared.sum(1) / all_of_them.sum(1))

    return of


def _refuse_no_numbers(chance: Floats) -> None:
    if not np.isfinite(chance).all():
        do = "train anew with a lower train.lr and train.muon_lr"
        raise TrainingError("the model's probabilities", "finite numbers", "inf or nan: the weights are too large", do)
