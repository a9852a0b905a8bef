"""The maps of several methods for the rows that are measured: each made once, its time kept."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rebus.explain.faithfulness.sanity import rank_correlation
from rebus.explain.faithfulness.scorer import Asked
from rebus.explain.result import Explanation
from rebus.explain.subject import Subject

Begin = Callable[[int], Subject]  # row -> the example, and what was said of it
Draw = Callable[[Subject, str], Explanation]  # subject, method -> its explanation


class Maps:
    """Explanations of rows.

    Args:
        begin: gives a row's subject.
        draw: explains it by a method.
        groups: row: what rows of one image have in common.

    Attributes:
        seconds: method: how long each explanation took.
    """

    def __init__(self, begin: Begin, draw: Draw, groups: Callable[[int], str] = str) -> None:
        self.begin, self.draw, self.group = begin, draw, groups
        self.seconds: dict[str, list[float]] = {}
        self._subjects: dict[int, Subject] = {}
        self._made: dict[tuple[str, int], Explanation] = {}

    def subject(self, row: int) -> Subject:
        """The row's subject."""
        if row not in self._subjects:
            self._subjects[row] = self.begin(row)
        return self._subjects[row]

    def asked(self, row: int) -> Asked:
        """The row's score, to be read again."""
        return Asked(self.subject(row))

    def get(self, method: str, row: int) -> Explanation:
        """The row explained by a method."""
        if (method, row) not in self._made:
            subject, started = self.subject(row), time.monotonic()
            self._made[method, row] = self.draw(subject, method)
            self.seconds.setdefault(method, []).append(time.monotonic() - started)
        return self._made[method, row]

    def median_seconds(self, method: str) -> float:
        """Of one explanation."""
        return float(np.median(self.seconds[method])) if self.seconds.get(method) else 0.0


def likeness(explanation: Explanation, other: Explanation) -> float | None:
    """The rank correlation of two maps of an image, or of a text's scores where there is no map; None without both."""
    if explanation.image is not None and other.image is not None:
        return rank_correlation(explanation.image, other.image)
    if explanation.tokens and len(explanation.tokens) == len(other.tokens) > 1:
        return rank_correlation([token.score for token in explanation.tokens], [token.score for token in other.tokens])
    return None


def on_pieces(explanation: Explanation, spans: list[tuple[int, int]]) -> NDArray[np.float64]:
    """(T,) the relevance of each piece of the text: of the token that it shares most characters with."""
    array = np.zeros(len(spans))
    for place, (start, end) in enumerate(spans):
        shared = [min(end, token.end) - max(start, token.start) for token in explanation.tokens]
        best = int(np.argmax(shared))
        array[place] = explanation.tokens[best].score if shared[best] > 0 else 0.0
    return array
