"""How well texts and images are found: ranks among all candidates, and rank correlation with people's scores.

Knows no model: vectors or bags of words in, figures out. Letters: R resamples, N rows, M candidates, D width, V words.
"""

# ruff: noqa: S101 - asserts hold what callers promise, never what users wrote

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from rebus.tasks.metrics.intervals import Floats, Statistic, mean_of
from rebus.tasks.metrics.words import words

_PORTION = 256  # candidates, or rows, compared at once
_DECIMALS = 6  # of cosines: what is nearer than that is equal, whatever order the sums were made in
RECALLS = (1, 5, 10)
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
    array = np.zeros(len(queries))
    for start in range(0, len(queries), _PORTION):
        end = min(start + _PORTION, len(queries))
        likeness = compare(start, end)
        for row in range(start, end):
            line, mine = likeness[row - start], place[own[row]]
            counted = np.ones(len(candidates), dtype=bool)
            counted[list(right[queries[row]])] = False
            others = line[counted]
            array[row] = 1 + float((others > line[mine]).sum()) + float((others == line[mine]).sum()) / 2
    return array


def rank_statistics(places: ArrayLike) -> dict[str, Statistic]:
    """``mrr`` (mean of 1 / place), ``recall_at_1`` and ``recall_at_10`` as functions of the rows' weights."""
    at = np.asarray(places, dtype=np.float64)
    return {
        "mrr": mean_of(1 / at),
        "recall_at_1": mean_of((at <= 1).astype(np.float64)),
        "recall_at_10": mean_of((at <= 10).astype(np.float64)),
    }


@dataclass(frozen=True)
class Places:
    """Where the best right candidate of each of N queries stands.

    Attributes:
        place: (N,) 1 the best.
        hits: k: (N,) whether, or with what chance, it is among the first k.
    """

    place: Floats
    hits: dict[int, Floats]


@dataclass(frozen=True)
class Asked:
    """Questions: which query each is, whose row it is and how much it counts.

    Attributes:
        places: of N queries.
        query: (Q,) one of them for each question.
        row: (Q,) the row it belongs to.
        share: (Q,) its weight, beside the row's.
    """

    places: Places
    query: NDArray[np.intp]
    row: NDArray[np.intp]
    share: Floats

    def recall(self, k: int, size: int) -> Statistic:
        """The share of questions with a right candidate among the first k, of ``size`` rows."""
        got = np.bincount(self.row, self.share * self.places.hits[k][self.query], size)
        asked = np.bincount(self.row, self.share, size)
        return lambda weights: np.asarray(weights @ got / (weights @ asked))

    def median(self) -> Statistic:
        """The median place."""
        place = self.places.place[self.query]
        order = np.argsort(place, kind="stable")
        place, row, share = place[order], self.row[order], self.share[order]

        def of(weights: Floats) -> Floats:
            counted = np.cumsum(weights[:, row] * share, axis=1)
            half = counted[:, -1:] / 2
            low, high = (counted >= half - 1e-9).argmax(1), (counted > half + 1e-9).argmax(1)
            return np.asarray((place[low] + place[high]) / 2)

        return of

    def first(self, size: int) -> Floats:
        """(size,) the share of each row's questions that are answered at the first place."""
        return np.asarray(
            np.bincount(self.row, self.places.hits[1][self.query], size) / np.bincount(self.row, None, size)
        )


def numbered(keys: Sequence[Hashable]) -> tuple[NDArray[np.intp], list[int]]:
    """(N,) a number for each different key, and for each number the place where it stands first."""
    numbers: dict[Hashable, int] = {}
    array = np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.intp)
    firsts = dict(zip(array[::-1].tolist(), range(len(keys) - 1, -1, -1), strict=True))
    return array, [firsts[number] for number in range(len(numbers))]


def best_places(queries: NDArray[np.float32], candidates: NDArray[np.float32], pairs: NDArray[np.intp]) -> Places:
    """The place of each query's best right candidate among all of them, by their products.

    A wrong candidate that is as like the query as the best right one stands before it: what tells nothing apart finds
    nothing, and the order of the candidates decides nothing.

    Args:
        queries: (N, D) of length one.
        candidates: (M, D) of length one.
        pairs: (K, 2) numbers of queries and candidates that belong together; each query has one or more.
    """
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    starts = np.searchsorted(pairs[:, 0], np.arange(len(queries) + 1))
    place = np.zeros(len(queries))
    for start in range(0, len(queries), _PORTION):
        end = min(start + _PORTION, len(queries))
        likeness = np.round(queries[start:end].astype(np.float64) @ candidates.T.astype(np.float64), _DECIMALS)
        mine = pairs[starts[start] : starts[end]]
        right = np.zeros(likeness.shape, dtype=bool)
        right[mine[:, 0] - start, mine[:, 1]] = True
        best = np.where(right, likeness, -np.inf).max(1, keepdims=True)
        place[start:end] = 1 + ((likeness >= best) & ~right).sum(1)
    return Places(place, {k: (place <= k).astype(np.float64) for k in RECALLS})


def chance_places(right: NDArray[np.intp], candidates: int) -> Places:
    """What a random order of the candidates gives on average.

    Args:
        right: (N,) how many candidates are right for each query.
        candidates: how many there are.
    """
    hits = {}
    for k in RECALLS:
        missed = np.ones(len(right))
        for drawn in range(min(k, candidates)):
            missed *= np.maximum(candidates - right - drawn, 0) / (candidates - drawn)
        hits[k] = 1 - missed
    return Places((candidates + 1) / (right + 1.0), hits)


def retrieval_statistics(images: Asked, texts: Asked, size: int) -> dict[str, Statistic]:
    """Recall at 1, 5 and 10 both ways, their mean, and the median places, as functions of the rows' weights."""
    result: dict[str, Statistic] = {}
    for name, asked in (("image_to_text", images), ("text_to_image", texts)):
        result |= {f"{name}_recall_at_{k}": asked.recall(k, size) for k in RECALLS}
    recalls = list(result.values())
    result["mean_recall"] = lambda weights: np.asarray(np.mean([recall(weights) for recall in recalls], axis=0))
    return result | {
        "image_to_text_median_rank": images.median(),
        "text_to_image_median_rank": texts.median(),
    }


def spearman(values: ArrayLike, others: ArrayLike) -> Statistic:
    """Spearman's rank correlation of two sets of N numbers as a function of the rows' weights.

    Source: Spearman 1904, "The Proof and Measurement of Association between Two Things"; equals share their mean rank.
    """
    item, two = np.asarray(values, dtype=np.float64), np.asarray(others, dtype=np.float64)
    assert item.shape == two.shape, (item.shape, two.shape)
    ranked = [_weighted_ranks(item), _weighted_ranks(two)]

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
    result: Floats = _weighted_ranks(array)(np.ones((1, len(array))))[0]
    return (result - 0.5) / len(array)


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
        entries = {word: count * self._rare.get(word, self._unseen) for word, count in Counter(words(text)).items()}
        length = math.sqrt(sum(weight**2 for weight in entries.values()))
        return {word: weight / length for word, weight in entries.items()}

    def cosine(self, text: str, other: str) -> float:
        """How alike two texts are, 0 to 1."""
        first, second = self.bag(text), self.bag(other)
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
            result: NDArray[np.float64] = torch.sparse.mm(table, dense).T.numpy()
            return result

        return compare
