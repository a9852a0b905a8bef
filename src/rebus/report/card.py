"""README.md of a Run: the model card, with the front matter that model hubs read. The same figures as in the report."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from rebus import atomic
from rebus.catalogue import translate_name, translator
from rebus.report import labels
from rebus.report.contents import Example, ReportData, Result, Table

_SPECIAL = re.compile(r"([\\`*_\[\]|#~])")


def write_card(path: str | Path, data: ReportData, language: str = "en") -> Path:
    """Write the model card: YAML front matter, then Markdown.

    Raises:
        RecipeError: the language is neither ``en`` nor ``zh``. RunError: the file cannot be written.
    """
    path = Path(path)
    atomic.write_text(path, render_card(data, language))
    return path


def render_card(data: ReportData, language: str = "en") -> str:
    """The card as text. Raises RecipeError when the language is neither ``en`` nor ``zh``."""
    labels.check_language(language)
    texts = translator("report", language)
    parts = [_front_matter(data, language), f"# {_plain(data.title)}"]
    if data.summary:
        parts.append(_plain(data.summary))
    parts += [f"## {texts('results')}", _results(data, language)]
    parts += _sections(data, "results")
    parts += [f"### {_plain(table.title)}\n\n{_table(table)}" for table in data.tables]
    parts += _sections(data, "tables", "examples", "plots")
    parts += _listed(texts("about"), data.facts)
    parts += _sections(data, "about")
    parts += _listed(texts("data"), [*data.data, *_splits(data, language)])
    if data.warnings:
        parts += [f"### {texts('warnings')}", _bullets(data.warnings)]
    parts += _sections(data, "data")
    if data.commands:
        parts.append(f"## {texts('usage')}")
        parts += [f"{_plain(what)}\n\n{_code(command)}" for what, command in data.commands]
    parts += _sections(data, "commands")
    parts += _listed(texts("machine"), data.hardware)
    parts += _sections(data, "machine")
    if data.limits:
        parts += [f"## {texts('limits')}", _bullets(data.limits)]
    parts += _sections(data, "limits")
    parts.append(f"{texts('made_by')} {_plain(data.version)}".strip())
    return "\n\n".join(parts) + "\n"


def front_matter(data: ReportData, language: str = "en") -> dict[str, Any]:
    """The card's metadata as Hugging Face names it; what is not known is left out."""
    known = {
        "license": data.licence,
        "language": data.languages,
        "library_name": "rebus",
        **data.hub,
        "tags": ["rebus", *(tag for tag in data.tags if tag != "rebus")],
    }
    result: dict[str, Any] = {key: value for key, value in known.items() if value}
    if data.results:
        result["model-index"] = [{"name": data.title, "results": _index(data, language)}]
    return result


def _front_matter(data: ReportData, language: str) -> str:
    text = yaml.safe_dump(front_matter(data, language), sort_keys=False, allow_unicode=True)
    return f"---\n{text}---"


def _index(data: ReportData, language: str) -> list[dict[str, Any]]:
    by_task: dict[str, list[Result]] = {}
    for result in data.results:
        by_task.setdefault(result.task or "evaluation", []).append(result)
    name = data.dataset or data.title
    return [
        {
            "task": {"type": data.hub.get("pipeline_tag") or task, "name": task},
            "dataset": {"type": "private", "name": name},
            "metrics": [_metric(item, language) for item in results],
        }
        for task, results in by_task.items()
    ]


def _metric(result: Result, language: str) -> dict[str, Any]:
    name = labels.metric_name(result.metric, language)
    return {"type": result.metric, "name": name, "value": float(f"{result.value:.6g}")}


