"""Deletion and insertion: what becomes of a score when the parts that a map calls relevant go, or come, first.

If a map is right, taking its most relevant parts away lowers the score at once (a small area under the deletion
curve), and showing them alone raises it at once (a large area under the insertion curve). A random order in the same
measure says what an order that knows nothing gets.

Source: Petsiuk, Das and Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", 2018.
It knows no model: a score is a function of which parts are there.
Letters: P parts, M orders, K steps, N variants.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Kept = NDArray[np.bool_]
Score = Callable[[Kept], Floats]  # (N, P), which parts are there -> (N,)


def order_of(relevance: ArrayLike) -> NDArray[np.intp]:
    """(P,) relevance -> the parts from the most relevant to the least; equal ones in their own order."""
    return np.argsort(-np.asarray(relevance, dtype=np.float64).ravel(), kind="stable")


def random_orders(parts: int, draws: int, seed: int) -> NDArray[np.intp]:
    """(draws, parts) orders that know nothing. For an even number each has its reverse beside it, which lowers the
    spread of their mean.
    """
    rng = np.random.default_rng(seed)
    result: list[NDArray[np.intp]] = []
    while len(result) < draws:
        result.append(rng.permutation(parts))
        if len(result) < draws:
            result.append(result[-1][::-1])
    return np.array(result, dtype=np.intp).reshape(draws, parts)


def counts_of(parts: int, steps: int) -> NDArray[np.intp]:
    """How many parts have been moved after each step, from none to all: (K + 1,), K at most ``steps`` and ``parts``."""
    return np.unique(np.round(np.linspace(0, parts, min(steps, parts) + 1)).astype(np.intp))


def kept(orders: NDArray[np.intp], counts: NDArray[np.intp], *, inserting: bool) -> Kept:
    """Which parts are there at each step of each order: (M, P), (K + 1,) -> (M, K + 1, P)."""
    rank = np.argsort(orders, axis=1)  # (M, P): the place of each part in the order
    moved: Kept = rank[:, None, :] < counts[None, :, None]
    return moved if inserting else ~moved


def curves(score: Score, orders: NDArray[np.intp], *, inserting: bool, steps: int = 12) -> tuple[Floats, Floats]:
    """The score along each order.

    Args:
        score: of variants; asked once for all of them.
        orders: (M, P), each from the most relevant part to the least.
        inserting: parts come instead of going.
        steps: most steps of a curve.

    Returns:
        The share of parts that have gone or come (K + 1,), and the scores (M, K + 1).
    """
    parts = orders.shape[1]
    counts = counts_of(parts, steps)
    variants = kept(orders, counts, inserting=inserting)
    scores = np.asarray(score(variants.reshape(-1, parts)), dtype=np.float64)
    return counts / parts, scores.reshape(len(orders), len(counts))


def area(shares: ArrayLike, scores: ArrayLike) -> Floats:
    """The area under curves (M, K + 1) by the trapezoid rule: the mean score along the way."""
    result: Floats = np.trapezoid(np.asarray(scores, dtype=np.float64), np.asarray(shares, dtype=np.float64), axis=-1)
    return result


def onto_grid(relevance: ArrayLike, side: int) -> Floats:
    """A map (h, w) on a grid of side x side parts: the mean over each part's area.

    Maps of every grid then order the same parts, so that their areas can be compared.
    """
    array = np.asarray(relevance, dtype=np.float64)
    return _overlaps(array.shape[0], side) @ array @ _overlaps(array.shape[1], side).T


def _overlaps(many: int, side: int) -> Floats:
    """(side, many): the share of each of ``side`` equal parts of a line that each of ``many`` equal parts covers."""
    edges, others = np.arange(many + 1) / many, np.arange(side + 1) / side
    low = np.maximum(edges[None, :-1], others[:-1, None])
    high = np.minimum(edges[None, 1:], others[1:, None])
    return np.asarray(np.clip(high - low, 0.0, None) * side)
