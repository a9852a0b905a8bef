"""What a guess about a table came close to: warnings that show cells and the flag that settles it, or a refusal.

It decides between readings of whole columns; what a column is by itself is ``column_kind``'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from rebus.data import names
from rebus.data.column_kind import Guess, quoted
from rebus.data.table import Table
from rebus.errors import DataError
from rebus.recipe import Kind, TaskSettings

_REMARKS = ("width", "height", "seed", "date", "time", "timestamp", "split", "license", "licence", "url", "uri", "link")
_CELLS = 3
_READS = ("reads", "text", (*names.TEXT, *names.CAPTION))
_CHOSEN = {  # task: what it does with a column that was chosen among several, its role, names that settle the choice
    "classify": (("learns", "label", names.LABEL), _READS),
    "tag": (("learns", "labels", names.LABELS), _READS),
    "regress": (("learns", "target", names.TARGET), _READS),
}


def doubts_of(
    table: Table,
    guesses: Mapping[str, Guess],
    tasks: Sequence[TaskSettings],
    guessed: bool = True,
    columns: Mapping[str, Mapping[str, str]] | None = None,
) -> list[str]:
    """Warnings: columns that are nearly of another kind, and columns that could as well be what is to be learned.

    Args:
        table: the rows.
        guesses: column: its kind.
        tasks: with the columns they read.
        guessed: whether the tasks are a guess too, so that a flag about one has to name it.
        columns: task: role: column, where the user says which column a task reads, of which there is no doubt.
    """
    read = {column for task in tasks for column in task.columns.values()}
    told = [
        f"column '{name}' is taken as {guess.kind} ({guess.why}), and is nearly {guess.alternative}: "
        f"{_shown(table, name)}; otherwise: --kind {quoted(name)}={guess.alternative}"
        for name, guess in guesses.items()
        if guess.alternative is not None and (name in read or guess.alternative != "ignore")
    ]
    for number, task in enumerate(tasks):
        given = (columns or {}).get(task.name, {})
        for verb, role, words in _CHOSEN.get(task.name, ()):
            chosen = task.columns.get(role)
            if chosen is None or chosen not in guesses or role in given:
                continue
            named = names.named(chosen, words)
            others = [
                name
                for name, guess in guesses.items()
                if name not in task.columns.values()
                and guess.kind == guesses[chosen].kind
                and names.named(name, words) == named
            ]
            if others:
                why = "both names may say so" if named else "no name says which"
                flag = f"--task {task.name} " if guessed else ""
                told.append(
                    f"task {task.name} {verb} column '{chosen}' ({_shown(table, chosen)}), and '{others[0]}' "
                    f"({_shown(table, others[0])}) could be meant as well: {why}; otherwise: "
                    f"{flag}--set tasks.{number}.columns.{role}={quoted(others[0])}"
                )
    return told


def refusal_of(table: Table, kinds: Mapping[str, Kind], tasks: Sequence[TaskSettings]) -> DataError | None:
    """Why no task should be guessed: a layout that no task learns from, or two readings that are as likely.

    Args:
        table: the rows.
        kinds: column: kind.
        tasks: those that were guessed, none of them named by the user.
    """
    chosen, rejected = (names.first_named(table.columns, words) for words in (names.CHOSEN, names.REJECTED))
    if chosen and rejected:
        return DataError(
            table.name,
            "a layout that a task learns from",
            f"'{chosen}' and '{rejected}': pairs of a preferred and a rejected answer (DPO), which no task learns from",
            f"to learn the preferred answers alone: --task {'converse' if kinds[chosen] == 'messages' else 'generate'} "
            f"--set tasks.0.columns.output={chosen}",
        )
    sides = (("xmin", "x_min"), ("ymin", "y_min"), ("xmax", "x_max"), ("ymax", "y_max"))
    if all(names.first_named(table.columns, words) for words in sides):
        return DataError(
            table.name,
            "a layout that a task learns from",
            "a box a row (xmin, ymin, xmax, ymax), which no task learns from",
            "write COCO, YOLO or Pascal VOC, which the task 'patches' learns from; or name the task",
        )
    rated = names.first_named(table.columns, ("label",))
    if {"prompt", "completion", "label"} <= set(map(names.tidy, table.columns)) and rated and _says_yes(table, rated):
        return DataError(
            table.name,
            "a layout that a task learns from",
            f"'prompt', 'completion' and '{rated}': answers rated good or bad (KTO), which no task learns from",
            "keep the good rows and leave the column out, and name --task generate",
        )
    if [task.name for task in tasks] in (["lm"], ["pictures"]):
        (task,) = tasks
        unread = [name for name in table.columns if kinds[name] == "ignore" and _holds_objects(table, name)]
        if unread:
            return DataError(
                table.name,
                "columns that a task reads",
                f"'{unread[0]}', which holds objects in a layout that is not read ({_shown(table, unread[0])})",
                f"write what they say to columns of their own; to learn without them: --task {task.name}",
            )
        few = [name for name in table.columns if kinds[name] == "ignore" and _may_be_classes(table, name)]
        if few:
            read = next(iter(task.columns.values()))
            return DataError(
                table.name,
                "columns that only one task fits",
                f"'{read}' beside '{few[0]}' ({_shown(table, few[0])}), whose name says that it describes the row and "
                f"whose few values may be classes",
                f"to learn the classes: --kind {few[0]}=category; to learn from '{read}' alone: --task {task.name}",
            )
    return None


def _says_yes(table: Table, name: str) -> bool:
    return pa.types.is_boolean(table.arrow_column(name).type) or {str(value) for value in table.column(name)} <= {
        "true", "false", "True", "False", "None"
    }  # fmt: skip


def _holds_objects(table: Table, name: str) -> bool:
    column = table.arrow_column(name)
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_struct(kind)) and column.null_count < len(column)


def _may_be_classes(table: Table, name: str) -> bool:
    """Whether a column that is left out by its name holds few values, each of them in several rows."""
    if not names.is_metadata(name) or names.tidy(name) in _REMARKS or names.split_word(name):
        return False
    column = table.arrow_column(name)
    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)):
        return False
    rows = len(column) - column.null_count
    different = int(pc.count_distinct(column, mode="only_valid").as_py())
    return bool(2 <= different <= max(20, rows // 50) and rows >= 2 * different)


def _shown(table: Table, name: str) -> str:
    """Three different cells of a column."""
    shown: list[str] = []
    for value in table.arrow_column(name).slice(0, 1000).to_pylist():
        text = repr(value) if not isinstance(value, str) else f"'{value}'"
        text = text if len(text) <= 40 else text[:37] + "..."
        if value is not None and text not in shown:
            shown.append(text)
        if len(shown) == _CELLS:
            break
    return ", ".join(shown)
