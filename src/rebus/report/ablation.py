"""What a model loses without its images or its text, as a table and in plain words of both languages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rebus.catalogue import translate_list, translator
from rebus.report import labels
from rebus.report.contents import Cell, Table
from rebus.report.differences import measured, signed, span


def ablation_verdicts(entry: Mapping[str, Any], language: str) -> list[str]:
    """One sentence about its images and one about its text, as far as each was tried."""
    texts, message = translator("ablation", language), []
    for name, yes, no in (("images_shuffled", "looks", "blind"), ("text_shuffled", "reads", "deaf")):
        lost = entry["losses"].get(name)
        if lost is None:
            continue
        amount = measured(lost["lost"], entry["metric"], language)
        bounds = span(lost["low"], lost["high"], entry["metric"], language)
        message.append(texts(yes if lost["low"] > 0 else no, amount=amount, span=bounds))
    return message


def ablation_tables(ablation: Mapping[str, Mapping[str, Any]], language: str) -> list[Table]:
    """A table for each task, with the verdict below it."""
    texts, built = translator("ablation", language), []
    for task, result in ablation.items():
        metric = result["metric"]
        rows: list[list[Cell]] = [[texts("as_is"), labels.figure(result["value"], metric), None, None]]
        for name, lost in result["losses"].items():
            bounds = span(lost["low"], lost["high"], metric, language).strip("()（）")
            figure = labels.figure(lost["value"], metric)
            rows.append([texts(f"names.{name}"), figure, signed(lost["lost"], metric), bounds])
        heads = translate_list("ablation.columns", language, metric=labels.metric_name(metric, language))
        note = ("；" if language == "zh" else "; ").join(ablation_verdicts(result, language))
        built.append(Table(texts("title", task=task), heads, rows, note[:1].upper() + note[1:], shares=False))
    return built
