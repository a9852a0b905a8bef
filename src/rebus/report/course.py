"""How a run went, for its report: what each stage gained, what was said while it trained, other baselines.

It reads evaluation.json alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rebus.report import labels
from rebus.report.contents import Table
from rebus.report.sentences import naive_name, sentence
from rebus.report.summary import results_beside
from rebus.training.hardware import starvation

SAID: dict[str, dict[str, str]] = {
    "en": {
        "stages": "what each stage gained",
        "stage": "stage",
        "share": "share of the run",
        "what": "what learns",
        "numbers": "numbers learned",
        "figure": "figure",
        "before": "before",
        "after": "after",
        "gain": "gain",
        "interval": "95% interval",
        "rows": "On {rows} validation rows; the intervals are paired over them.",
        "full": "everything that is not frozen",
        "lora": "adapters",
        "head": "",
        "heads": "heads",
        "more": "{n} more",
        "beside": "{task} beside the {other}",
        "model": "model",
        "baseline": "baseline",
        "difference": "difference",
        "paired": "On the rows that were held out; differences are paired over them.",
        "fitted": " Fitted on {rows:,} of {of:,} training rows in {seconds:.1f} s.",
        "passed": "{text} (at step {step}; no longer so at the end)",
        "still": "{text} (at step {step})",
    },
    "zh": {
        "stages": "每个阶段的提升",
        "stage": "阶段",
        "share": "占训练的比例",
        "what": "学习的部分",
        "numbers": "学习的参数",
        "figure": "指标",
        "before": "之前",
        "after": "之后",
        "gain": "提升",
        "interval": "95% 区间",
        "rows": "在 {rows} 行验证数据上；区间按行配对。",
        "full": "所有未冻结的部分",
        "lora": "适配器",
        "head": "",
        "heads": "输出头",
        "more": "另外 {n} 个",
        "beside": "{task}：与“{other}”相比",
        "model": "模型",
        "baseline": "基线",
        "difference": "差",
        "paired": "在留出的行上；差按行配对。",
        "fitted": "在 {of:,} 个训练行中的 {rows:,} 行上用 {seconds:.1f} 秒拟合。",
        "passed": "{text}（第 {step} 步；结束时已不再如此）",
        "still": "{text}（第 {step} 步）",
    },
}
NAMED = 3  # parts that are named, of those that learn


def course_tables(evaluation: Mapping[str, Any], lang: str) -> list[Table]:
    """Tables of the stages' gains and of baselines beside the naive one; none where there were none."""
    said = SAID[lang]
    tables = _stages(evaluation.get("stages", []), said)
    for task, score in evaluation.get("tasks", {}).items():
        for other, figures in score.get("others", {}).items():
            cells = [
                [
                    labels.metric_name(one.metric, lang),
                    labels.figure(one.value, one.metric),
                    labels.figure(one.baseline, one.metric),
                    labels.difference(one, lang),
                    labels.difference_interval(one),
                ]
                for one in results_beside(task, score, other, lang)
            ]
            columns = [said[key] for key in ("figure", "model", "baseline", "difference", "interval")]
            title = said["beside"].format(task=task, other=naive_name(other, lang))
            note = said["paired"]
            if "rows" in figures:
                note += said["fitted"].format(**{key: figures[key] for key in ("rows", "of", "seconds")})
            tables.append(Table(title, columns, cells, note, shares=False))
    return tables


def remark_lines(evaluation: Mapping[str, Any], lang: str) -> list[str]:
    """What was said of the run while it trained and when it was judged, as sentences."""
    said = SAID[lang]
    starved = starvation(evaluation.get("training", {}))
    notes = [*evaluation.get("notes", []), *([starved] if starved else [])]
    return [sentence(str(note), lang) for note in notes] + [
        said["passed" if one.get("passed") else "still"].format(text=sentence(one["text"], lang), step=one["step"])
        for one in evaluation.get("remarks", [])
    ]


def _stages(stages: list[dict[str, Any]], said: Mapping[str, str]) -> list[Table]:
    if not stages:
        return []
    cells: list[list[str | int | float | None]] = []
    for one in stages:
        name = one["watch"].partition("/")[2]
        before, after = one["before"][name], one["after"][name]
        gain = one["gains"].get(name)
        interval = f"{gain[1]:.3f} – {gain[2]:.3f}" if gain else ""
        what, share = _what(one, said), f"{one['share']:.0%}"
        cells.append([str(one["stage"]), share, what, f"{one['learned']:,}", before, after, after - before, interval])
    heads = ("stage", "share", "what", "numbers", "before", "after", "gain", "interval")
    title = f"{said['stages']}: {stages[0]['watch']}"
    return [
        Table(title, [said[key] for key in heads], cells, said["rows"].format(rows=stages[0]["rows"]), shares=False)
    ]


def _what(stage: Mapping[str, Any], said: Mapping[str, str]) -> str:
    if stage["tune"] == "full":
        return said["full"]
    parts = list(stage["learns"] or [])
    named = [said[stage["tune"]], *parts[:NAMED]]
    if len(parts) > NAMED:
        named.append(said["more"].format(n=len(parts) - NAMED))
    return ", ".join(part for part in named if part) or said["heads"]