def _results(data: ReportData, language: str) -> str:
    texts = translator("report", language)
    if not data.results:
        return texts("no_results")
    several = len({result.task for result in data.results}) > 1
    head = [texts("figure"), texts("value"), texts("interval"), texts("baseline"), texts("difference")]
    rows = []
    for item in data.results:
        base = labels.figure(item.baseline, item.metric)
        cells = [
            labels.metric_name(item.metric, language),
            labels.figure(item.value, item.metric),
            labels.interval(item.interval, item.metric),
            f"{base} ({item.baseline_name})" if base and item.baseline_name else base,
            labels.difference(item, language),
        ]
        rows.append([item.task, *cells] if several else cells)
    table = markdown_grid([texts("task"), *head] if several else head, rows)
    return f"{_plain(data.judged_on)}\n\n{table}" if data.judged_on else table


def _table(table: Table) -> str:
    def cell(value: str | int | float | None) -> str:
        if value is None:
            return ""
        if isinstance(value, float):
            return f"{100 * value:.1f}%" if table.shares else labels.number(value)
        return str(value)

    grid = markdown_grid(list(table.columns), [[cell(value) for value in row] for row in table.rows])
    return f"{grid}\n\n{_plain(table.note)}" if table.note else grid


def markdown_grid(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown, every cell shown as it is."""

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(_plain(cell) for cell in cells) + " |"

    return "\n".join([line(head), "|" + "---|" * len(head), *(line(row) for row in rows)])


def _sections(data: ReportData, *after: str) -> list[str]:
    """The sections that follow some parts of the page; examples are told in words, plots are left to the report."""
    parts: list[str] = []
    for section in data.sections:
        if section.after not in after:
            continue
        parts += [f"## {_plain(section.title)}", *(_prose(paragraph) for paragraph in section.text)]
        if section.points:
            parts.append(_bullets(list(section.points)))
        if section.facts:
            parts.append("\n".join(f"- {_plain(name)}: {_plain(value)}" for name, value in section.facts))
        parts += [f"### {_plain(table.title)}\n\n{_table(table)}" for table in section.tables]
        lines = [_told(example) for example in section.examples]
        if lines:
            parts.append("\n".join(f"- {line}" for line in lines))
    return parts


def _told(example: Example) -> str:
    text = "".join(f"**{_plain(piece)}**" if strong else _spaced(piece) for piece, strong in _strongest(example.marked))
    sign = {True: "✓ ", False: "✗ ", None: ""}[example.right]
    items = [text or _plain(example.question), f"{sign}{_plain(example.answer)}", _plain(example.note)]
    return " · ".join(part for part in items if part)


def _strongest(marked: Sequence[tuple[str, float]]) -> list[tuple[str, bool]]:
    """Pieces of a text, and whether each is at least half as strong as the strongest."""
    most = max((abs(score) for _, score in marked), default=0.0)
    return [(piece, most > 0 and abs(score) >= most / 2 and bool(piece.strip())) for piece, score in marked]


def _spaced(piece: str) -> str:
    """Plain text that keeps a space at its ends."""
    return f"{' ' * piece[:1].isspace()}{_plain(piece)}{' ' * (len(piece) > 1 and piece[-1:].isspace())}"


def _listed(title: str, items: list[tuple[str, str]]) -> list[str]:
    return [f"## {title}", "\n".join(f"- {_plain(name)}: {_plain(value)}" for name, value in items)] if items else []


def _splits(data: ReportData, lang: str) -> list[tuple[str, str]]:
    return [(translate_name("report", name, lang), f"{rows:,}") for name, rows in data.splits.items()]


def _bullets(items: list[str]) -> str:
    return "\n".join(f"- {_plain(item)}" for item in items)


def _code(command: str) -> str:
    longest = max((len(ticks) for ticks in re.findall("`+", command)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh\n{command}\n{fence}"


def _prose(text: str) -> str:
    """A paragraph whose code, between backticks, stays code."""
    pieces = text.split("`")
    return "".join(f"`{piece}`" if at % 2 else _spaced(piece) for at, piece in enumerate(pieces))


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: one line, no markup, no HTML."""
    line = " ".join(str(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", line)
