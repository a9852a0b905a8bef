"""What each column is and what can be learned from them, guessed deterministically and explained.

It does not know how a task works: only which columns it reads (see ``roles``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from rebus.catalogue import Note, named
from rebus.data.cells import labels as split_labels
from rebus.data.column_kind import Guess, guess_kind, quoted
from rebus.data.doubts import doubts_of, refusal_of
from rebus.data.roles import guess_tasks
from rebus.data.table import Table
from rebus.errors import DataError, nearest
from rebus.recipe import Data, Kind, TaskSettings, known_kinds

__all__ = ["Inference", "infer", "infer_kinds", "infer_tasks", "split_labels"]


@dataclass(frozen=True)
class Inference:
    """What was inferred from a table.

    Attributes:
        kinds: column: kind, for every column.
        tasks: the tasks with the columns they read; empty where none was found.
        notes: for people: what was inferred, why, and the flag that overrides it.
        warnings: guesses that another reading comes close to, with cells and the flag that settles them.
        refusal: why no task was chosen, where the columns say more than "none fits"; None: nothing more to say.
    """

    kinds: dict[str, Kind]
    tasks: list[TaskSettings] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    refusal: DataError | None = None


def infer(
    table: Table,
    overrides: Mapping[str, Kind] | None = None,
    tasks: Sequence[str] = (),
    columns: Mapping[str, Mapping[str, str]] | None = None,
) -> Inference:
    """Guess kinds and tasks.

    Args:
        table: the rows.
        overrides: column: kind, where the user says it.
        tasks: names of the tasks that are wanted, whose columns are guessed where possible; none: the task is guessed.
        columns: task: role: column, where the user says which column a task reads; nothing is guessed there.

    Raises:
        DataError: an override names a column or a kind that does not exist.
    """
    guesses = _guesses(table, overrides or {})
    kinds = {name: guess.kind for name, guess in guesses.items()}
    given = columns or {}
    items = [
        (item.model_copy(update={"columns": {**item.columns, **given.get(item.name, {})}}), why)
        for item, why in guess_tasks(table.columns, kinds, tasks, partial(answers_inside, table))
    ]
    notes: list[str] = [
        Note("inference.column", column=name, kind=named("kind", guess.kind), why=guess.why, quoted=quoted(name))
        for name, guess in guesses.items()
        if guess.kind != "ignore"
    ]
    ignored = [
        Note("inference.ignored_column", column=name, why=guess.why)
        for name, guess in guesses.items()
        if guess.kind == "ignore"
    ]
    if ignored:
        notes.append(Note("inference.ignored", columns=ignored))
    for number, (item, why) in enumerate(items):
        roles = [
            Note("inference.role", role=named("role", role), column=column) for role, column in item.columns.items()
        ]
        roles = roles or [Note("inference.no_column")]
        notes.append(Note("inference.task", task=item.name, why=why, roles=roles, number=number))
    settings = [item for item, _ in items]
    refusal = None if tasks else refusal_of(table, kinds, settings)
    warnings = doubts_of(table, guesses, settings, guessed=not tasks, columns=given)
    return Inference(kinds, [] if refusal is not None else settings, notes, warnings, refusal)


def kinds_told(data: Data) -> dict[str, Kind]:
    """Column: kind, where the recipe says it: outright, or by how its labels or numbers are written."""
    labels: dict[str, Kind] = {column: "labels" for column, mark in data.separators.items() if mark}
    ignored: dict[str, Kind] = dict.fromkeys(data.ignore, "ignore")
    return {**labels, **dict.fromkeys(data.numbers, "number"), **data.kinds, **ignored}


def infer_kinds(table: Table, overrides: Mapping[str, Kind] | None = None) -> dict[str, Kind]:
    """Column: kind. Raises DataError as ``infer`` does."""
    return {name: guess.kind for name, guess in _guesses(table, overrides or {}).items()}


def infer_tasks(table: Table, kinds: Mapping[str, Kind], tasks: Sequence[str] = ()) -> list[TaskSettings]:
    """The tasks that columns of these kinds allow (or the named ones), with the columns they read; maybe none."""
    inside = partial(answers_inside, table)
    return [settings for settings, _ in guess_tasks(table.columns, kinds, tasks, inside)]


def answers_inside(table: Table, answers: str, passages: str, rows: int = 200) -> bool:
    """Whether most answers stand word for word in their row's passage, in a sample of rows."""
    chosen = [row * len(table) // min(rows, len(table)) for row in range(min(rows, len(table)))]
    seen = [(table.value(row, answers), table.value(row, passages)) for row in chosen]
    known = [(text if isinstance(text, list) else [text], passage) for text, passage in seen if text and passage]
    return 2 * sum(any(str(item) in str(passage) for item in text) for text, passage in known) > len(known)


def _guesses(table: Table, overrides: Mapping[str, Kind]) -> dict[str, Guess]:
    for name, kind in overrides.items():
        if name not in table.columns:
            where = f"{table.name}, {'--ignore' if kind == 'ignore' else '--kind'} {name}"
            raise DataError.of("problem.no_column", where=where, column=name, hint=nearest(name, table.columns))
        if kind not in (known := known_kinds()):
            raise DataError(f"--kind {name}={kind}", f"one of {', '.join(known)}", f"'{kind}'", nearest(kind, known))
    return {
        name: Guess(overrides[name], Note("reason.as_you_said"))
        if name in overrides
        else Guess(table.kinds[name], Note("reason.its_files_say_so"))
        if name in table.kinds
        else guess_kind(table, name)
        for name in table.columns
    }
