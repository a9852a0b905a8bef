"""What a report is made of: plain values, so that any task, the demo or a third party can fill it in.

Knows no HTML, no model and no Run folder. Every part may be missing; a report shows what it was given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebus.tasks.metrics import COUNTS, LOWER_IS_BETTER, Comparison

Image = str | Path | bytes | NDArray[np.uint8]  # a path, a file's bytes, or pixels (H, W, 3)
Cell = str | int | float | None
Bounds = tuple[float, float]
AFTER = ("results", "tables", "examples", "plots", "about", "data", "machine", "commands", "limits")


@dataclass(frozen=True)
class Result:
    """One figure beside its naive baseline.

    Attributes:
        metric: its name in the program, e.g. ``exact_match``.
        value: the figure.
        interval: its 95% interval (low, high).
        baseline: the naive predictor's figure.
        difference: value minus baseline.
        difference_interval: its 95% interval, judged on the same resamples.
        baseline_name: what the naive predictor is.
        task: the task it belongs to.
        beside: the same figure beside other baselines, such as a plain model.
    """

    metric: str
    value: float
    interval: Bounds | None = None
    baseline: float | None = None
    difference: float | None = None
    difference_interval: Bounds | None = None
    baseline_name: str = ""
    task: str = ""
    beside: Sequence[Result] = ()

    @property
    def verdict(self) -> int:
        """1 better than the baseline beyond chance, -1 worse beyond chance, 0 neither or not known."""
        if self.difference_interval is None:
            return 0
        low, high = self.difference_interval
        sign = (low > 0) - (high < 0)
        return -sign if self.metric in LOWER_IS_BETTER else sign


@dataclass(frozen=True)
class Table:
    """A table of any content; floats are shares and drawn as bars where ``shares`` is set.

    Attributes:
        title: what it shows.
        columns: headings, the first that of the rows' names.
        rows: cells; None where there is nothing to say.
        note: a sentence below it.
        shares: whether floats are shares of 1, shown in percent.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    shares: bool = True


@dataclass(frozen=True)
class Plot:
    """An image of figures: a PNG file or its bytes, and words for those who do not see it."""

    title: str
    image: str | Path | bytes


@dataclass(frozen=True)
class Example:
    """One item as the model saw it.

    Attributes:
        answer: what the model said.
        truth: what would have been right.
        question: what it was asked, if anything.
        image: the image, if any.
        right: whether the answer is right; None where that is not a matter of yes or no.
        group: heading under which it is shown, e.g. ``most confident mistakes``.
        confidence: the model's own, 0 to 1.
        note: anything else.
        marked: the pieces of a text with how much each mattered (any scale, signed), shown as colours behind them.
    """

    answer: str
    truth: str = ""
    question: str = ""
    image: Image | None = None
    right: bool | None = None
    group: str = ""
    confidence: float | None = None
    note: str = ""
    marked: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True)
class Section:
    """A part of a report with a heading of its own; what it does not have is left out.

    Attributes:
        name: its anchor on the page: lower-case letters and hyphens.
        title: its heading.
        text: paragraphs.
        facts: (name, value) pairs.
        tables, plots, examples: shown in this order.
        points: sentences, one a line.
        after: the part of the page that it follows, one of ``AFTER``.
    """

    name: str
    title: str
    text: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()
    examples: Sequence[Example] = ()
    points: Sequence[str] = ()
    after: str = "examples"


@dataclass
class ReportData:
    """Everything that a report or a model card may show.

    Attributes:
        title: of the report; the model's name on the card.
        summary: one paragraph: what was trained on what, and what came out.
        facts: what was trained: (name, value) pairs such as parameters, fusion, steps.
        data: what it was trained on: (name, value) pairs such as rows and images.
        splits: rows in each of train, valid, test.
        kinds: column: kind, as inferred or given.
        notes: how the columns and tasks were inferred, one sentence each.
        warnings: what the data check warned of.
        results: figures, the most telling one of each task first.
        judged_on: which rows the figures are for, e.g. ``test (412 rows)``.
        tables: per-type figures, languages and the like.
        plots: curves and the like.
        examples: shown in their order, gathered by group.
        sections: parts with headings of their own, in their order; see ``rebus.report.sections``.
        hardware: time and machine: (name, value) pairs.
        commands: how to do it again and how to use it: (what for, command) pairs.
        limits: what the model is not good for, one sentence each.
        recipe: recipe.yaml's text.
        created: when, as text.
        version: of Rebus.
        root: folder that images' relative paths start from.
        licence, languages, tags, dataset, hub: for the model card's front matter; see ``report.hub``.
    """

    title: str
    summary: str = ""
    facts: list[tuple[str, str]] = field(default_factory=list)
    data: list[tuple[str, str]] = field(default_factory=list)
    splits: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    judged_on: str = ""
    tables: list[Table] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    hardware: list[tuple[str, str]] = field(default_factory=list)
    commands: list[tuple[str, str]] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    recipe: str = ""
    created: str = ""
    version: str = ""
    root: str | Path = "."
    licence: str = ""
    languages: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    dataset: str = ""
    hub: dict[str, str] = field(default_factory=dict)


def results_of(
    metrics: Mapping[str, float],
    *,
    task: str = "",
    intervals: Mapping[str, Sequence[float]] | None = None,
    baseline: Mapping[str, float] | None = None,
    baseline_name: str = "",
    comparisons: Mapping[str, Comparison] | None = None,
) -> list[Result]:
    """Results from a task's figures; ``comparisons`` (of ``metrics.compare``) adds paired differences where known.

    Names in ``metrics.COUNTS`` are left out: they are no figures.
    """
    result = []
    for name, value in metrics.items():
        if name in COUNTS:
            continue
        compared = (comparisons or {}).get(name)
        difference = compared.difference if compared else None
        interval: Sequence[float] | None = compared.value[1:] if compared else (intervals or {}).get(name)
        base = (baseline or {}).get(name)
        result.append(
            Result(
                metric=name,
                value=float(value),
                interval=(float(interval[0]), float(interval[1])) if interval is not None else None,
                baseline=base,
                difference=None if base is None else float(value) - float(base),
                difference_interval=difference[1:] if difference else None,
                baseline_name=baseline_name,
                task=task,
            )
        )
    return result


def table_of(title: str, columns: Mapping[str, Mapping[str, Any]], heading: str = "", note: str = "") -> Table:
    """A table of shares from ``{column: {row: value}}``; rows in the order in which they first appear.

    For the demo: ``{"unseen artists": {"count": 0.94, ...}, "seen artists": {...}, "most frequent answer": {...}}``.
    """
    names: dict[str, None] = {name: None for values in columns.values() for name in values}
    rows = [[name, *(values.get(name) for values in columns.values())] for name in names]
    return Table(title, [heading, *columns], rows, note)


def grouped(examples: Iterable[Example]) -> dict[str, list[Example]]:
    """Examples by group, both in the order in which they first appear."""
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(example.group, []).append(example)
    return groups
