"""Deletion and insertion of every method over some rows, of images and of texts.

What goes from an image becomes the mean colour of the rows' images; what comes, comes into the image blurred
until nothing can be made out (both as in RISE, see ``curves``). What goes from a text becomes a token that stands for
nothing.
Letters: N variants, P parts, S side of the square.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from rebus.explain.faithfulness.curves import Score, area, curves, onto_grid, order_of, random_orders
from rebus.explain.faithfulness.maps import Maps, on_pieces
from rebus.explain.faithfulness.scorer import Asked
from rebus.models.vlm import VisionLanguageModel

RANDOM = ""  # stands for the random order among the methods
DRAWS = 4  # random orders of each row
MOST = 14  # parts a side that an image is moved in
Areas = dict[str, dict[str, list[float]]]  # method: kind: one area a row


def follow(
    maps: Maps, methods: Sequence[str], rows: Sequence[int], side: int, *, steps: int, seed: int
) -> tuple[Areas, dict[str, list[str]]]:
    """Areas under the curves.

    Args:
        maps: of the rows.
        methods: by name.
        rows: at least one.
        side: parts a side that images are moved in.
        steps: most steps of a curve.
        seed: of the random orders.

    Returns:
        The areas of each method and of ``RANDOM``, and the group of each row that a kind has an area of. A method that
        says nothing of a row's image or text has fewer areas than there are such rows.
    """
    seen = [shown for row in rows if (shown := maps.subject(row).shown) is not None]
    mean = np.mean([value.reshape(-1, 3).mean(0) for value in seen], axis=0).round().astype(np.uint8) if seen else None
    areas: Areas = {name: {} for name in (*methods, RANDOM)}
    groups: dict[str, list[str]] = {}
    for row in rows:
        asked, drawn = maps.asked(row), {name: maps.get(name, row) for name in methods}
        tried: dict[str, tuple[Score, dict[str, NDArray[np.float64]], int]] = {}
        shown = asked.image
        if shown is not None and mean is not None:
            grids = {name: onto_grid(value.image, side) for name, value in drawn.items() if value.image is not None}
            for kind, bare in (("deletion", np.broadcast_to(mean, shown.shape)), ("insertion", blurred(shown))):
                tried[kind] = (image_score(asked, bare, side), grids, side * side)
        if len(asked.spans) > 1:
            entries = {name: on_pieces(value, asked.spans) for name, value in drawn.items() if value.tokens}
            for kind in ("text_deletion", "text_insertion"):
                tried[kind] = (text_score(asked), entries, len(asked.spans))
        for kind, (score, relevance, parts) in tried.items():
            if relevance:
                groups.setdefault(kind, []).append(maps.group(row))
                _add(areas, kind, score, relevance, parts, steps, seed + row)
    return areas, groups


def _add(
    areas: Areas,
    kind: str,
    score: Score,
    relevance: Mapping[str, NDArray[np.float64]],
    parts: int,
    steps: int,
    seed: int,
) -> None:
    """Add the area of each method's order, and the mean of the random ones, for one row."""
    own = np.array([order_of(item) for item in relevance.values()], dtype=np.intp)
    orders = np.concatenate([own, random_orders(parts, DRAWS, seed)])
    result = area(*curves(score, orders, inserting=kind.endswith("insertion"), steps=steps))
    for name, value in zip(relevance, result, strict=False):
        areas[name].setdefault(kind, []).append(float(value))
    areas[RANDOM].setdefault(kind, []).append(float(result[len(own) :].mean()))


def image_score(asked: Asked, bare: NDArray[np.uint8], side: int) -> Score:
    """The score by which parts of the image are there; where one is not, ``bare`` (S, S, 3) is seen."""
    shown = asked.image
    assert shown is not None  # noqa: S101 - the caller looked
    size = shown.shape[0]
    part = (np.arange(size) * side) // size  # the part that each pixel of a line belongs to
    which = part[:, None] * side + part[None, :]  # (S, S)

    def score(kept: NDArray[np.bool_]) -> NDArray[np.float64]:
        return asked.score(np.where(kept[:, which][..., None], shown[None], bare[None]))

    return score


def text_score(asked: Asked) -> Score:
    """The score by which pieces of the text are there."""
    return lambda kept: asked.score(kept=kept)


def blurred(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image in which no thing can be made out: a Gaussian of an eighth of the side."""
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(image.shape[0] / 8)))


def side_for(model: VisionLanguageModel) -> int:
    """Parts a side: as many as the model has image tokens, where these are neither few nor many."""
    tokens = round(model.plan.pooled**0.5) if model.image is not None else 0
    return tokens if 3 <= tokens <= MOST else 8 if tokens < 3 else MOST
