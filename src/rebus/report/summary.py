"""What a finished run says of itself in a few lines, for a terminal: its figures beside their baselines, its time.

It reads evaluation.json alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from rebus.catalogue import translate_name, translator
from rebus.errors import RebusError
from rebus.report import labels
from rebus.report.contents import Result
from rebus.report.sections.machine import time_line
from rebus.tasks import TASKS
from rebus.tasks.metrics import COUNTS

SIGNS = {1: "▲", -1: "▼", 0: "≈"}


def summary_lines(evaluation: Mapping[str, Any], lang: str = "en", report: float | None = None) -> list[str]:
    """A line for each task, then one of how the run ended and where its time went.

    Args:
        evaluation: what evaluation.json holds.
        lang: en or zh.
        report: seconds that writing the report took.
    """
    texts, trained = translator("summary", lang), evaluation.get("training", {})
    split, lines = translate_name("split", str(trained.get("judged_on", "test")), lang), []
    for task, score in evaluation.get("tasks", {}).items():
        metric = main_figure(task, score)
        if metric is None:
            continue
        figures = f"{labels.metric_name(metric, lang)} {labels.figure(score['metrics'][metric], metric)}"
        if metric in score["intervals"]:
            figures += f" ({labels.interval(tuple(score['intervals'][metric]), metric)})"
        figures += "".join(texts("against", **item) for item in comparisons(task, score, metric, lang))
        rows = evaluation.get("rows", {}).get(task, 0)
        lines.append(texts("task", task=task, rows=rows, split=split, figures=figures))
    if trained:
        why = translate_name("end", str(trained.get("stopped_because", "")), lang)
        kept, steps = trained.get("weights_step"), trained.get("steps", 0)
        if kept is not None and kept != steps:
            why += texts("kept", step=kept)
        lines.append(texts("ended", steps=steps, why=why, time=time_line(trained, lang, report)))
    return lines


def main_figure(task: str, score: Mapping[str, Any]) -> str | None:
    """The figure that says which of two models is better: what the task watches, else its first one."""
    names = [name for name in score["metrics"] if name not in COUNTS]
    with suppress(RebusError):  # a plug-in that is gone
        watch = str(getattr(TASKS.get(task), "watch", ""))
        if watch in names:
            return watch
    return next(iter(names), None)


def results_beside(task: str, score: Mapping[str, Any], name: str, lang: str) -> list[Result]:
    """Every figure beside the baseline of that name among ``others``."""
    other = score["others"][name]
    result = []
    for metric, base in other["metrics"].items():
        if metric in COUNTS or metric not in score["metrics"]:
            continue
        gain = other["gains"].get(metric)
        result.append(
            Result(
                metric,
                score["metrics"][metric],
                baseline=base,
                difference=score["metrics"][metric] - base,
                difference_interval=(gain[1], gain[2]) if gain else None,
                baseline_name=translate_name("baseline", name, lang),
                task=task,
            )
        )
    return result


def beside(task: str, score: Mapping[str, Any], metric: str, lang: str) -> list[Result]:
    """A figure beside each baseline that is not the naive one: a plain model, the nearest image's caption."""
    results = [item for name in score.get("others", {}) for item in results_beside(task, score, name, lang)]
    return [result for result in results if result.metric == metric]


def comparisons(task: str, score: Mapping[str, Any], metric: str, lang: str) -> list[dict[str, str]]:
    """The figure of each baseline, the model's difference from it, and whether that is sure."""
    naive = {str(score.get("baseline_name", "")): {"metrics": score["baseline"], "gains": score["gains"]}}
    results = [*beside(task, {**score, "others": naive}, metric, lang), *beside(task, score, metric, lang)]
    return [
        {
            "name": result.baseline_name,
            "value": labels.figure(result.baseline, metric),
            "difference": labels.difference(result, lang),
            "sign": SIGNS[result.verdict] if result.difference_interval else "",
        }
        for result in results
    ]
