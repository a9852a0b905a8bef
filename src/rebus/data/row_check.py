"""Which rows a task can use, and what is wrong with those it cannot.

The tasks' own classes lie in a room above; what each needs of a row is said once here in data terms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rebus.data.measures import as_number, is_blank
from rebus.data.table import Table
from rebus.errors import DataError, nearest
from rebus.recipe import TaskSettings

NEEDS: dict[str, tuple[str, ...]] = {  # roles without which a row is of no use to the task
    "caption": ("picture", "caption"),
    "answer": ("question", "answer"),
    "classify": ("label",),
    "tag": ("labels",),
    "regress": ("target",),
    "patches": ("picture", "boxes"),
}
_INPUTS = ("picture", "text")  # of the tasks that read a picture, a text or both


def missing_columns(table: Table, tasks: Sequence[TaskSettings]) -> list[DataError]:
    """An error for each column a task needs and does not have, or names and is not there."""
    errors = []
    for number, task in enumerate(tasks):
        flag = f"--set tasks.{number}.columns"
        for role, column in task.columns.items():
            if column not in table.columns:
                where = f"{table.name}, task '{task.name}', {role}"
                errors.append(DataError(where, "a column that exists", f"'{column}'", nearest(column, table.columns)))
        for role in NEEDS.get(task.name, ()):
            if role not in task.columns:
                where, found = f"{table.name}, task '{task.name}'", f"none among {', '.join(table.columns)}"
                errors.append(DataError(where, f"a column for '{role}'", found, f"name it with {flag}.{role}=COLUMN"))
        if task.name in ("classify", "tag", "regress") and not set(_INPUTS) & set(task.columns):
            where = f"{table.name}, task '{task.name}'"
            errors.append(
                DataError(
                    where, "a picture or a text column to learn from", "neither", f"name one with {flag}.text=COLUMN"
                )
            )
    return errors


class RowCheck:
    """Looks at rows for one task.

    Args:
        table: the rows.
        task: its settings, columns filled in.
        columns: column: values, for the columns the task reads.
        broken: rows whose picture cannot be used.
    """

    def __init__(self, table: Table, task: TaskSettings, columns: dict[str, list[Any]], broken: set[int]) -> None:
        self.table, self.task, self.broken = table, task, broken
        self.values = {role: columns[column] for role, column in task.columns.items()}

    def invalid(self, row: int) -> DataError | None:
        """What is wrong with a value that is there: a target that is no number, boxes that are none."""
        if self.task.name == "regress":
            value = self.values["target"][row]
            number = as_number(value)
            if not is_blank(value) and (number is None or not math.isfinite(number)):
                return self._error(
                    row, "target", "a finite number", repr(value)[:60], "correct it or leave the cell empty"
                )
        if self.task.name == "patches":
            value = self.values["boxes"][row]
            told = None if value is None else _wrong_boxes(value)
            if told is not None:
                expected = 'a list of {"label": "...", "box": [x0, y0, x1, y1]}, in fractions of the picture'
                return self._error(row, "boxes", expected, told, "divide pixels by the picture's width and height")
        return None

    def absent(self, row: int) -> DataError | None:
        """What a row lacks to be of use to this task; None where it lacks nothing."""
        for role in NEEDS.get(self.task.name, ()):
            value = self.values[role][row]
            blank = (
                value is None if role in ("labels", "boxes") else is_blank(value)
            )  # an empty list says "none of them"
            if blank:
                return self._error(row, role, f"a value ({role})", "nothing", "fill the cell in or remove the row")
        inputs = [role for role in _INPUTS if role in self.values]
        if self.task.name in ("classify", "tag", "regress") and all(
            is_blank(self.values[role][row]) for role in inputs
        ):
            return self._error(
                row, inputs[0], f"a value ({' or '.join(inputs)})", "nothing", "fill the cell in or remove the row"
            )
        return None

    def _error(self, row: int, role: str, expected: str, found: str, do: str) -> DataError:
        return DataError(f"{self.table.where(row)}, column '{self.task.columns[role]}'", expected, found, do)


def _wrong_boxes(value: Any) -> str | None:
    if not isinstance(value, list):
        return repr(value)[:60]
    for item in value:
        box = item.get("box") if isinstance(item, dict) else None
        if box is None or is_blank(item.get("label")):
            return f"{item!r}"[:80]
        if len(box) != 4 or not all(isinstance(side, int | float) and 0 <= side <= 1 for side in box):
            return f"the box {box}"[:80]
        if box[0] >= box[2] or box[1] >= box[3]:
            return f"the box {box} without area"[:80]
    return None
