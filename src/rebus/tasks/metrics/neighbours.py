"""What the nearest neighbours say: a vote of known vectors on unknown ones. Knows no model.

Letters: N asked, M known, C classes, D width.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TEMPERATURE = 0.07  # of Wu et al.
_PORTION = 512  # asked at once


def vote(
    asked: NDArray[np.float32],
    known: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: int,
    *,
    k: int,
    temperature: float = TEMPERATURE,
    others: bool = False,
) -> NDArray[np.float64]:
    """(N, C) shares of the vote of the k nearest by cosine, each weighing exp(cosine / temperature).

    Of equally near ones the earlier counts as nearer.

    Args:
        asked: (N, D) of length one.
        known: (M, D) of length one.
        labels: (M,) class numbers.
        classes: C.
        k: neighbours.
        temperature: a small one lets the nearest decide.
        others: ``asked`` and ``known`` are the same, and nobody is its own neighbour.

    Source: Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination".
    """
    k = min(k, len(known) - others)
    shares = np.zeros((len(asked), classes))
    for start in range(0, len(asked), _PORTION):
        part = slice(start, min(start + _PORTION, len(asked)))
        cosines = (asked[part] @ known.T).astype(np.float64)  # (n, M)
        if others:
            cosines[np.arange(len(cosines)), np.arange(part.start, part.stop)] = -np.inf
        nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        near = np.take_along_axis(cosines, nearest, axis=1)
        weight = np.exp((near - near.max(1, keepdims=True)) / temperature)
        for place, (who, how) in enumerate(zip(nearest, weight, strict=True), start):
            np.add.at(shares[place], labels[who], how)
    total: NDArray[np.float64] = shares / shares.sum(1, keepdims=True)
    return total
