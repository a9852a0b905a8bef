"""compare.json, compare.md, compare.html and the plot, from a finished comparison."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

import torch

from rebus import atomic
from rebus._version import __version__
from rebus.comparison.figures import Difference
from rebus.comparison.plot import plot_strategies
from rebus.comparison.result import ArmResult, Comparison
from rebus.report import labels
from rebus.report.card import markdown_grid
from rebus.report.contents import Cell, Plot, ReportData, Result, Table
from rebus.report.differences import signed, span
from rebus.report.html import write_report

SAID: dict[str, dict[str, Any]] = {
    "en": {
        "title": "{table}: does joining images and text help?",
        "judged": "{metric} on {rows:,} test items ({images:,} different); {how}; {budget}",
        "folds": "{splits} folds, each item judged once",
        "repeats": "{splits} times dealt anew",
        "given": "the table's own test rows, trained {splits} times",
        "best_single": "best single modality: {name}",
        "figures": "Strategies side by side",
        "columns": ["strategy", "{metric}", "95% interval", "over {single}", "95% interval", "p (Holm)", "t-test p",
                    "behind the best", "p (Holm)", "parameters", "seconds", "examples/s"],
        "naive": "naive: {name}",
        "tests": "Differences: bootstrap over test items, one image's together, paired over the same resamples. "
        "p is corrected for the number of strategies by Holm's method. t-test: over splits, corrected for the training "
        "rows they share (Nadeau and Bengio 2003); it is left out where there is one split or all test the same rows.",
        "missing": "When a modality is missing",
        "missing_columns": {"complete": "complete", "image": "image hidden", "text": "text hidden",
                            "lacking_image": "rows without an image", "lacking_text": "rows without a text"},
        "missing_note": "Complete: test items that have both; the next columns are the same items with one hidden. "
        "Trained with model.fusion.modality_dropout={dropout}.",
        "splits": "By split",
        "split": "split {number}",
        "plot": "Strategies with their 95% intervals",
        "task": "task", "budget": "budget of each training", "seed": "splits", "dropout": "modality dropout",
        "again": "compare again",
        "towers": "All strategies have the same towers, test rows and budget; only the way of joining differs. "
        "A single modality keeps its tower and has no fusion.",
        "selected": "The best of several strategies is chosen by the same test rows that its gain is measured on: its "
        "gain is a little flattered. Holm's correction guards the claim that it is there, not its size.",
        "skipped": "{count} test rows were left out: their image cannot be read ({first})",
    },
    "zh": {
        "title": "{table}：图片与文字的融合有没有用？",
        "judged": "{metric}，{rows:,} 个测试项（{images:,} 个不同）；{how}；{budget}",
        "folds": "{splits} 折，每项评测一次",
        "repeats": "重新划分 {splits} 次",
        "given": "使用表格自带的测试行，训练 {splits} 次",
        "best_single": "最好的单一模态：{name}",
        "figures": "各种方式的对比",
        "columns": ["方式", "{metric}", "95% 区间", "相对 {single}", "95% 区间", "p（Holm）", "t 检验 p",
                    "落后于最好者", "p（Holm）", "参数", "秒", "样本/秒"],
        "naive": "基线：{name}",
        "tests": "差值：对测试项做自助法，同一图片的项一起抽取，在相同的重抽样上配对；p 值用 Holm 法按方式个数修正。"
        "t 检验：在各次划分之间，按共用的训练行修正（Nadeau 与 Bengio，2003）；"
        "只有一次划分或各次测试行相同时不做。",
        "missing": "缺少一种模态时",
        "missing_columns": {"complete": "完整", "image": "隐藏图片", "text": "隐藏文字",
                            "lacking_image": "没有图片的行", "lacking_text": "没有文字的行"},
        "missing_note": "完整：两种模态都有的测试项；后面的列是同样的项隐藏其中一种。"
        "训练时 model.fusion.modality_dropout={dropout}。",
        "splits": "各次划分",
        "split": "第 {number} 次",
        "plot": "各种方式及其 95% 区间",
        "task": "任务", "budget": "每次训练的预算", "seed": "划分", "dropout": "模态丢弃",
        "again": "再对比一次",
        "towers": "各种方式的编码器、测试行和预算都相同，只有融合方式不同。单一模态保留自己的编码器，没有融合。",
        "selected": "最好的方式是用同一批测试行选出来的，所以它的提高略有高估。"
        "Holm 修正保证的是“有提高”，不是提高的大小。",
        "skipped": "有 {count} 个测试行因图片无法读取而被略去（{first}）",
    },
}  # fmt: skip


def write_all(found: Comparison, recipe: str, command: str) -> None:
    """Write the files of a comparison into its folder, compare.json last.

    Args:
        found: with its folder and its verdict.
        recipe: of the strategies, as YAML, for the page.
        command: that made it.

    Raises:
        RunError: the folder cannot be written.
    """
    plot = plot_strategies(found.folder / "compare.png", found)
    data = page(found, recipe, command, plot)
    write_report(found.folder / "compare.html", data, found.language)
    atomic.write_text(found.folder / "compare.md", markdown(found, data))
    atomic.write_json(found.folder / "compare.json", found.as_dict())


def page(found: Comparison, recipe: str, command: str, plot: Path) -> ReportData:
    """The comparison as a report."""
    said, lang = SAID[found.language], found.language
    base = found.arm(found.best_single) if found.best_single else None
    results = []
    for arm in found.arms:
        gain = found.gain(arm)
        flipped = None if gain is None else _as_figure(gain, found)
        results.append(
            Result(
                found.metric,
                arm.figure.value,
                (arm.figure.low, arm.figure.high),
                None if base is None or arm.name == base.name else base.figure.value,
                None if base is None or arm.name == base.name else arm.figure.value - base.figure.value,
                flipped,
                "" if base is None or arm.name == base.name else said["best_single"].format(name=base.name),
                arm.name,
            )
        )
    how = said[found.how].format(splits=found.splits)
    metric = labels.metric_name(found.metric, lang)
    return ReportData(
        title=said["title"].format(table=found.table),
        summary=found.verdict,
        facts=[(said["task"], found.task), (said["seed"], how), (said["budget"], found.budget)],
        results=results,
        judged_on=said["judged"].format(
            metric=metric, rows=found.rows, images=found.images, how=how, budget=found.budget
        ),
        tables=tables(found),
        plots=[Plot(said["plot"], plot)],
        hardware=[("CPU cores", str(os.cpu_count())), ("machine", platform.machine()), ("torch", torch.__version__)],
        commands=[(said["again"], command)],
        limits=[said["towers"], said["selected"], *found.notes],
        warnings=[said["skipped"].format(count=len(found.skipped), first=found.skipped[0])] if found.skipped else [],
        recipe=recipe,
        created=time.strftime("%Y-%m-%d"),
        version=__version__,
    )


def tables(found: Comparison) -> list[Table]:
    """Strategies side by side; what they are worth when a modality is missing; each split."""
    said = SAID[found.language]
    metric = labels.metric_name(found.metric, found.language)
    words = {"metric": metric, "single": found.best_single or "–"}
    heads = [head.format(**words) for head in said["columns"]]
    rows: list[list[Cell]] = [_row(found, arm) for arm in found.arms]
    if found.baseline is not None:
        blank: list[Cell] = [None] * (len(heads) - 2)
        rows.append(
            [said["naive"].format(name=found.baseline_name), labels.figure(found.baseline, found.metric), *blank]
        )
    made = [Table(said["figures"], heads, rows, said["tests"], shares=False)]
    named = said["missing_columns"]
    shown = [name for name in named if any(name in arm.without for arm in found.arms)]
    if any({"image", "text", "lacking_image", "lacking_text"} & set(arm.without) for arm in found.arms):
        cells = [[arm.name, *(_with_interval(arm, name, found) for name in shown)] for arm in found.arms]
        note = said["missing_note"].format(dropout=found.dropout)
        made.append(Table(said["missing"], ["", *(named[name] for name in shown)], cells, note, shares=False))
    if found.splits > 1:
        splits = [said["split"].format(number=number + 1) for number in range(found.splits)]
        each = [[arm.name, *(labels.figure(value, found.metric) for value in arm.by_split)] for arm in found.arms]
        made.append(Table(said["splits"], ["", *splits], each, shares=False))
    return made


def markdown(found: Comparison, data: ReportData) -> str:
    """compare.md."""
    parts = [f"# {data.title}", found.verdict, data.judged_on]
    parts += [f"## {data.plots[0].title}", "![](compare.png)"]
    for table in data.tables:
        cells = [["" if cell is None else str(cell) for cell in row] for row in table.rows]
        parts.append(f"## {table.title}\n\n{markdown_grid(list(table.columns), cells)}")
        if table.note:
            parts.append(table.note)
    parts += [f"- {limit}" for limit in [*data.warnings, *data.limits]]
    parts += [f"```sh\n{command}\n```" for _, command in data.commands]
    return "\n\n".join(parts) + "\n"


def _row(found: Comparison, arm: ArmResult) -> list[Cell]:
    metric, gain = found.metric, found.gain(arm)
    cells: list[Cell] = [arm.name, labels.figure(arm.figure.value, metric), labels.interval(arm.figure[1:], metric)]
    cells += [None] * 4 if gain is None else [*_difference(gain, found), _p(gain.holm), _p(gain.t)]
    behind = arm.behind
    if behind is None:
        cells += [None, None]
    else:
        cells += [signed(-behind.value, metric), _p(behind.holm)]
    return [*cells, f"{arm.parameters:,}", f"{arm.seconds:.0f}", f"{arm.rate:.0f}"]


def _difference(gain: Difference, found: Comparison) -> list[Cell]:
    return [signed(gain.value, found.metric), span(gain.low, gain.high, found.metric, found.language).strip("()（）")]


def _with_interval(arm: ArmResult, name: str, found: Comparison) -> str | None:
    if name not in arm.without:
        return None
    value = arm.without[name]
    return f"{labels.figure(value.value, found.metric)} ({labels.interval(value[1:], found.metric)})"


def _p(value: float | None) -> str | None:
    if value is None:
        return None
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _as_figure(gain: Difference, found: Comparison) -> tuple[float, float]:
    """The interval of the figure's own difference: where less is better, the sign of a gain turned."""
    return (-gain.high, -gain.low) if found.lower_is_better else (gain.low, gain.high)
