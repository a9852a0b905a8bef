"""How honest a model's explanations are, as a section of its report in both languages: what explain.json holds.

It measures nothing; see ``rebus.explain.faithfulness``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rebus.catalogue import translator
from rebus.explain.faithfulness.sanity import SAME
from rebus.report.contents import Cell, Section, Table

FIGURES = ("pointing", "pointing_right", "deletion", "insertion", "text_deletion", "text_insertion")


def faithfulness_section(entries: Mapping[str, Mapping[str, Any]], lang: str) -> Section | None:
    """What explain.json holds, as a section; None for no entries."""
    if not entries:
        return None
    texts = translator("faithfulness", lang)
    tables = [table for task, entry in entries.items() for table in faithfulness_tables(task, entry, lang)]
    points = [point for task, entry in entries.items() for point in faithfulness_points(task, entry, lang)]
    return Section("faithfulness", texts("title"), [texts("text")], tables=tables, points=points, after="examples")


def faithfulness_tables(task: str, entry: Mapping[str, Any], lang: str) -> list[Table]:
    """The methods side by side, the default first, and the default's pointing rate by type of question."""
    texts, methods, random = translator("faithfulness", lang), entry["methods"], entry["random"]
    names = sorted(methods, key=lambda name: name != entry["method"])
    kinds = [kind for kind in FIGURES if any(kind in method["figures"] for method in methods.values())]
    shaken = any(method["sanity"] for method in methods.values())
    heads = [texts("method"), *(texts(f"columns.{kind}") for kind in kinds), *([texts("sanity")] if shaken else [])]
    rows: list[list[Cell]] = []
    for name in names:
        element = methods[name]
        cells: list[Cell] = [f"{name} ✓" if name == entry["method"] else name]
        cells += [measured(kind, element["figures"].get(kind)) for kind in kinds]
        cells += [f"{list(element['sanity'].values())[-1]:.2f}" if element["sanity"] else None] if shaken else []
        rows.append([*cells, f"{element['seconds'] * 1000:.0f}"])
    rows.append(
        [texts("random"), *(measured(kind, random.get(kind)) for kind in kinds), *([None] if shaken else []), None]
    )
    only = [f"{column}={value}" for column, value in entry["settings"].get("only", {}).items()]
    where = ", ".join([entry["table"], *([entry["split"]] if entry["split"] else []), *only])
    title = texts("table", task=task, rows=max(entry["rows"].values()), table=where)
    result = [Table(title, [*heads, texts("milliseconds")], rows, notes_of(entry, lang), shares=False)]
    types = methods[entry["method"]]["by_type"]
    if len(types) > 1:
        columns = ["", entry["method"], texts("random"), texts("questions")]
        lines: list[list[Cell]] = [
            [kind, f"{item['pointing']:.1%}", f"{item['random']:.1%}", f"{item['count']:.0f}"]
            for kind, item in types.items()
        ]
        result.append(Table(texts("types", task=task), columns, lines, shares=False))
    return result


def notes_of(entry: Mapping[str, Any], lang: str) -> str:
    """What the columns of a table of methods mean."""
    texts, rows = translator("faithfulness", lang), {"pointing_right": 0, **entry["rows"]}
    lines = []
    if rows.get("pointing"):
        lines.append(texts("pointing", tolerance=entry["settings"].get("tolerance", 0.0), **rows))
    lines.append(texts("curves", **rows))
    if rows.get("sanity"):
        lines.append(texts("shaken", same=SAME, **rows))
    return (" " if lang == "en" else "").join(lines)


def faithfulness_points(task: str, entry: Mapping[str, Any], lang: str) -> list[str]:
    """The default and why, how much better than chance it points, and which methods are warned of."""
    texts, method = translator("faithfulness", lang), entry["method"]
    lines = [texts(f"chosen.{entry['why']}", task=task, method=method)]
    rate, chance = (result.get("pointing") for result in (entry["methods"][method]["figures"], entry["random"]))
    if rate is not None and chance is not None and chance[0] > 0:
        lines.append(texts("times", task=task, times=rate[0] / chance[0]))
    warned = [name for name, item in entry["methods"].items() if item["warned"]]
    if warned:
        lines.append(texts("warned", task=task, methods=(", " if lang == "en" else "、").join(warned)))
    return lines


def measured(kind: str, figure: Sequence[float] | None) -> Cell:
    """A figure with its interval: rates in percent, areas as they are."""
    if figure is None:
        return None
    value, low, high = figure
    if kind.startswith("pointing"):
        return f"{value:.1%} ({low:.1%}–{high:.1%})"
    return f"{value:.3f} ({low:.3f}–{high:.3f})"
