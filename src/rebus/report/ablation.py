"""What a model loses without its images or its text, as a table and in plain words of both languages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rebus.report import labels
from rebus.report.contents import Cell, Table
from rebus.report.differences import measured, signed, span

SAID: dict[str, dict[str, Any]] = {
    "en": {
        "title": "{task}: what it loses without",
        "columns": ["what is changed", "{metric}", "lost", "95% interval"],
        "as_is": "nothing",
        "names": {
            "images_shuffled": "images shuffled among rows",
            "images_blank": "images of one mean colour",
            "images_absent": "no images",
            "text_shuffled": "texts shuffled among rows",
            "text_masked": "no text",
        },
        "looks": "it looks at its images: shuffling them costs {amount} {span}",
        "blind": "it does not look at its images: shuffling them costs {amount} {span}",
        "reads": "it reads its text: shuffling it costs {amount} {span}",
        "deaf": "it does not read its text: shuffling it costs {amount} {span}",
    },
    "zh": {
        "title": "{task}：去掉后损失多少",
        "columns": ["改变了什么", "{metric}", "损失", "95% 区间"],
        "as_is": "不变",
        "names": {
            "images_shuffled": "图片在各行间打乱",
            "images_blank": "图片换成平均颜色",
            "images_absent": "没有图片",
            "text_shuffled": "文字在各行间打乱",
            "text_masked": "没有文字",
        },
        "looks": "它看图片：打乱图片损失 {amount}{span}",
        "blind": "它不看图片：打乱图片只损失 {amount}{span}",
        "reads": "它读文字：打乱文字损失 {amount}{span}",
        "deaf": "它不读文字：打乱文字只损失 {amount}{span}",
    },
}


def ablation_verdicts(found: Mapping[str, Any], language: str) -> list[str]:
    """One sentence about its images and one about its text, as far as each was tried."""
    said, told = SAID[language], []
    for name, yes, no in (("images_shuffled", "looks", "blind"), ("text_shuffled", "reads", "deaf")):
        lost = found["losses"].get(name)
        if lost is None:
            continue
        amount = measured(lost["lost"], found["metric"], language)
        bounds = span(lost["low"], lost["high"], found["metric"], language)
        told.append(said[yes if lost["low"] > 0 else no].format(amount=amount, span=bounds))
    return told


def ablation_tables(ablation: Mapping[str, Mapping[str, Any]], language: str) -> list[Table]:
    """A table for each task, with the verdict below it."""
    said, made = SAID[language], []
    for task, found in ablation.items():
        metric = found["metric"]
        rows: list[list[Cell]] = [[said["as_is"], labels.figure(found["value"], metric), None, None]]
        for name, lost in found["losses"].items():
            bounds = span(lost["low"], lost["high"], metric, language).strip("()（）")
            figure = labels.figure(lost["value"], metric)
            rows.append([said["names"][name], figure, signed(lost["lost"], metric), bounds])
        heads = [head.format(metric=labels.metric_name(metric, language)) for head in said["columns"]]
        note = ("；" if language == "zh" else "; ").join(ablation_verdicts(found, language))
        made.append(Table(said["title"].format(task=task), heads, rows, note[:1].upper() + note[1:], shares=False))
    return made
