"""A check's report on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table as Grid

if TYPE_CHECKING:
    from rich.console import Console

    from rebus.data.check import CheckReport

_SHOWN = 5


def render_report(report: CheckReport, console: Console) -> None:
    """Print columns, splits, images, then what is wrong, worst last."""
    console.print(f"[bold]{escape(report.name)}[/]: {report.rows:,} rows, {len(report.kinds)} columns")
    grid = Grid(show_edge=False, pad_edge=False)
    for heading in ("column", "kind", "empty", "what it holds"):
        grid.add_column(heading, overflow="fold", justify="right" if heading == "empty" else "left")
    surveys = {survey.column: survey.as_dict() for survey in report.images}
    for name, kind in report.kinds.items():
        figures = report.columns.get(name, {})
        told = _images(surveys[name]) if name in surveys else _figures(kind, figures)
        empty = surveys[name]["rows_without"] if name in surveys else figures.get("empty", "")
        grid.add_row(escape(name), kind, str(empty), escape(told))
    console.print(grid)
    for task, columns in report.tasks.items():
        console.print(f"task {task}: " + escape(", ".join(f"{role} = {column}" for role, column in columns.items())))
    if report.splits:
        console.print("splits: " + ", ".join(f"{name} {count:,}" for name, count in report.splits.items()))
    for note in report.notes:
        console.print(f"[blue]note[/] {escape(note)}")
    for line in report.unused.lines():
        console.print(f"[yellow]not used[/] {escape(line)}")
    for warning in report.warnings:
        console.print(f"[yellow]warning[/] {escape(warning)}")
    for pairs, words in ((report.duplicates, "repeats"), (report.leaks, "also in training as")):
        for first, second in pairs[:_SHOWN]:
            console.print(f"  {escape(report.places[first])} {words} {escape(report.places[second])}", style="dim")
    for row in sorted(report.bad_rows)[:_SHOWN]:
        console.print(f"[red]bad row[/] {escape(str(report.bad_rows[row]))}")
    if len(report.bad_rows) > _SHOWN:
        console.print(f"[red]bad rows[/] {len(report.bad_rows):,} in all; --json FILE writes the first 20")
    for error in report.errors:
        console.print(f"[red]error[/] {escape(str(error))}")
    if report.exit_code == 2:
        console.print("[red]training would refuse this table[/]")
    elif report.exit_code:
        console.print("[yellow]ready to train without the bad rows[/]")
    else:
        console.print("[green]ready to train[/]")


def _figures(kind: str, figures: dict[str, Any]) -> str:
    if kind in ("text", "messages") and figures.get("measured"):
        lengths, scripts = figures["characters"], figures["scripts"]
        shares = ", ".join(f"{name} {share:.0%}" for name, share in scripts.items())
        turns = f"turns: median {figures['turns']['50%']}; " if "turns" in figures else ""
        return f"{turns}characters: median {lengths['50%']}, 95% {lengths['95%']}, longest {lengths['max']}; {shares}"
    if kind in ("category", "labels") and figures.get("different"):
        counts = list(figures["counts"].items())
        shown = ", ".join(f"{name} {count}" for name, count in counts[:5])
        return f"{figures['different']} different: {shown}" + (", ..." if len(counts) > 5 else "")
    if kind == "number" and "min" in figures:
        return f"{figures['min']:g} to {figures['max']:g}, median {figures['median']:g}"
    return ""


def _images(survey: dict[str, Any]) -> str:
    told = f"{survey['different']:,} different, {survey['unreadable']} unreadable"
    if "width" in survey:
        (_, wide, _), (_, high, _) = survey["width"], survey["height"]
        told += f"; {', '.join(survey['formats'])}, median {wide} x {high}"
    return told
