"""Which task a set of columns allows, and which column plays which of its roles: as the tasks declare it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rebus.catalogue import Note
from rebus.data.declared import TASKS, Columns, declared
from rebus.recipe import Kind, TaskSettings


def guess_tasks(
    columns: Sequence[str],
    kinds: Mapping[str, Kind],
    wanted: Sequence[str] = (),
    inside: Callable[[str, str], bool] | None = None,
) -> list[tuple[TaskSettings, str]]:
    """Tasks with their columns, each with the reason: the wanted ones, or at most one that the columns suggest.

    Of two tasks that are suggested alike, ours goes before another package's.
    """
    table = Columns(columns, kinds, inside)
    if wanted:
        return [(_settings(name, table), Note("reason.as_you_said")) for name in wanted]
    suggestions = []
    for name in TASKS.names():
        task = declared(name)
        if (suggestion := task.suggestion(table)) is not None:
            turn, why = suggestion
            suggestions.append((turn, not task.__module__.startswith("rebus."), name, why))
    return [(_settings(name, table), why) for *_, name, why in sorted(suggestions)[:1]]


def _settings(name: str, columns: Columns) -> TaskSettings:
    chosen = declared(name).find_columns(columns)
    return TaskSettings(name=name, columns={role: column for role, column in chosen.items() if column is not None})
