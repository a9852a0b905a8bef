"""A table's columns as the roles of a task take them: labels as labels, numbers as numbers, blanks as None.

Training, the check, evaluation, ``predict`` and the server all read columns here, so a cell means the same to all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from rebus.data import cells
from rebus.data.declared import role_of
from rebus.data.lists import parse_list
from rebus.data.table import Column, Table
from rebus.recipe import Data, TaskSettings

_SAMPLE = 200


def role_values(task: TaskSettings, role: str, values: Sequence[Any]) -> Sequence[Any]:
    """A column's cells as a role takes them.

    Args:
        task: whose role it is; its settings say what is blank, what divides labels and how numbers are written.
        role: the role.
        values: the column's cells, as the table holds them.
    """
    read = reader_of(task, role)
    if role_of(task, role).several and _all_lists(values):
        read = _parsed
    return Read(values, read) if isinstance(values, Column) else [read(value) for value in values]


def reader_of(task: TaskSettings, role: str) -> Callable[[Any], Any]:
    """What reads one cell for a role; see ``role_values``."""
    wanted = role_of(task, role)
    words = cells.blank_words(is_data(task, role), task.blanks)
    match wanted.cells:
        case "tags" | "raw":
            return _as_it_is
        case "labels":
            return partial(_labels, separator=task.separator, words=words)
        case "label" | "yes":
            return partial(_label, words=words)
        case "number":
            return partial(_number, style=task.numbers or "point", words=words)
    read = partial(_filled, words=words)
    return partial(_list, read=read) if wanted.lists or wanted.cells == "boxes" else read


def is_number(task: TaskSettings, role: str) -> bool:
    """Whether a role's cells are numbers."""
    return role_of(task, role).cells == "number"


def is_data(task: TaskSettings, role: str) -> bool:
    """Whether a role's cells are labels, numbers or paths rather than texts; see ``cells.blank_words``."""
    return role_of(task, role).cells not in ("text", "tags", "raw")


def settled(tasks: Sequence[TaskSettings], table: Table, data: Data) -> list[TaskSettings]:
    """Tasks with what ``data`` says, or the cells show, of blanks, numbers and separators filled in.

    A Run keeps them, so that other tables are read as the training table was.
    """
    return [_settled(task, table, data) for task in tasks]


def _settled(task: TaskSettings, table: Table, data: Data) -> TaskSettings:
    if task.blanks is None and data.blanks is not None:
        task = task.replace(blanks=data.blanks)
    words = cells.blank_words(True, task.blanks)
    for role, column in task.columns.items():
        if column not in table.columns or role_of(task, role).cells not in ("number", "labels"):
            continue
        known = [value for value in table.column(column) if not cells.is_blank(value, words)]
        texts = [value for value in known if isinstance(value, str)]
        labels = role_of(task, role).cells == "labels"
        if labels and task.separator is None:
            task = task.replace(separator=data.separators.get(column, cells.found_separator(texts)))
        elif not labels and task.numbers is None:
            task = task.replace(numbers=data.numbers.get(column) or cells.numbers(texts, words=words).style)
    return task


class Read(Sequence[Any]):
    """A column's cells, each read when it is asked for."""

    def __init__(self, values: Sequence[Any], read: Callable[[Any], Any]) -> None:
        self._values, self._read = values, read

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._read(value) for value in self._values[index]]
        return self._read(self._values[index])

    def __iter__(self) -> Iterator[Any]:
        return map(self._read, self._values)


def _all_lists(values: Sequence[Any]) -> bool:
    """Whether every cell of a column that holds something is a list written as text."""
    step = max(1, len(values) // _SAMPLE)
    known = [value for value in values[::step] if not cells.is_blank(value)]
    return bool(known) and all(isinstance(item, str) and parse_list(item) is not None for item in known)


def _as_it_is(value: Any) -> Any:
    return value


def _filled(value: Any, words: Sequence[str]) -> Any:
    if isinstance(value, (list, tuple)):
        return value
    return None if cells.is_blank(value, words) else value


def _list(value: Any, read: Callable[[Any], Any]) -> Any:
    value = read(value)
    listed = parse_list(value) if isinstance(value, str) else None
    return value if listed is None else listed


def _parsed(value: Any) -> Any:
    return None if value is None else parse_list(value) if isinstance(value, str) else value


def _label(value: Any, words: Sequence[str]) -> str | None:
    return None if cells.is_blank(value, words) else cells.label(value)


def _labels(value: Any, separator: str | None, words: Sequence[str]) -> list[str] | None:
    if isinstance(value, (list, tuple)) or not cells.is_blank(value, words):
        return cells.labels(value, separator, words)
    return None


def _number(value: Any, style: cells.NumberStyle, words: Sequence[str]) -> Any:
    """The number; a cell that is none stays as it is, for the message that names it."""
    if cells.is_blank(value, words):
        return None
    read = cells.number(value, style)
    return value if read is None else read
