"""How the cells of a table were read, where another reading is possible: what is blank, a label, a number.

The check and training print it. Each message shows cells, and names the setting that chooses the other reading.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rebus.data import cells
from rebus.data.column_kind import quoted
from rebus.data.declared import role_of
from rebus.data.role_cells import is_data
from rebus.recipe import TaskSettings

_SHOWN = 3
_STANDS_FOR_NOTHING = re.compile(r"-?9{2,}|-1|-32768|-2147483648")  # amounts often written for no amount


@dataclass
class CellReport:
    """What is to be said of cells.

    Attributes:
        notes: readings that the cells leave no doubt about.
        warnings: readings that a person should look at.
    """

    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def check_cells(task: TaskSettings, role: str, column: str, values: Sequence[Any]) -> CellReport:
    """What is to be said of a column that plays a role in a task.

    Args:
        task: with its settings as ``role_cells.settled`` fills them in.
        role: the role.
        column: the column's name.
        values: its cells, as the table holds them.
    """
    report = CellReport()
    _blanks(report, task, role, column, values)
    reads = role_of(task, role).cells
    if reads == "number":
        _numbers(report, task, column, values)
    elif reads in ("label", "labels"):
        _labels(report, task, reads == "labels", column, values)
    return report


def _blanks(report: CellReport, task: TaskSettings, role: str, column: str, values: Sequence[Any]) -> None:
    words = cells.blank_words(is_data(task, role), task.blanks)
    counts = Counter(word for value in values for word in _words(value) if word in cells.BLANKS or word in words)
    taken = {word: count for word, count in counts.items() if word in words}
    kept = {word: count for word, count in counts.items() if word not in words}
    if taken:
        do = "to keep them as they are" if task.blanks is None else "as data.blanks says; for empty cells only"
        report.warnings.append(f"column '{column}': {_counted(taken)} taken for blank; {do}: --set data.blanks=[]")
    if kept and role_of(task, role).learned and task.blanks is None:
        listed = json.dumps([*cells.EXPORTED_BLANKS, *kept])
        report.warnings.append(
            f"column '{column}': {_counted(kept)} taken for a text to be learned; if nothing is meant by it: "
            f"--set 'data.blanks={listed}'"
        )


def _words(value: Any) -> Iterable[str]:
    if isinstance(value, str) and len(value) < 40:
        return (cells.trimmed(value),)
    return (cells.trimmed(item) for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _counted(words: dict[str, int]) -> str:
    total = sum(words.values())
    named = ", ".join(f"'{word}' {count}" for word, count in sorted(words.items(), key=lambda item: -item[1]))
    return f"{total} cells ({named}) are" if total > 1 else f"1 cell ({named.rsplit(' ', 1)[0]}) is"


def _numbers(report: CellReport, task: TaskSettings, column: str, values: Sequence[Any]) -> None:
    known = [value for value in values if isinstance(value, str)]
    result = cells.numbers(known, words=cells.blank_words(True, task.blanks))
    style = task.numbers or result.style
    other: cells.NumberStyle = "point" if style == "comma" else "comma"
    if result.unsure and style == result.style and not all(map(_is_usual, result.unsure)):
        both = "; ".join(
            f"'{cell}' is {cells.number(cell, style):.15g}, or {cells.number(cell, other):.15g}"
            for cell in result.unsure
        )
        report.warnings.append(
            f"column '{column}': numbers are read with a decimal {style}: {both} with a decimal {other}; for that: "
            f"--set data.numbers.{quoted(column)}={other}; to settle it: --set data.numbers.{quoted(column)}={style}"
        )
        return
    odd = [cell for cell in known if cells.number(cell, style) is not None and not _is_usual(cell)][:_SHOWN]
    if odd:
        shown = ", ".join(f"'{cell}' is {cells.number(cell, style):.15g}" for cell in odd)
        report.notes.append(
            f"column '{column}': numbers are read with a decimal {style}: {shown}; otherwise: --set "
            f"data.numbers.{quoted(column)}={other}"
        )
    _far_amounts(report, column, values, style)
    units = Counter("%" if "%" in cell or "％" in cell else "" for cell in known if not cells.is_blank(cell))
    if len(units) > 1:
        report.warnings.append(
            f"column '{column}': {units['%']} cells are in percent and {units['']} are not; all are read as they are "
            "written (5% is 5): write them alike"
        )


def _far_amounts(report: CellReport, column: str, values: Sequence[Any], style: cells.NumberStyle) -> None:
    """Warn of an amount such as -999 that comes back far from all others, as where it is written for no amount."""
    read = Counter(amount for cell in values if (amount := cells.number(cell, style)) is not None)
    for amount in {min(read, default=0.0), max(read, default=0.0)}:
        written, others = f"{amount:.15g}", [other for other in read if other != amount]
        if read[amount] < 3 or not others or not _STANDS_FOR_NOTHING.fullmatch(written):
            continue
        low, high = min(others), max(others)
        if min(abs(amount - low), abs(amount - high)) > max(high - low, 1):
            report.warnings.append(
                f"column '{column}': {read[amount]} cells hold {written}, far from all others ({low:g} to {high:g}), "
                f"and are learned as amounts; if nothing is meant by it: --set 'data.blanks=[\"{written}\"]'"
            )


def _is_usual(cell: str) -> bool:
    """Whether a number is written as programs write it, with a point and nothing else."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _labels(report: CellReport, task: TaskSettings, several: bool, column: str, values: Sequence[Any]) -> None:
    words = cells.blank_words(True, task.blanks)
    counts: Counter[str] = Counter()
    for value in values:
        if several:
            counts.update(cells.labels(value, task.separator, words))
        elif not cells.is_blank(value, words):
            counts[cells.label(value)] += 1
    empty = {name: count for name, count in counts.items() if cells.may_be_blank(name)}
    if empty and not {"+", "-"} <= set(counts):
        listed = json.dumps([*(cells.BLANKS if task.blanks is None else task.blanks), *empty], ensure_ascii=False)
        report.warnings.append(
            f"column '{column}': {_counted(empty)} learned as a label; if nothing is meant by it: "
            f"--set 'data.blanks={listed}'"
        )
    near = cells.near_equal(counts)
    if near:
        groups = "; ".join(
            ", ".join(f"'{name}' ({counts[name]})" for name in sorted(group, key=lambda item: -counts[item]))
            for group in near[:_SHOWN]
        )
        more = f" and {len(near) - _SHOWN} more" if len(near) > _SHOWN else ""
        report.warnings.append(
            f"column '{column}': labels that differ only in capitals, width, spaces, signs or accents count as "
            f"different: {groups}{more}; write them alike if they mean the same"
        )
    texts = [value for value in values if isinstance(value, str) and not cells.is_blank(value, words)]
    renamed = {cells.trimmed(text): cells.label(text) for text in texts if cells.trimmed(text) != cells.label(text)}
    if renamed and not several:
        shown = ", ".join(f"'{item}' is '{name}'" for item, name in list(renamed.items())[:_SHOWN])
        report.notes.append(f"column '{column}': labels in one form: {shown}")
    if task.separator is None and not any(mark in text for text in texts for mark in cells.SEPARATORS):
        _divided(report, several, column, texts)
    elif task.separator and several:
        divided = [text for text in dict.fromkeys(texts) if task.separator in text][:_SHOWN]
        shown = "; ".join(f"{text!r} is {_listed(text, task.separator)}" for text in divided)
        report.notes.append(
            f"column '{column}': labels are divided by {task.separator!r}: {shown}; otherwise: "
            f"--set \"data.separators.{column}=''\""
        )


def _divided(report: CellReport, several: bool, column: str, texts: Sequence[str]) -> None:
    mark = cells.separator(texts, several)
    if not mark.cells:
        return
    both = "; ".join(f"{cell!r} is one label, or {_listed(cell, mark.mark)}" for cell in mark.cells)
    text = f"--set 'data.separators.{column}={mark.mark}'"
    do = text if several else f"--task tag {text}"
    report.warnings.append(f"column '{column}': cells may hold several labels, divided by {mark.mark!r}: {both}: {do}")


def _listed(cell: str, mark: str) -> str:
    return " and ".join(f"'{part}'" for part in cells.labels(cell, mark))
