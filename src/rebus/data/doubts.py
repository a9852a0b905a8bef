"""What a guess about a table came close to: warnings that show cells and the flag that settles it, or a refusal.

It decides between readings of whole columns; what a column is by itself is ``column_kind``'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from rebus.data import names
from rebus.data.column_kind import Guess, quoted
from rebus.data.declared import declared
from rebus.data.table import Table
from rebus.errors import DataError
from rebus.recipe import Kind, TaskSettings

_REMARKS = ("width", "height", "seed", "date", "time", "timestamp", "split", "license", "licence", "url", "uri", "link")
_CELLS = 3


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
    lines = [
        f"column '{name}' is taken as {guess.kind} ({guess.why}), and is nearly {guess.alternative}: "
        f"{_shown(table, name)}; otherwise: --kind {quoted(name)}={guess.alternative}"
        for name, guess in guesses.items()
        if guess.alternative is not None and (name in read or guess.alternative != "ignore")
    ]
    for number, task in enumerate(tasks):
        given = (columns or {}).get(task.name, {})
        for verb, role, words in _choices(task):
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
                lines.append(
                    f"task {task.name} {verb} column '{chosen}' ({_shown(table, chosen)}), and '{others[0]}' "
                    f"({_shown(table, others[0])}) could be meant as well: {why}; otherwise: "
                    f"{flag}--set tasks.{number}.columns.{role}={quoted(others[0])}"
                )
    return lines + _unread(table, guesses, tasks)


def _choices(task: TaskSettings) -> list[tuple[str, str, tuple[str, ...]]]:
    """Roles whose column was chosen among several: what is done with it, the role, names that settle the choice."""
    wanted = declared(task.name)
    target = wanted.target_role
    if target is None or not wanted.needs_one:
        return []
    chosen = [("learns", target), ("reads", "text")]
    return [(verb, role, wanted.roles[role].names) for verb, role in chosen if role in wanted.roles]


def _unread(table: Table, guesses: Mapping[str, Guess], tasks: Sequence[TaskSettings]) -> list[str]:
    """Warnings of columns whose names or cells say that a task should read them, and that none reads so."""
    read = {column: role for task in tasks for role, column in task.columns.items()}
    image = next((column for column, role in read.items() if role == "image"), None)
    lines = []
    for name, guess in guesses.items() if tasks else ():
        if guess.why in ("it is empty", "it is blank"):
            continue
        if name not in read and guess.kind == "image" and image is not None:
            lines.append(
                f"column '{name}' holds images ({_shown(table, name)}) that no task sees: a model takes one a row, "
                f"here that of '{image}'; for the other: --set tasks.0.columns.image={name}"
            )
        elif names.named(name, names.IMAGES) and guess.kind != "image":
            lines.append(
                f"column '{name}' ({_shown(table, name)}) is named as images and not read so: no task sees them; "
                f"write a path a cell, or --kind {quoted(name)}=image where it is one"
            )
        elif name not in read and names.named(name, (*names.HISTORY, *names.SYSTEM, *names.MEDIA)):
            lines.append(
                f"column '{name}' ({_shown(table, name)}) is not read, though its name says that the answers depend on "
                "it: a model cannot learn them without it"
            )
    for task in tasks:
        choices = names.first_named(table.columns, names.CHOICES)
        wanted = declared(task.name)
        answers = task.columns.get(wanted.target_role or "") if "choices" not in wanted.roles else None
        if choices is not None and answers is not None and _are_places(table, answers):
            lines.append(
                f"'{answers}' ({_shown(table, answers)}) names places in '{choices}' ({_shown(table, choices)}), "
                "which this task does not read: it learns to write the places; write the right choice itself there"
            )
    return lines


def _are_places(table: Table, name: str) -> bool:
    cells = [str(value).strip() for value in table.arrow_column(name).slice(0, 1000).to_pylist() if value is not None]
    return bool(cells) and all(re.fullmatch(r"\d|\(?[A-Ja-j]\)?", cell) for cell in cells)


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
    answers, ranks = (names.first_named(table.columns, words) for words in (names.RANKED, names.RANKS))
    if answers and ranks and kinds[answers] == "labels":
        return DataError(
            table.name,
            "a layout that a task learns from",
            f"'{answers}' and '{ranks}': several answers with ranks, which no task learns from",
            "keep the best answer of each row in a column 'output', for the task generate",
        )
    sides = (("xmin", "x_min"), ("ymin", "y_min"), ("xmax", "x_max"), ("ymax", "y_max"))
    if all(names.first_named(table.columns, words) for words in sides):
        return DataError(
            table.name,
            "a layout that a task learns from",
            "a box a row (xmin, ymin, xmax, ymax), which no task learns from",
            "write COCO, YOLO or Pascal VOC, which the task 'patch_classify' learns from; or name the task",
        )
    rated = names.first_named(table.columns, ("label",))
    if {"prompt", "completion", "label"} <= set(map(names.tidy, table.columns)) and rated and _says_yes(table, rated):
        return DataError(
            table.name,
            "a layout that a task learns from",
            f"'prompt', 'completion' and '{rated}': answers rated good or bad (KTO), which no task learns from",
            "keep the good rows and leave the column out, and name --task generate",
        )
    if len(tasks) == 1 and declared(tasks[0].name).last_resort:
        (task,) = tasks
        unread = [name for name in table.columns if kinds[name] == "ignore" and _holds_objects(table, name)]
        if unread:
            return DataError(
                table.name,
                "columns that a task reads",
                f"'{unread[0]}', which holds objects in a layout that is not read ({_shown(table, unread[0])})",
                f"write what they say to columns of their own; to learn without them: --task {task.name}",
            )
        named = [name for name in table.columns if kinds[name] == "ignore" and _is_named_as_target(table, name)]
        if named:
            read = next(iter(task.columns.values()))
            return DataError(
                table.name,
                "columns that only one task fits",
                f"'{read}' beside '{named[0]}' ({_shown(table, named[0])}), whose name says that it is to be learned, "
                "and whose cells are neither numbers nor classes that come back",
                f"write numbers or classes; to learn the cells as classes: --kind {quoted(named[0])}=category; to "
                f"learn from '{read}' alone: --task {task.name}",
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


def _is_named_as_target(table: Table, name: str) -> bool:
    words = (*names.LABEL, *names.LABELS, *names.TARGET, *names.SCORE)
    column = table.arrow_column(name)
    return names.named(name, words) and len(column.unique().drop_null()) > 1 if _is_flat(column.type) else False


def _is_flat(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_floating(kind))


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
