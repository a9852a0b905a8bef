"""Which rows of a table ask about a thing whose box is known, and where that box is in the square that a model sees.

It knows no model's answer and no method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rebus.data.images import decode_image
from rebus.data.names import BOXES
from rebus.data.table import Table
from rebus.errors import DataError
from rebus.explain.faithfulness.pointing import Named, named_in
from rebus.recipe import Recipe
from rebus.tasks import Task
from rebus.tasks.base import Values
from rebus.tasks.cells import as_text, missing

ASKING = ("question", "text", "prompt")  # roles that may name a thing


def boxes_column(table: Table, settings: Recipe) -> str | None:
    """The column that holds boxes: the one of the recipe, or one with a usual name; None: there is none."""
    known = [name for name, kind in settings.data.kinds.items() if kind == "boxes"]
    known += [task.columns["boxes"] for task in settings.tasks if "boxes" in task.columns]
    return next((name for name in (*known, *BOXES) if name in table.columns), None)


def boxes_of(table: Table, column: str, images: Sequence[Any]) -> dict[Any, list[dict[str, Any]]]:
    """image: its boxes, from the first of its rows that has any.

    Raises:
        DataError: a cell holds something else.
    """
    result: dict[Any, list[dict[str, Any]]] = {}
    for row, value in enumerate(table.column(column)):
        if missing(value) or missing(images[row]) or images[row] in result:
            continue
        if not isinstance(value, (list, tuple)) or not all(_is_box(item) for item in value):
            raise DataError(
                f"{table.where(row)}, column '{column}'",
                'a list of {"label": "...", "box": [x0, y0, x1, y1]}, in fractions of the image',
                repr(value)[:60],
                "correct the cell or leave it empty",
            )
        result[images[row]] = list(value)
    return result


def things_asked(task: Task, values: Values, table: Table, rows: Sequence[int], settings: Recipe) -> dict[int, Named]:
    """row: the thing that it is about, for the rows that are about one thing with a box, in fractions of its image.

    It is the thing that the question names; where it names none, that of the true answer. A row that names several is
    left out, as is one whose question and answer name different things: nobody could say which of them to look at.
    """
    column = boxes_column(table, settings)
    if column is None or "image" not in values:
        return {}
    known = boxes_of(table, column, values["image"])
    result: dict[int, Named] = {}
    for row in rows:
        image = values["image"][row]
        boxes = [] if missing(image) else known.get(image, [])
        if not boxes:
            continue
        asked = " ".join(as_text(values[role][row]) for role in ASKING if role in values)
        answer = as_text(task.truth(values, row)) if task.judgeable(values, row) else ""
        about = [box for box in (named_in(asked, boxes), named_in(answer, boxes)) if box is not None]
        several = sum(bool(named_in(text, [box])) for box in boxes for text in (asked, answer))
        if about and len({box.box for box in about}) == 1 and several == len(about):
            result[row] = about[0]
    return result


def placed(things: Mapping[int, Named], values: Values, settings: Recipe, root: str | Path) -> dict[int, Named]:
    """The same things with their boxes in fractions of the square that the model sees; those cut off are left out."""
    entries = {row: _fitted(thing, values["image"][row], settings, root) for row, thing in things.items()}
    return {row: thing for row, thing in entries.items() if thing is not None}


def _fitted(named: Named, image: Any, settings: Recipe, root: str | Path) -> Named | None:
    """The box in the square that the image was fitted to; None where too little of it is left to point at."""
    data = settings.data
    if settings.image.fit not in ("pad", "crop"):
        return named
    shape = decode_image(image, root, pixel_budget=data.pixel_budget, near=settings.image.size).shape
    box = fitted_box(named.box, shape[1], shape[0], settings.image.fit)
    return None if box is None else Named(named.name, box)


def fitted_box(box: Sequence[float], wide: int, high: int, fit: str) -> tuple[float, float, float, float] | None:
    """A box in fractions of an image, as fractions of the square that the image was fitted to.

    Args:
        box: x0, y0, x1, y1.
        wide: of the image, in any unit.
        high: likewise.
        fit: ``pad``: all of it in the middle; ``crop``: its middle; any other: stretched.

    Returns:
        None where less than half of the box is still seen.
    """
    x0, y0, x1, y1 = (float(side) for side in box)
    if fit not in ("pad", "crop"):
        return x0, y0, x1, y1
    side = max(wide, high) if fit == "pad" else min(wide, high)
    across, down = wide / side, high / side
    moved = [
        (x0 - 0.5) * across + 0.5, (y0 - 0.5) * down + 0.5,
        (x1 - 0.5) * across + 0.5, (y1 - 0.5) * down + 0.5,
    ]  # fmt: skip
    seen = [min(1.0, max(0.0, place)) for place in moved]
    before = (moved[2] - moved[0]) * (moved[3] - moved[1])
    after = (seen[2] - seen[0]) * (seen[3] - seen[1])
    return (seen[0], seen[1], seen[2], seen[3]) if after * 2 >= before > 0 else None


def _is_box(value: Any) -> bool:
    if not isinstance(value, Mapping) or "label" not in value or not isinstance(value.get("box"), (list, tuple)):
        return False
    box = value["box"]
    return len(box) == 4 and all(isinstance(side, (int, float)) and side == side for side in box)
