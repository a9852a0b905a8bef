"""What a check of a table says, as JSON and on a terminal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rebus.data.image_survey import ImageSurvey
from rebus.data.unused import Unused
from rebus.errors import DataError, RebusError
from rebus.notebook import rendered
from rebus.recipe import Kind

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 20  # of a long list, in JSON
_PRINTED = 5  # on a terminal


@dataclass
class CheckReport:
    """What a check found.

    Attributes:
        name: of the table.
        rows: how many.
        kinds: column: kind.
        tasks: task: its columns by role.
        splits: split: rows.
        columns: column: figures that fit its kind.
        images: one survey an image column.
        duplicates: (row, the earlier row it repeats).
        leaks: (held-out row, training row) that hold the same image or text.
        errors: what no leaving out of rows cures; training refuses.
        bad_rows: row: what is wrong with it; training refuses or leaves it out and counts it.
        notes: how the table was read, where that is not plain.
        warnings: what a person should know.
        skipped: rows that the reader already left out.
        unlabelled: rows of a held-out split that lack only what is to be predicted; they are left out.
        unused: what the files say and training will not use, by kind.
        places: a row's file and line, for the rows named here.
        fingerprint: of the table's content; see ``rebus.data.duplicates.fingerprint``.
        says_splits: whether the table itself says which rows are held out.
        skips_bad: whether the settings leave bad rows out instead of refusing them.
    """

    name: str
    rows: int
    kinds: dict[str, Kind]
    tasks: dict[str, dict[str, str]]
    splits: dict[str, int]
    columns: dict[str, dict[str, Any]] = field(default_factory=dict)
    images: list[ImageSurvey] = field(default_factory=list)
    duplicates: list[tuple[int, int]] = field(default_factory=list)
    leaks: list[tuple[int, int]] = field(default_factory=list)
    errors: list[RebusError] = field(default_factory=list)
    bad_rows: dict[int, RebusError] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    skipped: list[DataError] = field(default_factory=list)
    unlabelled: list[int] = field(default_factory=list)
    unused: Unused = field(default_factory=Unused)
    places: dict[int, str] = field(default_factory=dict)
    fingerprint: str = ""
    says_splits: bool = False
    skips_bad: bool = False

    @property
    def exit_code(self) -> int:
        """2: training refuses the table; 1: it leaves out the bad rows that are listed; 0: it takes all rows."""
        if self.errors or (self.bad_rows and not self.skips_bad):
            return 2
        return 1 if self.bad_rows or self.skipped else 0

    @property
    def good(self) -> bool:
        """Whether training would take the table as it is."""
        return not self.errors and not self.bad_rows

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values; of long lists the first 20 and the count."""
        bad = sorted(self.bad_rows)
        return {
            "name": self.name,
            "rows": self.rows,
            "fingerprint": self.fingerprint,
            "kinds": dict(self.kinds),
            "tasks": self.tasks,
            "splits": self.splits,
            "columns": self.columns,
            "images": [survey.as_dict() for survey in self.images],
            "duplicate_rows": self._pairs(self.duplicates),
            "leaks": self._pairs(self.leaks),
            "errors": [error.as_dict() for error in self.errors],
            "bad_rows": {
                "count": len(bad),
                "first": [{"row": row, **self.bad_rows[row].as_dict()} for row in bad[:SHOWN]],
            },
            "skipped": {"count": len(self.skipped), "first": [error.as_dict() for error in self.skipped[:SHOWN]]},
            "notes": self.notes,
            "unlabelled": len(self.unlabelled),
            "unused": self.unused.as_dict(),
            "warnings": self.warnings,
        }

    def _repr_html_(self) -> str:
        return rendered(self.render)

    def render(self, console: Console) -> None:
        """Print columns, splits, images, then what is wrong, worst last."""
        from rich.markup import escape
        from rich.table import Table as Grid

        console.print(f"[bold]{escape(self.name)}[/]: {self.rows:,} rows, {len(self.kinds)} columns")
        grid = Grid(show_edge=False, pad_edge=False)
        for heading in ("column", "kind", "empty", "what it holds"):
            grid.add_column(heading, overflow="fold", justify="right" if heading == "empty" else "left")
        surveys = {survey.column: survey.as_dict() for survey in self.images}
        for name, kind in self.kinds.items():
            figures = self.columns.get(name, {})
            message = _image_figures(surveys[name]) if name in surveys else _figures(kind, figures)
            empty = surveys[name]["rows_without"] if name in surveys else figures.get("empty", "")
            grid.add_row(escape(name), kind, str(empty), escape(message))
        console.print(grid)
        for task, columns in self.tasks.items():
            console.print(
                f"task {task}: " + escape(", ".join(f"{role} = {column}" for role, column in columns.items()))
            )
        if self.splits:
            console.print("splits: " + ", ".join(f"{name} {count:,}" for name, count in self.splits.items()))
        for note in self.notes:
            console.print(f"[blue]note[/] {escape(note)}")
        for line in self.unused.lines():
            console.print(f"[yellow]not used[/] {escape(line)}")
        for warning in self.warnings:
            console.print(f"[yellow]warning[/] {escape(warning)}")
        for pairs, words in ((self.duplicates, "repeats"), (self.leaks, "also in training as")):
            for first, second in pairs[:_PRINTED]:
                console.print(f"  {escape(self.places[first])} {words} {escape(self.places[second])}", style="dim")
        for row in sorted(self.bad_rows)[:_PRINTED]:
            console.print(f"[red]bad row[/] {escape(str(self.bad_rows[row]))}")
        if len(self.bad_rows) > _PRINTED:
            console.print(f"[red]bad rows[/] {len(self.bad_rows):,} in all; --json FILE writes the first 20")
        for error in self.errors:
            console.print(f"[red]error[/] {escape(str(error))}")
        if self.exit_code == 2:
            console.print("[red]training would refuse this table[/]")
        elif self.exit_code:
            console.print("[yellow]ready to train without the bad rows[/]")
        else:
            console.print("[green]ready to train[/]")

    def _pairs(self, pairs: list[tuple[int, int]]) -> dict[str, Any]:
        shown = [[self.places.get(a, str(a)), self.places.get(b, str(b))] for a, b in pairs[:SHOWN]]
        return {"count": len(pairs), "first": shown}


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
        unit = f" {figures['unit']}" if figures.get("unit") else ""
        return f"{figures['min']:g} to {figures['max']:g}{unit}, median {figures['median']:g}"
    if kind == "date" and "first" in figures:
        return f"{figures['first']} to {figures['last']}"
    return ""


def _image_figures(survey: dict[str, Any]) -> str:
    text = f"{survey['different']:,} different, {survey['unreadable']} unreadable"
    if "width" in survey:
        (_, wide, _), (_, high, _) = survey["width"], survey["height"]
        text += f"; {', '.join(survey['formats'])}, median {wide} x {high}"
    return text
