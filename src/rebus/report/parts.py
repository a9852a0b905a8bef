"""What whoever made a Run adds to its report: kept in the Run, so that every later report has it, in both languages.

The file holds ``report: {language: part}`` beside what else its maker keeps there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rebus.checkpoints.run_folder import Run
from rebus.report.contents import Example, Plot, ReportData, Table
from rebus.report.plots import plot_types

PARTS = "demo.json"  # in a Run, where it has such parts


@dataclass(frozen=True)
class ReportPart:
    """What is added.

    Attributes:
        title: of the report; "": its own.
        judged_on: which rows the figures are for; "": as the report finds out.
        tables, examples: shown first; images of examples are paths.
        types: title of a plot: {column: {type: share}}.
    """

    title: str = ""
    judged_on: str = ""
    tables: Sequence[Table] = ()
    examples: Sequence[Example] = ()
    types: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)


def kept_part(part: ReportPart) -> dict[str, Any]:
    """As JSON values."""
    return asdict(part)


def add_part(data: ReportData, run: Run, lang: str) -> None:
    """Add what the Run keeps in this language to a report; nothing where it keeps nothing."""
    if not (run.folder / PARTS).exists():
        return
    result = run.read_json(PARTS)
    part = result.get("report", {}).get(lang) if isinstance(result, dict) else None
    if not part:
        return
    data.title, data.judged_on = part["title"] or data.title, part["judged_on"] or data.judged_on
    data.tables = [*(Table(**table) for table in part["tables"]), *data.tables]
    data.examples = [*(Example(**example) for example in part["examples"]), *data.examples]
    folder = run.folder / "plots"
    plots = [
        Plot(title, plot_types(folder / f"types-{number}.png", columns, lang))
        for number, (title, columns) in enumerate(part["types"].items(), 1)
    ]
    data.plots = [*plots, *data.plots]
