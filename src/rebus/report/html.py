"""report.html: one file that stands alone, without network and without scripts.

Knows no model and no Run folder: ReportData in, a page out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rebus import atomic
from rebus.catalogue import group_of, translate
from rebus.errors import ImageError
from rebus.explain.page import render_template
from rebus.report import labels
from rebus.report.contents import AFTER, Cell, Example, ReportData, Result, Section, Table, grouped
from rebus.report.images import png_address, thumbnail

_TEMPLATE = "template.html.j2"
_FIGURES = re.compile(r"[-+\u2212]?\d[\d.,]*%?(?: \u2013 [-\u2212]?\d[\d.,]*%?)?")  # a figure, or an interval


@dataclass(frozen=True)
class Strip:
    """Where the bar of a figure, its interval and the baseline's mark go, in percent of the full scale."""

    value: float
    low: float | None
    width: float | None
    baseline: float | None


def write_report(path: str | Path, data: ReportData, language: str = "en") -> Path:
    """Write a report as one self-contained HTML file.

    Args:
        path: the file.
        data: what to show; parts that are missing are left out.
        language: ``en`` or ``zh``, of the report's own words.

    Raises:
        RecipeError: the language is neither. RunError: the file cannot be written.
    """
    path = Path(path)
    atomic.write_text(path, render_report(data, language))
    return path


def render_report(data: ReportData, language: str = "en") -> str:
    """The page as text. Raises RecipeError when the language is neither ``en`` nor ``zh``."""
    labels.check_language(language)
    texts = group_of("report", language)
    shown = [_result(data, result, language) for result in data.results]
    return render_template(
        Path(__file__).with_name(_TEMPLATE),
        language=language,
        texts=texts,
        data=data,
        sections=[name for name in _SECTIONS if _has(data, name)],
        contents=_contents(data, language),
        parts={
            after: [_section(data, section) for section in data.sections if section.after == after] for after in AFTER
        },
        results=_by_task(shown),
        has_tasks=len({result.task for result in data.results}) > 1,
        tiles=_tiles(shown),
        tables=[_table(table) for table in data.tables],
        plots=[(plot.title, _plot(plot.image)) for plot in data.plots],
        examples=_examples(data, data.examples),
    )


_SECTIONS: dict[str, tuple[str, ...]] = {
    "results": ("results",),
    "tables": ("tables",),
    "examples": ("examples",),
    "plots": ("plots",),
    "about": ("facts", "recipe"),
    "data": ("data", "splits", "kinds", "notes", "warnings"),
    "machine": ("hardware",),
    "commands": ("commands",),
    "limits": ("limits",),
}


def _contents(data: ReportData, language: str) -> list[tuple[str, str]]:
    """(anchor, heading) of everything on the page, in its order."""
    result: list[tuple[str, str]] = []
    for name in _SECTIONS:
        if _has(data, name):
            result.append((name, translate(f"report.{name}", language)))
        result += [(section.name, section.title) for section in data.sections if section.after == name]
    return result


def _section(data: ReportData, section: Section) -> dict[str, Any]:
    return {
        "name": section.name,
        "title": section.title,
        "text": section.text,
        "facts": section.facts,
        "points": section.points,
        "tables": [_table(table) for table in section.tables],
        "plots": [(plot.title, _plot(plot.image)) for plot in section.plots],
        "examples": _examples(data, section.examples),
    }


def _examples(data: ReportData, examples: Sequence[Example]) -> dict[str, list[dict[str, Any]]]:
    return {group: [_example(data, item) for item in some] for group, some in grouped(examples).items()}


def _has(data: ReportData, section: str) -> bool:
    return section == "results" or any(getattr(data, part) for part in _SECTIONS[section])


def _result(data: ReportData, result: Result, language: str) -> dict[str, Any]:
    return {
        "task": result.task,
        "metric": labels.metric_name(result.metric, language),
        "value": labels.figure(result.value, result.metric),
        "interval": labels.interval(result.interval, result.metric),
        "baseline": labels.figure(result.baseline, result.metric),
        "baseline_name": result.baseline_name,
        "difference": labels.difference(result, language),
        "difference_interval": labels.difference_interval(result),
        "verdict": {1: "better", -1: "worse"}.get(result.verdict, "same") if result.difference_interval else "",
        "beside": [_result(data, item, language) for item in result.beside],
        "strip": _strip(result, labels.full_scale(data.results, result.metric)),
    }


def _by_task(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault(result["task"], []).append(result)
    return [{"task": task, "baseline_name": rows[0]["baseline_name"], "rows": rows} for task, rows in groups.items()]


def _strip(result: Result, scale: float) -> Strip:
    def place(value: float) -> float:
        return round(100 * min(max(value / scale, 0.0), 1.0), 2)

    low = high = None
    if result.interval is not None:
        low, high = place(result.interval[0]), place(result.interval[1])
    return Strip(
        value=place(result.value),
        low=low,
        width=None if low is None or high is None else round(high - low, 2),
        baseline=None if result.baseline is None else place(result.baseline),
    )


def _tiles(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first figure of each task, shown large; of a single task, its first three."""
    if len({result["task"] for result in results}) <= 1:
        return results[:3]
    seen: dict[str, dict[str, Any]] = {}
    for result in results:
        seen.setdefault(result["task"], result)
    return list(seen.values())[:4]


def _table(table: Table) -> dict[str, Any]:
    rows = [[_cell(cell, table.shares) for cell in row] for row in table.rows]
    return {"title": table.title, "columns": list(table.columns), "rows": rows, "note": table.note}


def _cell(cell: Cell, shares: bool) -> dict[str, Any]:
    if cell is None:
        return {"text": "–", "bar": None, "numeric": True}
    if isinstance(cell, str):
        return {"text": cell, "bar": None, "numeric": bool(_FIGURES.fullmatch(cell))}
    if isinstance(cell, int):
        return {"text": f"{cell:,}", "bar": None, "numeric": True}
    if shares:
        return {"text": f"{100 * cell:.1f}%", "bar": round(100 * min(max(cell, 0.0), 1.0), 1), "numeric": True}
    return {"text": labels.number(cell), "bar": None, "numeric": True}


def _plot(image: str | Path | bytes) -> dict[str, str]:
    try:
        return {"address": png_address(image), "problem": ""}
    except ImageError as error:
        return {"address": "", "problem": str(error)}


def _example(data: ReportData, example: Example) -> dict[str, Any]:
    address = problem = ""
    if example.image is not None:
        try:
            address = thumbnail(example.image, data.root)
        except ImageError as error:  # a report about broken images still has to open
            problem = str(error)
    return {
        "address": address,
        "problem": problem,
        "question": example.question,
        "answer": example.answer,
        "truth": example.truth,
        "right": example.right,
        "note": example.note,
        "wide": _is_wide(example.image),
        "marked": _marked(example.marked),
        "confidence": "" if example.confidence is None else f"{100 * example.confidence:.0f}%",
    }


def _is_wide(image: Any) -> bool:
    """Whether it is wider than high by half: two images side by side."""
    return isinstance(image, np.ndarray) and image.shape[1] > 1.5 * image.shape[0]


def _marked(marked: Sequence[tuple[str, float]]) -> list[dict[str, Any]]:
    """Pieces of a text with how deep the colour behind each is, 0 to 100, and whether it spoke against the answer."""
    largest = max((abs(score) for _, score in marked), default=0.0) or 1.0
    return [{"text": text, "depth": round(100 * abs(score) / largest), "against": score < 0} for text, score in marked]
