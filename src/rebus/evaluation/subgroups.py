"""Figures apart for groups of rows: the values of columns that were not learned from, and the language of the text.

A model that is good on average may be bad for some. It knows no report.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rebus import recipe
from rebus.data import cells
from rebus.data.table import Table
from rebus.errors import DataError, nearest
from rebus.tasks import Prediction, Task
from rebus.tasks.base import Values
from rebus.tasks.cells import as_text, missing
from rebus.tasks.metrics.intervals import compare

LANGUAGE = "text"  # the group that no column says: the script of what the model reads
FEW = 12  # values beyond which a column makes no groups by itself
LEAST = 5  # rows of a group below which its figure says nothing
COLUMNS = 8  # most columns that are found by themselves
RESAMPLES = 500
READ = ("question", "text", "prompt", "source", "passage", "tokens", "anchor", "caption", "messages")

Groups = dict[str, dict[str, dict[str, float]]]  # column: value: figures


def group_figures(
    settings: recipe.Recipe,
    task: Task,
    values: Values,
    rows: Sequence[int],
    predictions: Sequence[Prediction],
    table: Table,
) -> Groups:
    """The task's main figure with its 95% interval for each value of each grouping column.

    Args:
        settings: names the columns in ``report.groups``; None there: every column of few values that no task learns
            from (and not the one that says the split).
        task: that was judged.
        values: its columns.
        rows: that were judged.
        predictions: the prediction for each.
        table: that holds them.

    Returns:
        ``{column: {value: {"count", "value", "low", "high"}}}``; under ``text`` the rows whose text is Chinese (``zh``)
        and those whose text is not (``en``), where there are both.

    Raises:
        DataError: ``report.groups`` names a column that is not there.
    """
    result: Groups = {}
    kept: list[dict[str, list[int]]] = []
    for column in group_columns(settings, table, rows):
        parts = _parts([cells.label(table.value(row, column)) for row in rows])
        if settings.report.groups is None and len([part for part in parts.values() if len(part) >= LEAST]) < 2:
            continue
        kept.append(parts)
        result[column] = {name: _figure(task, values, rows, predictions, parts[name]) for name in cells.in_order(parts)}
    spoken = _parts([_language(values, row) for row in rows])
    spoken.pop("", None)
    text = any(sorted(parts.values()) == sorted(spoken.values()) for parts in kept)  # a column of languages
    if len(spoken) > 1 and not text:
        result[LANGUAGE] = {
            name: _figure(task, values, rows, predictions, places) for name, places in sorted(spoken.items())
        }
    return result


def group_columns(settings: recipe.Recipe, table: Table, rows: Sequence[int]) -> list[str]:
    """The columns that rows are grouped by. Raises DataError as ``group_figures``."""
    wanted = settings.report.groups
    if wanted is not None:
        for name in wanted:
            if name not in table.columns:
                raise DataError("report.groups", "columns of the table", f"'{name}'", nearest(name, table.columns))
        return list(wanted)
    used = {column for entry in settings.tasks for role, column in entry.columns.items() if role != "type"}
    typed = {entry.columns["type"] for entry in settings.tasks if "type" in entry.columns}  # has a table of its own
    kinds = settings.data.kinds
    chosen = []
    for name in table.columns:
        plain = kinds.get(name, "ignore") in ("ignore", "category")
        if name in used | typed or name == settings.data.split.column or name.lower() == "split" or not plain:
            continue
        different: set[str] = set()
        for row in rows:
            different.add(cells.label(table.value(row, name)))
            if len(different) > FEW:
                break
        if 1 < len(different) <= FEW:
            chosen.append(name)
    return chosen[:COLUMNS]


def _parts(names: Sequence[str]) -> dict[str, list[int]]:
    parts: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        parts.setdefault(name, []).append(place)
    return parts


def _language(values: Values, row: int) -> str:
    """``zh`` or ``en`` by the script of what is read; nothing where no text is."""
    for role in READ:
        if role in values and not missing(values[role][row]):
            text = _spoken(values[role][row])
            if any("\u3400" <= letter <= "\u9fff" for letter in text):
                return "zh"
            return "en" if any(letter.isalpha() for letter in text) else ""
    return ""


def _spoken(value: Any) -> str:
    """What a person says in a cell: of a conversation only the turns' contents."""
    if isinstance(value, list | tuple):
        return " ".join(_spoken(item.get("content", "") if isinstance(item, dict) else item) for item in value)
    return as_text(value)


def _figure(
    task: Task, values: Values, rows: Sequence[int], predictions: Sequence[Prediction], places: Sequence[int]
) -> dict[str, float]:
    chosen, text = [rows[place] for place in places], [predictions[place] for place in places]
    images = [as_text(values["image"][row])[:512] for row in chosen] if "image" in values else None
    figure = {task.watch: task.statistics(values, chosen, text)[task.watch]}
    item = compare(figure, None, len(chosen), n=RESAMPLES, groups=images)[task.watch].value
    return {"count": float(len(chosen)), "value": item.value, "low": item.low, "high": item.high}
