"""How honest the maps of each method are, for one task of a model on rows of a table.

Three measures: deletion and insertion curves (``follow``), the pointing game (``pointing``) and what is left of a map
when the weights are random (``sanity``). The first two stand beside what an order or a point that knows nothing gets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rebus.explain.faithfulness.deletion_insertion import RANDOM, follow, side_for
from rebus.explain.faithfulness.figures import Faithfulness, MethodFigures, chosen, interval
from rebus.explain.faithfulness.maps import Maps, likeness
from rebus.explain.faithfulness.pointing import Named, chance, hit
from rebus.explain.faithfulness.sanity import cascade, stages
from rebus.models.vlm import VisionLanguageModel
from rebus.tasks.metrics.intervals import Interval


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        points: most rows of the pointing game.
        curves: most rows of the curves.
        sanity: most rows whose maps are drawn again with random weights.
        steps: most steps of a curve.
        cascade: whether maps are drawn after every stage of the randomisation, not at its end alone.
        tolerance: of the pointing game: how far outside the box a maximum may lie, in fractions of the side.
    """

    points: int = 200
    curves: int = 25
    sanity: int = 8
    steps: int = 12
    cascade: bool = True
    tolerance: float = 0.0

    @classmethod
    def of_rows(cls, rows: int) -> Effort:
        """In proportion to the rows of the pointing game."""
        return cls(points=rows, curves=min(rows, max(8, rows // 8)), sanity=min(rows, max(4, rows // 25)))


@dataclass(frozen=True)
class Measured:
    """The rows that are measured.

    Attributes:
        rows: at least one.
        things: row: the thing with a box that it is about.
        right: row: whether the model answers it rightly; asked of the rows of the pointing game only.
        types: row: the type of its question; None: there are no types.
        groups: row: what rows of one image have in common.
    """

    rows: Sequence[int]
    things: Mapping[int, Named]
    right: Callable[[Sequence[int]], NDArray[np.bool_]]
    types: Callable[[Sequence[int]], list[str] | None] = lambda rows: None
    groups: Callable[[int], str] = str


def measure(
    task: str,
    what: Measured,
    maps: Maps,
    copied: tuple[VisionLanguageModel, Maps],
    methods: Sequence[str],
    *,
    effort: Effort | None = None,
    seed: int = 0,
    log: Callable[[str], None] = lambda _: None,
) -> Faithfulness:
    """Measure methods on rows.

    Args:
        task: its name.
        what: the rows.
        maps: explanations by the model.
        copied: a copy of the model, whose weights are lost, and explanations of the same outputs by that copy.
        methods: by name, in their order of preference; at least one.
        effort: how much.
        seed: of random orders, weights and resamples.
        log: prints a line for people.
    """
    started, effort = time.monotonic(), effort or Effort()
    entries = {name: MethodFigures() for name in methods}
    random: dict[str, Interval] = {}
    pointing = spread([row for row in what.rows if row in what.things], effort.points)
    counts = {"pointing": len(pointing)}
    if pointing:
        log(f"the pointing game: {len(pointing)} questions, {len(methods)} methods")
        counts["pointing_right"] = _point(what, maps, pointing, entries, random, effort.tolerance, seed)
    curved = spread(pointing or what.rows, effort.curves)
    counts["curves"] = len(curved)
    log(f"deletion and insertion: {len(curved)} rows")
    side = side_for(maps.subject(curved[0]).model)
    areas, groups = follow(maps, methods, curved, side, steps=effort.steps, seed=seed)
    for name, kinds in areas.items():
        figures = random if name == RANDOM else entries[name].figures
        for kind, values in kinds.items():
            if len(values) == len(groups[kind]):  # one that says nothing of some rows cannot be compared
                figures[kind] = interval(values, groups[kind], seed)
    shaken = spread(curved, effort.sanity)
    counts["sanity"] = len(shaken)
    log(f"maps with random weights: {len(shaken)} rows")
    _shake(maps, copied, shaken, entries, every=effort.cascade, seed=seed)
    for name, value in entries.items():
        value.seconds = maps.median_seconds(name)
    method, why = chosen(entries, len(pointing))
    settings = {"tolerance": effort.tolerance, "side": side, "steps": effort.steps, "seed": seed}
    return Faithfulness(task, method, why, entries, random, counts, settings, seconds=time.monotonic() - started)


def spread(rows: Sequence[int], most: int) -> list[int]:
    """At most so many rows, evenly from all."""
    if len(rows) <= most:
        return list(rows)
    return [rows[int(place)] for place in np.linspace(0, len(rows) - 1, most).round().astype(int)]


def _point(
    what: Measured,
    maps: Maps,
    rows: Sequence[int],
    method_figures: dict[str, MethodFigures],
    random: dict[str, Interval],
    tolerance: float,
    seed: int,
) -> int:
    """The pointing game of every method that gives maps of images; gives how many rows were answered rightly."""
    right, types = what.right(rows), what.types(rows)
    groups = np.array([what.groups(row) for row in rows])
    boxes = [what.things[row].box for row in rows]
    chances = np.array([chance(box, tolerance) for box in boxes])

    def rates(hits: NDArray[np.float64], figures: dict[str, Interval]) -> None:
        figures["pointing"] = interval(hits, groups, seed)
        if right.any():
            figures["pointing_right"] = interval(hits[right], groups[right], seed)

    rates(chances, random)
    for name, item in method_figures.items():
        drawn = [maps.get(name, row).image for row in rows]
        if any(image is None for image in drawn):
            continue
        hits = np.array([hit(p, box, tolerance) for p, box in zip(drawn, boxes, strict=True) if p is not None])
        rates(hits, item.figures)
        for kind in dict.fromkeys(types or []):
            at = np.array([other == kind for other in types or []])
            shares = {"pointing": hits[at].mean(), "random": chances[at].mean(), "count": at.sum()}
            item.by_type[kind] = {key: float(value) for key, value in shares.items()}
    return int(right.sum())


def _shake(
    maps: Maps,
    copied: tuple[VisionLanguageModel, Maps],
    rows: Sequence[int],
    method_figures: dict[str, MethodFigures],
    *,
    every: bool,
    seed: int,
) -> None:
    """Draw the maps again while the copy's weights are randomised from the top down."""
    model, other = copied
    subjects = [other.subject(row) for row in rows]  # while the copy still says what the model says
    last = stages(model)[-1]
    for stage in cascade(model, seed):
        if not every and stage != last:
            continue
        for name, value in method_figures.items():
            pairs = [(maps.get(name, row), other.draw(at, name)) for row, at in zip(rows, subjects, strict=True)]
            known = [alike for before, after in pairs if (alike := likeness(before, after)) is not None]
            if known:
                value.sanity[stage] = float(np.mean(known))
