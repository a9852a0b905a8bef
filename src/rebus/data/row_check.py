"""Which rows a task can use, and what is wrong with those it cannot: as the task declares it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from rebus.data import cells, names
from rebus.data.cells import is_blank
from rebus.data.column_kind import quoted
from rebus.data.declared import RowCells, declared, role_of
from rebus.data.measures import as_yes
from rebus.data.role_cells import role_values
from rebus.data.table import Table
from rebus.errors import DataError, nearest
from rebus.recipe import TaskSettings

_SAMPLE = 2000  # cells of a column


def missing_columns(table: Table, tasks: Sequence[TaskSettings], *, inputs: bool = False) -> list[DataError]:
    """An error for each column a task needs and does not have, or names and is not there.

    Args:
        table: the rows.
        tasks: with their columns.
        inputs: whether the model reads other columns than these, so that a task may do without an image and a text.
    """
    errors = []
    columns = f"none among {', '.join(table.columns)}"
    for number, task in enumerate(tasks):
        flag, where, wanted = f"--set tasks.{number}.columns", f"{table.name}, task '{task.name}'", declared(task.name)
        for role, column in task.columns.items():
            if column not in table.columns:
                near = nearest(column, table.columns)
                errors.append(DataError.of("problem.no_column", where=f"{where}, {role}", column=column, hint=near))
        for role in wanted.needed_roles(task.columns):
            if role not in task.columns:
                received = columns + (_why_no_number(table) if role_of(task, role).cells == "number" else "")
                errors.append(
                    DataError(where, f"a column for '{role}'", received, f"name it with {flag}.{role}=COLUMN")
                )
        lacking = wanted.lacking(task.columns)
        if lacking is not None:
            errors.append(DataError(where, lacking, columns, f"name them with {flag}.ROLE=COLUMN"))
        if wanted.needs_one and not inputs and not set(wanted.needs_one) & set(task.columns):
            some = " or ".join(f"{'an' if role[0] in 'aeiou' else 'a'} {role}" for role in wanted.needs_one)
            do = f"name one with {flag}.{wanted.needs_one[-1]}=COLUMN"
            errors.append(DataError(where, f"{some} column to learn from", "neither", do))
    return errors


def _why_no_number(table: Table) -> str:
    """Why a column that may be meant as the number is none: the cells that are not."""
    meant = []
    for name in table.columns:
        column = table.arrow_column(name)
        if pa.types.is_string(column.type):
            written = cells.numbers(column.slice(0, _SAMPLE).to_pylist())
            meant.append((names.named(name, names.TARGET), written.share, name, written))
    if not meant:
        return ""
    named, share, name, written = max(meant, key=lambda candidate: candidate[:2])
    if not written.unlike or not (named or share):
        return ""
    shown = ", ".join(f"'{cell}'" if len(cell) < 40 else f"'{cell[:37]}...'" for cell in written.unlike)
    return f"; in '{name}', {written.total - written.count} of {written.total} cells are no numbers, e.g. {shown}"


class RowCheck:
    """Looks at rows for one task.

    Args:
        table: the rows.
        task: its settings, columns filled in.
        columns: column: values, for the columns the task reads.
        inputs: whether the model reads other columns too, so that a row may lack image and text.

    Attributes:
        cells: what the task reads, with notes and warnings about the whole.
    """

    def __init__(
        self, table: Table, task: TaskSettings, columns: Mapping[str, Sequence[Any]], *, inputs: bool = False
    ) -> None:
        self.task, self.wanted, self._inputs = task, declared(task.name), inputs
        self.values = {role: role_values(task, role, columns[column]) for role, column in task.columns.items()}
        self.cells = RowCells(table, task, self.values)
        self._checker = self.wanted.checker(self.cells)
        self._reads = {role: role_of(task, role).cells for role in self.values}
        self._checked = [role for role, reads in self._reads.items() if reads in ("yes", "boxes", "number")]

    def invalid(self, row: int) -> DataError | None:
        """What is wrong with a value that is there: a target that is no number, boxes that are none."""
        for role in self._checked:
            if (error := self._wrong_cell(row, role)) is not None:
                return error
        return self._checker(row)

    def absent(self, row: int) -> DataError | None:
        """What a row lacks to be of use to this task; None where it lacks nothing."""
        lacking = self._lacking(row)
        if not lacking:
            return None
        role, either = lacking[0], [role for role in self.wanted.needs_one if role in self.values]
        expected = self.wanted.row_content or f"a value ({' or '.join(either) if role in either else role})"
        return self.cells.error(row, role, expected, "nothing", "fill the cell in or remove the row")

    def unlabelled(self, row: int) -> bool:
        """Whether a row holds everything but what is to be predicted."""
        return self._lacking(row) == [self.wanted.target_role]

    def target(self) -> str | None:
        """The column of what is to be predicted."""
        return self.task.columns.get(self.wanted.target_role or "")

    def _wrong_cell(self, row: int, role: str) -> DataError | None:
        value, reads = self.values[role][row], self._reads[role]
        if reads == "boxes":
            wrong = None if value is None else _wrong_boxes(value)
            expected = 'a list of {"label": "...", "box": [x0, y0, x1, y1]}, in fractions of the image'
            do = "divide pixels by the image's width and height"
            return None if wrong is None else self.cells.error(row, role, expected, wrong, do)
        if is_blank(value):
            return None
        if reads == "yes" and as_yes(value) is None:
            do = "write yes or no (是 or 否, 1 or 0), or leave the cell empty"
            return self.cells.error(row, role, "whether the text belongs to the image", repr(value)[:60], do)
        if reads == "number" and self.wanted.roles[role].required:
            return self._wrong_number(row, role, value)
        return None

    def _wrong_number(self, row: int, role: str, value: Any) -> DataError | None:
        if isinstance(value, float) and math.isfinite(value):
            return None
        other: cells.NumberStyle = "point" if self.task.numbers == "comma" else "comma"
        do = "correct it or leave the cell empty"
        if isinstance(value, str) and cells.number(value, other) is not None:
            column = quoted(self.task.columns[role])
            do += f"; if all numbers have a decimal {other}: --set data.numbers.{column}={other}"
        return self.cells.error(row, role, "a finite number", repr(self.cells.written(row, role))[:60], do)

    def _lacking(self, row: int) -> list[str]:
        """Roles that a row needs and holds nothing for."""
        lacking = [role for role in self.wanted.needed_roles(self.values) if self._blank(role, row)]
        either = [role for role in self.wanted.needs_one if role in self.values]
        if either and not self._inputs and all(self._blank(role, row) for role in either):
            lacking += either[:1]
        return lacking

    def _blank(self, role: str, row: int) -> bool:
        value = self.values[role][row]  # an empty list of labels says "none of them"
        return value is None if self._reads[role] in ("labels", "boxes", "tags") else is_blank(value)


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
