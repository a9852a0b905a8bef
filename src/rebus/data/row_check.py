"""Which rows a task can use, and what is wrong with those it cannot.

The tasks' own classes lie in a room above; what each needs of a row is said once here in data terms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from rebus.data import cells, names
from rebus.data.cells import is_blank
from rebus.data.choices import LETTERS, AnswerStyle, row_choices, wrong_choices
from rebus.data.column_kind import quoted
from rebus.data.declared import declared
from rebus.data.marks import Marks, wrong_answer
from rebus.data.measures import as_yes
from rebus.data.messages import answered, history_of, turns_of
from rebus.data.role_cells import is_number, role_values
from rebus.data.table import Table
from rebus.errors import DataError, nearest
from rebus.recipe import TaskSettings

NEEDS: dict[str, tuple[str, ...]] = {  # roles without which a row is of no use to the task
    "caption": ("image", "caption"),
    "answer": ("question", "answer"),
    "classify": ("label",),
    "tag": ("labels",),
    "regress": ("target",),
    "patch_classify": ("image", "boxes"),
    "pretrain_image": ("image",),
    "generate": ("prompt", "output"),
    "translate": ("source", "target"),
    "choose": ("question", "answer"),
    "lm": ("text",),
    "mlm": ("text",),
    "ner": ("tokens", "tags"),
    "extract": ("question", "passage"),
    "similar": ("anchor", "positive"),
    "retrieve": ("image", "text"),
    "match": ("image", "text"),
}
TARGETS: dict[str, str] = {  # the role that holds what is to be predicted
    "caption": "caption",
    "answer": "answer",
    "classify": "label",
    "tag": "labels",
    "regress": "target",
    "patch_classify": "boxes",
    "generate": "output",
    "translate": "target",
    "choose": "answer",
    "ner": "tags",
    "match": "label",
    "converse": "output",
}
_LOOKED_AT = 2000  # cells of a column
_INPUTS = ("image", "text")  # of the tasks that read an image, a text or both


def needed_roles(task: str) -> tuple[str, ...]:
    """Roles without which a row is of no use to a task: listed here, or as a task of another package declares."""
    if task in NEEDS or task == "converse":
        return NEEDS.get(task, ())
    return tuple(role for role, wanted in declared(task).items() if wanted.required)


def missing_columns(table: Table, tasks: Sequence[TaskSettings]) -> list[DataError]:
    """An error for each column a task needs and does not have, or names and is not there."""
    errors = []
    for number, task in enumerate(tasks):
        flag = f"--set tasks.{number}.columns"
        for role, column in task.columns.items():
            if column not in table.columns:
                where = f"{table.name}, task '{task.name}', {role}"
                errors.append(DataError(where, "a column that exists", f"'{column}'", nearest(column, table.columns)))
        for role in needed_roles(task.name):
            if role not in task.columns:
                where, found = f"{table.name}, task '{task.name}'", f"none among {', '.join(table.columns)}"
                found += _why_no_number(table) if is_number(task, role) else ""
                errors.append(DataError(where, f"a column for '{role}'", found, f"name it with {flag}.{role}=COLUMN"))
        lacking = _lacks_either(task)
        if lacking is not None:
            where = f"{table.name}, task '{task.name}'"
            found = f"none among {', '.join(table.columns)}"
            errors.append(DataError(where, lacking, found, f"name them with {flag}.ROLE=COLUMN"))
        if task.name in ("classify", "tag", "regress") and not set(_INPUTS) & set(task.columns):
            where = f"{table.name}, task '{task.name}'"
            errors.append(
                DataError(
                    where, "an image or a text column to learn from", "neither", f"name one with {flag}.text=COLUMN"
                )
            )
    return errors


def _why_no_number(table: Table) -> str:
    """Why a column that may be meant as the number is none: the cells that are not."""
    meant = []
    for name in table.columns:
        column = table.arrow_column(name)
        if pa.types.is_string(column.type):
            written = cells.numbers(column.slice(0, _LOOKED_AT).to_pylist())
            meant.append((names.named(name, names.TARGET), written.share, name, written))
    if not meant:
        return ""
    named, share, name, written = max(meant, key=lambda one: one[:2])
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
        broken: rows whose image cannot be used.
    """

    def __init__(self, table: Table, task: TaskSettings, columns: dict[str, list[Any]], broken: set[int]) -> None:
        self.table, self.task, self.broken = table, task, broken
        self.values = {role: role_values(task, role, columns[column]) for role, column in task.columns.items()}
        if task.name == "choose":
            options = [row_choices(self.values, row) for row in range(len(table))]
            self.style = AnswerStyle.of(self.values["answer"], options)
        if task.name == "ner":
            self.marks = Marks.of(self.values["tokens"], self.values["tags"], task.label_names)

    def invalid(self, row: int) -> DataError | None:
        """What is wrong with a value that is there: a target that is no number, boxes that are none."""
        if self.task.name == "regress":
            value = self.values["target"][row]
            if not is_blank(value) and not (isinstance(value, float) and math.isfinite(value)):
                other: cells.NumberStyle = "point" if self.task.numbers == "comma" else "comma"
                do = "correct it or leave the cell empty"
                if isinstance(value, str) and cells.number(value, other) is not None:
                    column = self.task.columns["target"]
                    do += f"; if all numbers have a decimal {other}: --set data.numbers.{quoted(column)}={other}"
                return self._error(row, "target", "a finite number", repr(self._written(row, "target"))[:60], do)
        if self.task.name == "match" and "label" in self.values:
            value = self.values["label"][row]
            if not is_blank(value) and as_yes(value) is None:
                do = "write yes or no (是 or 否, 1 or 0), or leave the cell empty"
                return self._error(row, "label", "whether the text belongs to the image", repr(value)[:60], do)
        if self.task.name == "converse":
            return self._wrong_turns(row)
        if self.task.name == "ner" and (cell := self.values["tags"][row]) is not None:
            text = self.values["tokens"][row]
            wrong = None if text is None else self.marks.wrong(text, cell)
            return None if wrong is None else self._error(row, "tags", *wrong)
        if self.task.name == "extract" and "answer" in self.values:
            start = self.values["start"][row] if "start" in self.values else None
            wrong = wrong_answer(self.values["passage"][row], self.values["answer"][row], start)
            return None if wrong is None else self._error(row, "answer", *wrong)
        if self.task.name == "choose" and not is_blank(self.values["question"][row]):
            answer = self.values["answer"][row]
            role = next(role for role in ("choices", *LETTERS) if role in self.values)
            where = f"{self.table.where(row)}, column '{self.task.columns[role]}'"
            return wrong_choices(row_choices(self.values, row), answer, self.style, where)
        if self.task.name == "patch_classify":
            value = self.values["boxes"][row]
            told = None if value is None else _wrong_boxes(value)
            if told is not None:
                expected = 'a list of {"label": "...", "box": [x0, y0, x1, y1]}, in fractions of the image'
                return self._error(row, "boxes", expected, told, "divide pixels by the image's width and height")
        return None

    def absent(self, row: int) -> DataError | None:
        """What a row lacks to be of use to this task; None where it lacks nothing."""
        lacking = self._lacking(row)
        if not lacking:
            return None
        role, inputs = lacking[0], [role for role in _INPUTS if role in self.values]
        expected = f"a value ({' or '.join(inputs)})" if role in _INPUTS else f"a value ({role})"
        if self.task.name == "converse":
            expected = "a conversation"
        elif role in needed_roles(self.task.name):
            expected = f"a value ({role})"
        return self._error(row, role, expected, "nothing", "fill the cell in or remove the row")

    def unlabelled(self, row: int) -> bool:
        """Whether a row holds everything but what is to be predicted."""
        return self._lacking(row) == [TARGETS.get(self.task.name)]

    def target(self) -> str | None:
        """The column of what is to be predicted."""
        return self.task.columns.get(TARGETS.get(self.task.name, ""))

    def _written(self, row: int, role: str) -> Any:
        """A cell as the table holds it."""
        return self.table.value(row, self.task.columns[role])

    def _lacking(self, row: int) -> list[str]:
        """Roles that a row needs and holds nothing for."""
        lacking = [role for role in needed_roles(self.task.name) if self._blank(role, row)]
        if self.task.name == "converse":
            needs = ("messages",) if "messages" in self.values else ("prompt", "output")
            lacking += [role for role in needs if self._blank(role, row)]
        inputs = [role for role in _INPUTS if role in self.values]
        if self.task.name in ("classify", "tag", "regress") and all(self._blank(role, row) for role in inputs):
            lacking += inputs[:1]
        return lacking

    def _blank(self, role: str, row: int) -> bool:
        value = self.values[role][row]  # an empty list of labels says "none of them"
        return value is None if role in ("labels", "boxes", "tags") else is_blank(value)

    def _wrong_turns(self, row: int) -> DataError | None:
        """What is wrong with a conversation: its layout, or that nobody answers in it."""
        if "history" in self.values and not is_blank(earlier := self.values["history"][row]):
            try:
                history_of(earlier, f"{self.table.where(row)}, column '{self.task.columns['history']}'")
            except DataError as error:
                return error
        for role in ("messages", "prompt", "output"):
            value = self.values[role][row] if role in self.values else None
            if value is None or (isinstance(value, str) and (role != "messages" or not value.strip())):
                continue
            where = f"{self.table.where(row)}, column '{self.task.columns[role]}'"
            images: list[Any] = []
            try:
                turns = turns_of(value, where, images)
            except DataError as error:
                return error
            if images and "image" not in self.values:
                found = f"{len(images)} inside the turns"
                return DataError(where, "images in a column of their own", found, "write them to a column 'images'")
            if role != "prompt" and answered(turns) is None:
                do = "correct that row, or leave it out with --set data.on_bad=skip"
                return DataError(where, "at least one turn of the assistant's, to learn", "none", do)
        return None

    def _error(self, row: int, role: str, expected: str, found: str, do: str) -> DataError:
        return DataError(f"{self.table.where(row)}, column '{self.task.columns[role]}'", expected, found, do)


def _lacks_either(task: TaskSettings) -> str | None:
    """What a task needs one way or another, where it has neither."""
    if task.name == "converse" and "messages" not in task.columns and not {"prompt", "output"} <= set(task.columns):
        return "a column of conversations ('messages'), or 'prompt' and 'output'"
    if task.name == "choose" and "choices" not in task.columns and not {"A", "B"} <= set(task.columns):
        return "a column of choices ('choices'), or one each ('A', 'B', ...)"
    return None


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
