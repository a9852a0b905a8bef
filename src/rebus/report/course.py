"""How a run went, for its report: what each stage gained, what was said while it trained, other baselines.

It reads evaluation.json alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rebus.catalogue import Translator, rendered, translate_name, translator
from rebus.report import labels
from rebus.report.contents import Table
from rebus.report.summary import results_beside
from rebus.training.hardware import starvation

NAMED = 3  # parts that are named, of those that learn


def course_tables(evaluation: Mapping[str, Any], lang: str) -> list[Table]:
    """Tables of the stages' gains and of baselines beside the naive one; none where there were none."""
    texts = translator("course", lang)
    tables = _stages(evaluation.get("stages", []), texts)
    for task, score in evaluation.get("tasks", {}).items():
        for other, figures in score.get("others", {}).items():
            cells = [
                [
                    labels.metric_name(item.metric, lang),
                    labels.figure(item.value, item.metric),
                    labels.figure(item.baseline, item.metric),
                    labels.difference(item, lang),
                    labels.difference_interval(item),
                ]
                for item in results_beside(task, score, other, lang)
            ]
            columns = [texts(key) for key in ("figure", "model", "baseline", "difference", "interval")]
            title = texts("beside", task=task, other=translate_name("baseline", other, lang))
            note = texts("paired")
            if "rows" in figures:
                note += texts("fitted", **{key: figures[key] for key in ("rows", "of", "seconds")})
            tables.append(Table(title, columns, cells, note, shares=False))
    return tables


def remark_lines(evaluation: Mapping[str, Any], lang: str) -> list[str]:
    """What was said of the run while it trained and when it was judged, as sentences."""
    texts = translator("course", lang)
    starved = starvation(evaluation.get("training", {}))
    notes = [*evaluation.get("notes", []), *([starved] if starved else [])]
    return [rendered(note, lang) for note in notes] + [
        texts("passed" if remark.get("passed") else "still", text=rendered(remark["text"], lang), step=remark["step"])
        for remark in evaluation.get("remarks", [])
    ]


def _stages(stages: list[dict[str, Any]], texts: Translator) -> list[Table]:
    if not stages:
        return []
    cells: list[list[str | int | float | None]] = []
    for stage in stages:
        name = stage["watch"].partition("/")[2]
        before, after = stage["before"][name], stage["after"][name]
        gain = stage["gains"].get(name)
        interval = f"{gain[1]:.3f} – {gain[2]:.3f}" if gain else ""
        what, share = _what(stage, texts), f"{stage['share']:.0%}"
        cells.append(
            [str(stage["stage"]), share, what, f"{stage['learned']:,}", before, after, after - before, interval]
        )
    heads = ("stage", "share", "what", "numbers", "before", "after", "gain", "interval")
    title = f"{texts('stages')}: {stages[0]['watch']}"
    return [Table(title, [texts(key) for key in heads], cells, texts("rows", rows=stages[0]["rows"]), shares=False)]


def _what(stage: Mapping[str, Any], texts: Translator) -> str:
    if stage["tune"] == "full":
        return texts("full")
    parts = list(stage["learns"] or [])
    named = [texts(stage["tune"]), *parts[:NAMED]]
    if len(parts) > NAMED:
        named.append(texts("more", n=len(parts) - NAMED))
    return ", ".join(part for part in named if part) or texts("heads")
