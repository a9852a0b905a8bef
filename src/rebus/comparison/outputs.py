"""compare.json, compare.md, compare.html and the plot, from a finished comparison."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import torch

from rebus import atomic
from rebus._version import __version__
from rebus.catalogue import translate_list, translator
from rebus.comparison.figures import Difference
from rebus.comparison.plot import plot_strategies
from rebus.comparison.result import ArmResult, Comparison
from rebus.report import labels
from rebus.report.card import markdown_grid
from rebus.report.contents import Cell, Plot, ReportData, Result, Table
from rebus.report.differences import signed, span
from rebus.report.html import write_report

CONDITIONS = ("complete", "image", "text", "lacking_image", "lacking_text")


def write_all(comparison: Comparison, recipe: str, command: str) -> None:
    """Write the files of a comparison into its folder, compare.json last.

    Args:
        comparison: with its folder and its verdict.
        recipe: of the strategies, as YAML, for the page.
        command: that made it.

    Raises:
        RunError: the folder cannot be written.
    """
    plot = plot_strategies(comparison.folder / "compare.png", comparison)
    data = page(comparison, recipe, command, plot)
    write_report(comparison.folder / "compare.html", data, comparison.language)
    atomic.write_text(comparison.folder / "compare.md", markdown(comparison, data))
    atomic.write_json(comparison.folder / "compare.json", comparison.as_dict())


def page(comparison: Comparison, recipe: str, command: str, plot: Path) -> ReportData:
    """The comparison as a report."""
    texts, lang = translator("comparison", comparison.language), comparison.language
    base = comparison.arm(comparison.best_single) if comparison.best_single else None
    results = []
    for arm in comparison.arms:
        gain = comparison.gain(arm)
        flipped = None if gain is None else _as_figure(gain, comparison)
        results.append(
            Result(
                comparison.metric,
                arm.figure.value,
                (arm.figure.low, arm.figure.high),
                None if base is None or arm.name == base.name else base.figure.value,
                None if base is None or arm.name == base.name else arm.figure.value - base.figure.value,
                flipped,
                "" if base is None or arm.name == base.name else texts("best_single", name=base.name),
                arm.name,
            )
        )
    how = texts(comparison.how, splits=comparison.splits)
    metric = labels.metric_name(comparison.metric, lang)
    return ReportData(
        title=texts("title", table=comparison.table),
        summary=comparison.verdict,
        facts=[(texts("task"), comparison.task), (texts("seed"), how), (texts("budget"), comparison.budget)],
        results=results,
        judged_on=texts(
            "judged", metric=metric, rows=comparison.rows, images=comparison.images, how=how, budget=comparison.budget
        ),
        tables=tables(comparison),
        plots=[Plot(texts("plot"), plot)],
        hardware=[("CPU cores", str(os.cpu_count())), ("machine", platform.machine()), ("torch", torch.__version__)],
        commands=[(texts("again"), command)],
        limits=[texts("towers"), texts("selected"), *comparison.notes],
        warnings=[texts("skipped", count=len(comparison.skipped), first=comparison.skipped[0])]
        if comparison.skipped
        else [],
        recipe=recipe,
        created=time.strftime("%Y-%m-%d"),
        version=__version__,
    )


def tables(comparison: Comparison) -> list[Table]:
    """Strategies side by side; what they are worth when a modality is missing; each split."""
    texts = translator("comparison", comparison.language)
    metric = labels.metric_name(comparison.metric, comparison.language)
    words = {"metric": metric, "single": comparison.best_single or "–"}
    heads = translate_list("comparison.columns", comparison.language, **words)
    rows: list[list[Cell]] = [_row(comparison, arm) for arm in comparison.arms]
    if comparison.baseline is not None:
        blank: list[Cell] = [None] * (len(heads) - 2)
        rows.append(
            [
                texts("naive", name=comparison.baseline_name),
                labels.figure(comparison.baseline, comparison.metric),
                *blank,
            ]
        )
    result = [Table(texts("figures"), heads, rows, texts("tests"), shares=False)]
    shown = [name for name in CONDITIONS if any(name in arm.without for arm in comparison.arms)]
    if any({"image", "text", "lacking_image", "lacking_text"} & set(arm.without) for arm in comparison.arms):
        cells = [[arm.name, *(_with_interval(arm, name, comparison) for name in shown)] for arm in comparison.arms]
        note = texts("missing_note", dropout=comparison.dropout)
        result.append(
            Table(
                texts("missing"), ["", *(texts(f"missing_columns.{name}") for name in shown)], cells, note, shares=False
            )
        )
    if comparison.splits > 1:
        splits = [texts("split", number=number + 1) for number in range(comparison.splits)]
        each = [
            [arm.name, *(labels.figure(value, comparison.metric) for value in arm.by_split)] for arm in comparison.arms
        ]
        result.append(Table(texts("splits"), ["", *splits], each, shares=False))
    return result


def markdown(comparison: Comparison, data: ReportData) -> str:
    """compare.md."""
    parts = [f"# {data.title}", comparison.verdict, data.judged_on]
    parts += [f"## {data.plots[0].title}", "![](compare.png)"]
    for table in data.tables:
        cells = [["" if cell is None else str(cell) for cell in row] for row in table.rows]
        parts.append(f"## {table.title}\n\n{markdown_grid(list(table.columns), cells)}")
        if table.note:
            parts.append(table.note)
    parts += [f"- {limit}" for limit in [*data.warnings, *data.limits]]
    parts += [f"```sh\n{command}\n```" for _, command in data.commands]
    return "\n\n".join(parts) + "\n"


def _row(comparison: Comparison, arm: ArmResult) -> list[Cell]:
    metric, gain = comparison.metric, comparison.gain(arm)
    cells: list[Cell] = [arm.name, labels.figure(arm.figure.value, metric), labels.interval(arm.figure[1:], metric)]
    cells += [None] * 4 if gain is None else [*_difference(gain, comparison), _p(gain.holm), _p(gain.t)]
    behind = arm.behind
    if behind is None:
        cells += [None, None]
    else:
        cells += [signed(-behind.value, metric), _p(behind.holm)]
    return [*cells, f"{arm.parameters:,}", f"{arm.seconds:.0f}", f"{arm.rate:.0f}"]


def _difference(gain: Difference, comparison: Comparison) -> list[Cell]:
    return [
        signed(gain.value, comparison.metric),
        span(gain.low, gain.high, comparison.metric, comparison.language).strip("()（）"),
    ]


def _with_interval(arm: ArmResult, name: str, comparison: Comparison) -> str | None:
    if name not in arm.without:
        return None
    value = arm.without[name]
    return f"{labels.figure(value.value, comparison.metric)} ({labels.interval(value[1:], comparison.metric)})"


def _p(value: float | None) -> str | None:
    if value is None:
        return None
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _as_figure(gain: Difference, comparison: Comparison) -> tuple[float, float]:
    """The interval of the figure's own difference: where less is better, the sign of a gain turned."""
    return (-gain.high, -gain.low) if comparison.lower_is_better else (gain.low, gain.high)
