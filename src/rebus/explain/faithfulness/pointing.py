"""The pointing game: does the most relevant point of a map lie on the thing that was asked about?

Source: Zhang, Bargal, Lin, Brandt, Shen and Sclaroff, "Top-down Neural Attention by Excitation Backprop", 2018.
It knows no model. Places are fractions of the square image's side, from the left and the top; letters: h, w rows
and columns of a map.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rebus.tasks.cells import as_labels
from rebus.tasks.metrics.words import has_cjk

Box = Sequence[float]  # x0, y0, x1, y1


@dataclass(frozen=True)
class Named:
    """The thing that a question is about.

    Attributes:
        name: the word that names it in the question.
        box: where it is.
    """

    name: str
    box: tuple[float, float, float, float]


def hit(relevance: ArrayLike, box: Box, tolerance: float = 0.0) -> float:
    """Whether the maximum of a map (h, w) lies in the box: 1 or 0.

    The maximum is the centre of the map's most relevant part. Where several parts share it, the share of them in the
    box counts: so the answer does not depend on how a grid is read, and a map that says nothing gets what a random
    part would get.

    Args:
        relevance: the map; parts that are not a number are least relevant.
        box: of the thing.
        tolerance: how far outside the box the maximum may lie, in fractions of the side.
    """
    array = np.asarray(relevance, dtype=np.float64)
    array = np.where(np.isnan(array), -np.inf, array)
    rows, columns = np.nonzero(array == array.max())
    down, across = (rows + 0.5) / array.shape[0], (columns + 0.5) / array.shape[1]
    return float(inside(across, down, box, tolerance).mean())


def inside(x: NDArray[Any], y: NDArray[Any], box: Box, tolerance: float = 0.0) -> NDArray[np.bool_]:
    """Which of the points lie in the box, edges among it, or within the tolerance of it."""
    x0, y0, x1, y1 = (float(side) for side in box)
    result: NDArray[np.bool_] = (
        (x >= x0 - tolerance) & (x <= x1 + tolerance) & (y >= y0 - tolerance) & (y <= y1 + tolerance)
    )
    return result


def chance(box: Box, tolerance: float = 0.0) -> float:
    """How likely a random point of the image is to count as a hit: the box's area with its tolerance."""
    x0, y0, x1, y1 = (float(side) for side in box)
    wide = min(1.0, x1 + tolerance) - max(0.0, x0 - tolerance)
    high = min(1.0, y1 + tolerance) - max(0.0, y0 - tolerance)
    return max(0.0, wide) * max(0.0, high)


def named_in(text: str, boxes: Iterable[Mapping[str, Any]]) -> Named | None:
    """The one thing of an image that a text names; None where it names none, or several.

    Args:
        text: a question.
        boxes: ``{"label": "dog|狗", "box": [x0, y0, x1, y1]}``: a label may hold several names of a thing.

    A longer name hides a shorter one inside it: "hot dog" does not name a dog.
    """
    result: list[tuple[int, int, Named]] = []
    for box in boxes:
        x0, y0, x1, y1 = (float(side) for side in box["box"])
        for name in as_labels(box["label"]):
            result += [(start, start + len(name), Named(name, (x0, y0, x1, y1))) for start in _places(name, text)]
    whole = [
        box
        for start, end, box in result
        if not any(a <= start and end <= b and (b - a) > (end - start) for a, b, _ in result)
    ]
    return whole[0] if len({box.box for box in whole}) == 1 else None


def _places(name: str, text: str) -> list[int]:
    """Where a name stands in a text, as a whole word in scripts that have spaces; a plural -s is no other word."""
    low, wanted = text.casefold(), name.casefold()
    if len(low) != len(text):  # a letter that has no single lower case would move the places
        low, wanted = text, name
    places, start = [], low.find(wanted) if wanted else -1
    while start >= 0:
        end = start + len(wanted)
        if has_cjk(name) or not (_letter(low, start - 1) or _letter(low, end + (low[end : end + 1] == "s"))):
            places.append(start)
        start = low.find(wanted, start + 1)
    return places


def _letter(text: str, at: int) -> bool:
    return 0 <= at < len(text) and text[at].isalnum()
