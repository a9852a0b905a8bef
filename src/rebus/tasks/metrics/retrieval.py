"""How well texts are found by what they mean: ranks among all candidates, and rank correlation with people's scores.

Knows no model: vectors or bags of words in, figures out. Letters: R resamples, N rows, M candidates, D width, V words.
"""

# ruff: noqa: S101 - asserts hold what callers promise, never what users wrote

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from rebus.tasks.metrics.intervals import Floats, Statistic, mean_of
from rebus.tasks.metrics.words import words

_PORTION = 256  # candidates, or rows, compared at once
Likeness = Callable[[int, int], Floats]  # rows [start, end) -> (end - start, M)


def ranks(
    queries: Sequence[str], own: Sequence[str], likeness_of: Callable[[Sequence[str]], Likeness]
) -> NDArray[np.float64]:
    """(N,) the place of each query's own text among all rows' texts, 1 the best; equals share their mean place.

    Texts that are right as well, being another row's own for the same query, are passed over, and so is the query.

    Args:
        queries: N texts.
        own: the N right texts, in which one may stand several times.
        likeness_of: the M different ones -> what compares queries with them.
    """
    candidates = list(dict.fromkeys(own))
    place = {text: number for number, text in enumerate(candidates)}
    right: dict[str, set[int]] = {query: {place[query]} if query in place else set() for query in queries}
    for query, text in zip(queries, own, strict=True):
        right[query].add(place[text])
    compare = likeness_of(candidates)
    found = np.zeros(len(queries))
    for start in range(0, len(queries), _PORTION):
        end = min(start + _PORTION, len(queries))
        likeness = compare(start, end)
        for row in range(start, end):
            line, mine = likeness[row - start], place[own[row]]
            counted = np.ones(len(candidates), dtype=bool)
            counted[list(right[queries[row]])] = False
            others = line[counted]
            found[row] = 1 + float((others > line[mine]).sum()) + float((others == line[mine]).sum()) / 2
    return found


def rank_statistics(places: ArrayLike) -> dict[str, Statistic]:
    """``mrr`` (mean of 1 / place), ``recall_at_1`` and ``recall_at_10`` as functions of the rows' weights."""
    at = np.asarray(places, dtype=np.float64)
    return {
        "mrr": mean_of(1 / at),
        "recall_at_1": mean_of((at <= 1).astype(np.float64)),
        "recall_at_10": mean_of((at <= 10).astype(np.float64)),
    }


def spearman(values: ArrayLike, others: ArrayLike) -> Statistic:
    """Spearman's rank correlation of two sets of N numbers as a function of the rows' weights.

    Source: Spearman 1904, "The Proof and Measurement of Association between Two Things"; equals share their mean rank.
    """
    one, two = np.asarray(values, dtype=np.float64), np.asarray(others, dtype=np.float64)
    assert one.shape == two.shape, (one.shape, two.shape)
    ranked = [_weighted_ranks(one), _weighted_ranks(two)]

    def of(weights: Floats) -> Floats:
        count = weights.sum(1, keepdims=True)
        first, second = (rank(weights) for rank in ranked)  # (R, N)
        first -= (weights * first).sum(1, keepdims=True) / count
        second -= (weights * second).sum(1, keepdims=True) / count
        together: Floats = (weights * first * second).sum(1)
        spread: Floats = np.sqrt((weights * first**2).sum(1) * (weights * second**2).sum(1))
        return together / np.where(spread > 0, spread, np.nan)

    return of


def percentile_ranks(values: ArrayLike) -> NDArray[np.float64]:
    """(N,) the share of numbers below each, equals counted half."""
    array = np.asarray(values, dtype=np.float64)
    found: Floats = _weighted_ranks(array)(np.ones((1, len(array))))[0]
    return (found - 0.5) / len(array)


def _weighted_ranks(values: NDArray[np.float64]) -> Statistic:
    """(R, N) weights -> (R, N) mean ranks of numbers that stand as often as their weight says."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))

    def of(weights: Floats) -> Floats:
        summed = np.add.reduceat(weights[:, order], starts, axis=1)  # (R, groups)
        return np.asarray((summed.cumsum(1) - summed / 2 + 0.5)[:, group])

    return of


class WordBags:
    """Texts as bags of words weighed by how rare they are: the likeness that any learned one must beat.

    Source: Salton and Buckley 1988, "Term-weighting Approaches in Automatic Text Retrieval".

    Args:
        texts: what the weights are counted on.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        bags = [set(words(text)) for text in texts]
        counts = Counter(word for bag in bags for word in bag)
        self._rare = {word: math.log((1 + len(bags)) / (1 + count)) + 1 for word, count in counts.items()}
        self._unseen = math.log(1 + len(bags)) + 1

    def bag(self, text: str) -> dict[str, float]:
        """Word: weight, of length one."""
        found = {word: count * self._rare.get(word, self._unseen) for word, count in Counter(words(text)).items()}
        length = math.sqrt(sum(weight**2 for weight in found.values()))
        return {word: weight / length for word, weight in found.items()}

    def cosine(self, one: str, other: str) -> float:
        """How alike two texts are, 0 to 1."""
        first, second = self.bag(one), self.bag(other)
        return sum(weight * second.get(word, 0.0) for word, weight in first.items())

    def likeness(self, queries: Sequence[str], candidates: Sequence[str]) -> Likeness:
        """What compares the queries with all candidates."""
        bags = [self.bag(text) for text in candidates]
        number = {word: place for place, word in enumerate(dict.fromkeys(word for bag in bags for word in bag))}
        entries = [(row, number[word], weight) for row, bag in enumerate(bags) for word, weight in bag.items()]
        at = torch.tensor([[row for row, _, _ in entries], [word for _, word, _ in entries]], dtype=torch.long)
        weights = torch.tensor([weight for *_, weight in entries], dtype=torch.float64)
        size = (len(candidates), max(len(number), 1))
        table = torch.sparse_coo_tensor(at.reshape(2, -1), weights, size, check_invariants=True).coalesce()  # (M, V)

        def compare(start: int, end: int) -> Floats:
            dense = torch.zeros(size[1], end - start, dtype=torch.float64)
            for column, query in enumerate(queries[start:end]):
                for word, weight in self.bag(query).items():
                    if word in number:
                        dense[number[word], column] = weight
            found: NDArray[np.float64] = torch.sparse.mm(table, dense).T.numpy()
            return found

        return compare
