"""Which columns of a table are inputs by themselves: numbers, categories and dates; and why the others are not.

A column is one unless it is read by a task as something else, deals the rows, tells rows apart (an id), holds the same
everywhere, or was said to be ignored. It knows no model; how cells are read is in ``rebus.data.tabular_cells``.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rebus.catalogue import Note, named
from rebus.data import cells, names
from rebus.data.column_kind import guess_kind, quoted
from rebus.data.role_cells import is_number, role_values
from rebus.data.splits import split_column
from rebus.data.table import Table
from rebus.data.tabular_cells import CellReading, ColumnKind, are_dates, reading_of
from rebus.errors import DataError, nearest
from rebus.recipe import Data, Kind, TaskSettings

KINDS: tuple[ColumnKind, ...] = ("number", "category", "date")
MOST = 1000  # columns that are read
_ALIKE = 0.995  # share of rows in which a column that gives the target away may do so
_LEAST = 10  # rows from which that can be said
SHOWN = 20  # columns that a note names
_SAMPLE = 5000  # rows that are looked at for it
# names of what only tells rows and their sources apart; other remarks on a row (type, style, date) are inputs
_PROVENANCE = (
    *("split", "group", "id", "index", "idx", "uid", "uuid", "key", "source", "url", "uri", "link", "license"),
    *("licence", "folder", "width", "height", "scene", "seed", "md5", "sha1", "sha256", "hash", "row", "name"),
    *("file", "filename", "file_name", "path", "划分", "分组", "编号", "序号", "来源", "链接", "许可", "姓名", "名称"),
)


@dataclass
class TabularColumns:
    """The columns of a table that are inputs by themselves.

    Attributes:
        readings: column: how it is read, in the table's order.
        left_out: column: why it is none, for columns that no task reads either.
        notes: for people: which columns are inputs and which are left out.
        warnings: readings that another comes close to; columns that give a target away.
    """

    readings: dict[str, CellReading] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def tabular_columns(
    table: Table,
    kinds: Mapping[str, Kind],
    tasks: Sequence[TaskSettings],
    data: Data,
    wording: Mapping[str, Kind] | None = None,
) -> TabularColumns:
    """Choose the columns, by their names and cells.

    Args:
        table: the rows.
        kinds: column: kind, as guessed or as the user says.
        tasks: with the columns they read.
        data: ``inputs`` may name the columns, ``ignore`` leaves some out.
        wording: column: kind, where the user says it.

    Raises:
        DataError: a column that ``data.inputs.tabular`` or ``data.ignore`` names does not exist, or is a task's.
    """
    chosen, asked, wording = TabularColumns(), data.inputs.get("tabular"), wording or {}
    read = {column: task for task in tasks for column in task.columns.values()}
    others = [column for name, columns in data.inputs.items() if name != "tabular" for column in columns]
    dealing = {data.split.group, split_column(table, data.split)}
    for key, columns in (("inputs.tabular", asked or ()), ("ignore", data.ignore)):
        for name in columns:
            if name not in table.columns:
                do = nearest(name, table.columns)
                raise DataError(f"{table.name}, data.{key}", "a column that exists", f"'{name}'", do)
    for name in table.columns if asked is None else asked:
        if name in data.ignore or (asked is None and wording.get(name, "number") not in KINDS):
            chosen.left_out[name] = Note("reason.as_you_said")
            continue
        if name in read:
            if asked is not None:
                do = "leave it out of data.inputs.tabular"
                where, received = f"{table.name}, data.inputs.tabular", f"'{name}', of task '{read[name].name}'"
                raise DataError(where, "columns that no task reads", received, do)
            continue
        if name in others:
            continue
        if name in dealing:
            chosen.left_out[name] = Note("columns.deals")
            continue
        kind, why = kind_of(table, name, kinds.get(name), asked=asked is not None or name in wording)
        if kind is None:
            chosen.left_out[name] = why
        elif len(chosen.readings) == MOST:
            chosen.left_out[name] = Note("columns.too_many", most=MOST)
        else:
            chosen.readings[name] = reading_of(table.column(name), kind, data.numbers.get(name))
    _describe(chosen, table)
    return chosen


def kind_of(table: Table, name: str, known: Kind | None, *, asked: bool = False) -> tuple[ColumnKind | None, str]:
    """What a column is read as, and None with the reason where it is no input.

    Args:
        table: the rows.
        name: of the column.
        known: the kind it was taken for.
        asked: whether the user names it, so that its name and its different values do not count against it.
    """
    if known in ("image", "labels", "boxes", "tags", "messages"):
        return None, Note("columns.task_only", kind=named("kind", known))
    tidy = names.tidy(name)
    if not asked and (tidy in _PROVENANCE or tidy.endswith(("_id", "_url", "_path", "编号"))):
        return None, Note("columns.name")
    column = table.arrow_column(name).drop_null()
    values = [value for value in column.to_pylist() if not cells.is_blank(value, cells.BLANKS)]
    if not values or isinstance(values[0], dict | list | bytes):
        return None, Note("columns.lists" if values else "reason.it_is_empty")
    different = len({cells.label(cells.scalar(value)) for value in values})
    if different == 1:
        return None, Note("reason.every_row_holds_the" if len(values) == len(table) else "columns.one_value")
    if are_dates(values):
        return "date", ""
    guess = guess_kind(table, name, by_name=False).kind if known in ("ignore", None) else known
    if guess == "number" and (asked or not _tells_apart(values, len(table))):
        return "number", ""
    if guess == "number" or (guess == "ignore" and different == len(values)):
        return None, Note("columns.all_different")
    if guess == "category" or (asked and known == "category"):
        return "category", ""
    if 2 * different <= len(values) and sum(len(str(value)) for value in values) <= 40 * len(values):
        return "category", ""
    unlike = different == len(values) and guess != "text"
    return None, Note("columns.all_different" if unlike else "reason.free_text")


def _tells_apart(values: Sequence[Any], rows: int) -> bool:
    """Whether whole numbers are ids: all different, and in order or of many digits."""
    numbers = [number for value in values if (number := cells.number(value)) is not None]
    if len(numbers) < max(0.95 * rows, 5) or len(set(numbers)) < len(numbers):
        return False
    whole = all(number.is_integer() for number in numbers)
    return whole and (numbers == sorted(numbers) or min(numbers) >= 10_000)


def _describe(chosen: TabularColumns, table: Table) -> None:
    """Notes on what is read and left out, warnings of thin margins."""
    if chosen.readings:
        items = []
        for name, reading in chosen.readings.items():
            kind, unit = named("kind", reading.kind), reading.unit
            items.append(
                Note("columns.with_unit", column=name, kind=kind, unit=unit)
                if unit
                else Note("columns.item", column=name, kind=kind)
            )
        chosen.notes.append(Note("columns.read", columns=_shortened(items)))
    if chosen.left_out:
        items = [Note("columns.item", column=name, kind=why) for name, why in chosen.left_out.items()]
        chosen.notes.append(Note("columns.left_out", columns=_shortened(items)))
    for name, reading in chosen.readings.items():
        if reading.kind == "date" and not reading.sure:
            cell = next(value for value in table.column(name) if not cells.is_blank(value))
            key = "columns.month_first" if reading.order == "mdy" else "columns.day_first"
            chosen.warnings.append(Note(key, column=name, cell=str(cell)))


def _shortened(items: list[Note]) -> list[Note]:
    """The first of a long list, and how many more there are."""
    more = [Note("columns.more", count=len(items) - SHOWN)] if len(items) > SHOWN else []
    return items[:SHOWN] + more


def given_away(table: Table, chosen: TabularColumns, tasks: Sequence[TaskSettings]) -> list[str]:
    """Warnings of columns that alone give a task's target, as a copy or a recoding of it does."""
    lines: list[str] = []
    step = max(1, len(table) // _SAMPLE)
    rows = range(0, len(table), step)
    for task in tasks:
        role = next((role for role in ("label", "target", "labels", "score") if role in task.columns), None)
        if role is None or task.columns[role] not in table.columns:
            continue
        target = task.columns[role]
        wanted = role_values(task, role, table.column(target))
        numeric = is_number(task, role)
        for name, reading in chosen.readings.items():
            column = table.column(name)
            pairs = [(reading.read(column[row]), wanted[row]) for row in rows]
            known = [(value, goal) for value, goal in pairs if value is not None and goal is not None]
            share = _copied(known, numeric) if len(known) >= _LEAST else 0.0
            if share >= _ALIKE:
                key = "columns.gives_exactly" if share == 1 else "columns.gives_nearly"
                lines.append(Note(key, column=name, target=target, share=share, quoted=quoted(name)))
    return lines


def _copied(pairs: Sequence[tuple[Any, Any]], numeric: bool) -> float:
    """The share of rows whose target follows from the value: by a table of values that come back, or by thresholds."""
    try:
        numbers = np.asarray([value.timestamp() if hasattr(value, "timestamp") else float(value) for value, _ in pairs])
    except (TypeError, ValueError):
        numbers = np.zeros(0)
    if numeric:
        goals = np.asarray([goal if isinstance(goal, float) else np.nan for _, goal in pairs])
        if len(numbers) and np.isfinite(goals).all() and len(set(goals)) > 2:
            ranks = [np.unique(item, return_inverse=True)[1] for item in (numbers, goals)]
            steady = [np.array_equal(ranks[0], other) for other in (ranks[1], ranks[1].max() - ranks[1])]
            line = abs(np.corrcoef(numbers, goals)[0, 1]) if np.ptp(numbers) and np.ptp(goals) else 0.0
            return 1.0 if any(steady) or line > 1 - 1e-9 else 0.0
    follows: dict[Any, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for value, goal in pairs:
        follows[value][str(goal)] += 1
    if 2 * len(follows) <= len(pairs) and len({str(goal) for _, goal in pairs}) > 1:
        return sum(max(counts.values()) for counts in follows.values()) / len(pairs)
    return 0.0 if numeric or not len(numbers) else _by_thresholds(numbers, [str(goal) for _, goal in pairs])


def _by_thresholds(numbers: np.ndarray[Any, Any], goals: Sequence[str]) -> float:
    """1 where each class is one stretch of the numbers, each of at least five rows; else 0."""
    ordered = [goals[at] for at in np.argsort(numbers, kind="stable")]
    changes = sum(item != other for item, other in itertools.pairwise(ordered))
    counts = [ordered.count(goal) for goal in set(ordered)]
    return float(len(counts) > 1 and min(counts) >= 5 and changes == len(counts) - 1)
