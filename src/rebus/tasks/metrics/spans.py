"""How well spans are found: precision, recall and F1, as seqeval and the CoNLL evaluation define them.

A span counts where its start, its end and its label are all right. Sources: Tjong Kim Sang and De Meulder 2003,
"Introduction to the CoNLL-2003 Shared Task"; Nakayama 2018, seqeval. Knows no model and no tags (see ``data.tagging``).

Letters: R resamples, N rows, C labels.
"""

# ruff: noqa: S101 - asserts hold what callers promise, never what users wrote

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from rebus.data.tagging import Span
from rebus.tasks.metrics.intervals import Floats, Statistic, figures

MOST_LABELS = 20  # whose own F1 is told, the commonest ones


def span_metrics(truth: Sequence[Iterable[Span]], spans: Sequence[Iterable[Span]]) -> dict[str, float]:
    """Figures over the spans of N rows.

    Returns:
        ``precision``, ``recall``, ``f1`` over all spans; ``macro_precision``, ``macro_recall``, ``macro_f1``, the means
        over labels; ``f1 LABEL`` for each label. Where nothing was told (or nothing is true) a share is 0.

    Raises:
        DataError: there are no rows.
    """
    return figures(span_statistics(truth, spans), len(truth))


def span_statistics(truth: Sequence[Iterable[Span]], message: Sequence[Iterable[Span]]) -> dict[str, Statistic]:
    """The same figures as functions of the rows' weights, for ``intervals.compare``."""
    assert len(truth) == len(message), (len(truth), len(message))
    rows = [(Counter(set(right)), Counter(set(text))) for right, text in zip(truth, message, strict=True)]
    every = Counter(label for right, text in rows for *_, label in (*right, *text))
    true_count = Counter(label for right, _ in rows for *_, label in right)
    labels = sorted(every)
    index = {label: place for place, label in enumerate(labels)}
    counts = np.zeros((3, len(rows), max(len(labels), 1)))  # hits, told, true
    for row, (right, text) in enumerate(rows):
        for sort, spans in enumerate((right & text, text, right)):
            for *_, label in spans:
                counts[sort, row, index[label]] += 1
    hits, said_of, right_of = counts

    def micro(which: int) -> Statistic:
        summed = counts.sum(-1)  # (3, N)

        def of(weights: Floats) -> Floats:
            return _shares(weights @ summed[0], weights @ summed[1], weights @ summed[2])[which]

        return of

    def by_label(weights: Floats) -> tuple[list[Floats], NDArray[np.bool_]]:
        hit, text, right = weights @ hits, weights @ said_of, weights @ right_of  # (R, C)
        return _shares(hit, text, right), text + right > 0

    def macro(which: int) -> Statistic:
        def of(weights: Floats) -> Floats:
            shares, there = by_label(weights)
            return np.asarray((shares[which] * there).sum(-1) / np.maximum(there.sum(-1), 1))

        return of

    def single(place: int) -> Statistic:
        def of(weights: Floats) -> Floats:
            shares, there = by_label(weights)
            return np.asarray(np.where(there[:, place], shares[2][:, place], np.nan))

        return of

    names = ("precision", "recall", "f1")
    entries = {name: micro(which) for which, name in enumerate(names)}
    entries |= {f"macro_{name}": macro(which) for which, name in enumerate(names)}
    if len(labels) > 1:
        shown = sorted(true_count, key=lambda label: (-true_count[label], label))[:MOST_LABELS]
        entries |= {f"f1 {label}": single(index[label]) for label in shown}
    return entries


def share_of(part: Sequence[float], whole: Sequence[float]) -> Statistic:
    """The sum of ``part`` over the sum of ``whole``, each (N,): a mean over words rather than rows."""
    over, under = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return lambda weights: weights @ over / (weights @ under)


def _shares(hit: Floats, floats: Floats, right: Floats) -> list[Floats]:
    """Precision, recall and F1; 0 where nothing was said, or nothing is right."""
    precision = np.divide(hit, floats, out=np.zeros_like(hit), where=floats > 0)
    recall = np.divide(hit, right, out=np.zeros_like(hit), where=right > 0)
    both = floats + right
    return [precision, recall, np.divide(2 * hit, both, out=np.zeros_like(hit), where=both > 0)]
