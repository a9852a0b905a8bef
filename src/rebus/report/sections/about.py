"""The head of a report: what was trained on what, the data, the splits, how to use and repeat it, what it cannot do."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rebus._version import __version__
from rebus.data.tars.finding import folder_of
from rebus.report import labels
from rebus.report.contents import ReportData
from rebus.report.hub import hub_metadata
from rebus.report.neighbours import image_commands
from rebus.report.sections.machine import machine_rows
from rebus.report.sections.subject import Subject
from rebus.report.sentences import end_name, kind_name, naive_name, sentence
from rebus.tasks.metrics import LOWER_IS_BETTER
from rebus.tasks.writing import WritingTask

FEW = 200  # judged rows below which a report says that they are few
SAID: dict[str, dict[str, Any]] = {
    "en": {
        "title": "{name}: {tasks}",
        "summary": "A model of {parameters:,} parameters, trained on {rows:,} rows in {minutes:.1f} minutes "
        "on {cores} CPU cores. Figures are for rows it was not trained on.",
        "tasks": "tasks",
        "image": "image tower",
        "text": "text tower",
        "tower": "{kind}, width {width}, depth {depth}",
        "wide": "{kind}, width {width}",
        "fusion": "fusion",
        "parameters": "parameters",
        "steps": "steps",
        "skipped": "skipped steps",
        "kept": "weights",
        "last": "of the last step",
        "best": "of step {step:,}, the best of {count} validations ({name} {value:.3f}{rows})",
        "looked_at": ", on {rows:,} rows",
        "table": "table",
        "rows": "rows",
        "images": "images",
        "images_are": "{different:,} different; {formats}; {width} x {height} pixels at the median",
        "without": "rows without an image",
        "judged": "{split} set: {counts}",
        "count": "{task} {rows:,} rows",
        "some": "{task} {rows:,} rows, a sample of {of:,}, as the time limit had it",
        "ask": "ask it",
        "judge": "judge it again",
        "ablate": "see what it loses without its images or its text",
        "explain": "see where it looked",
        "flow": "follow one example through the model",
        "predict": "predict a table",
        "again": "train it again",
        "limits": [
            "Figures hold for data like the held-out rows; other data may fare worse.",
            "A confident answer can be wrong: confidence is the model's own.",
        ],
        "pixels": "Of an image the model sees {size} x {size} pixels.",
        "few": "Only {rows:,} rows were judged for {task}: look at the intervals, not at the figures alone.",
        "leaks": "{count:,} held-out rows hold what training rows hold too: the figures may flatter the model.",
        "unmeasured": "Whether it looks at its images and reads its text has not been measured; the command is above.",
        "chosen": "The rows of these figures also chose the weights that were kept (there is no test set): on other "
        "rows they will be somewhat worse.",
        "plain": "{task}: a {name}, fitted in {seconds:.0f} s on {rows:,} rows, is surely better ({metric} {base} "
        "against {own}): use that, or train longer, with more rows, or from a base (--from).",
        "even": "{task} is not surely better than a {name}, fitted in {seconds:.0f} s ({metric} {base} against {own}).",
        "weak": "{task} is not surely better than its baseline ({baseline}): do not rely on it.",
    },
    "zh": {
        "title": "{name}：{tasks}",
        "summary": "模型有 {parameters:,} 个参数，用 {rows:,} 行数据在 {cores} 个 CPU 核上训练了 {minutes:.1f} 分钟。"
        "各项数字都来自训练时没有用过的行。",
        "tasks": "任务",
        "image": "图片塔",
        "text": "文字塔",
        "tower": "{kind}，宽 {width}，深 {depth}",
        "wide": "{kind}，宽 {width}",
        "fusion": "融合方式",
        "parameters": "参数量",
        "steps": "步数",
        "skipped": "跳过的步数",
        "kept": "权重",
        "last": "最后一步的",
        "best": "第 {step:,} 步的，{count} 次验证中最好的（{name} {value:.3f}{rows}）",
        "looked_at": "，{rows:,} 行",
        "table": "表格",
        "rows": "行数",
        "images": "图片",
        "images_are": "{different:,} 张不同的图片；{formats}；中位尺寸 {width} x {height} 像素",
        "without": "没有图片的行",
        "judged": "{split}集：{counts}",
        "count": "{task} {rows:,} 行",
        "some": "{task} {rows:,} 行（因时限从 {of:,} 行中抽取）",
        "ask": "向它提问",
        "judge": "重新评测",
        "ablate": "看看去掉图片或文字会损失多少",
        "explain": "看看它看了哪里",
        "flow": "跟随一个例子走过模型",
        "predict": "预测一张表",
        "again": "重新训练",
        "limits": [
            "这些数字只适用于与留出数据相似的数据，换了别的数据可能更差。",
            "自信的回答也可能是错的：置信度是模型自己给的。",
        ],
        "pixels": "模型看到的图片只有 {size} x {size} 像素。",
        "few": "{task} 只评测了 {rows:,} 行：请看区间，不要只看数字。",
        "leaks": "有 {count:,} 个留出行的内容在训练行里也有：这些数字可能偏高。",
        "unmeasured": "它是否看图片、是否读文字还没有测过；命令见上文。",
        "chosen": "这些数字所用的行也用来挑选了保留的权重（没有测试集）：换了别的行会略差。",
        "plain": "{task}：{name}（在 {rows:,} 行上用 {seconds:.0f} 秒拟合）确实更好（{metric} {base}，模型为 {own}）："
        "请用它，或训练更久、增加数据，或从已有模型开始（--from）。",
        "even": "{task} 不能确定优于{name}（{seconds:.0f} 秒拟合；{metric} {base}，模型为 {own}）。",
        "weak": "{task} 不能确定优于基线（{baseline}）：不要依赖它。",
    },
}


def head_of(subject: Subject) -> ReportData:
    """Everything that needs neither predictions nor plots. Raises RunError: the model cannot be read."""
    said, lang = SAID[subject.lang], subject.lang
    recipe, trained, check = subject.recipe, subject.trained, subject.check
    predictor = subject.predictor
    rows = trained.get("rows") or check.get("splits", {})
    tasks = [name for name, task in predictor.tasks.items() if task.predicts]
    model = recipe.model
    parameters = trained.get("parameters", predictor.model.count_parameters())
    fusion = f"{model.fusion.kind} ({model.fusion.how})" if model.fusion.kind == "joint" else model.fusion.kind
    steps = f"{trained.get('steps', 0):,} ({end_name(str(trained.get('stopped_because', '')), lang)})"
    return ReportData(
        title=said["title"].format(name=Path(recipe.data.path).stem, tasks=", ".join(tasks)),
        summary=said["summary"].format(
            parameters=parameters,
            rows=rows.get("train", 0),
            minutes=trained.get("seconds", 0.0) / 60,
            cores=trained.get("machine", {}).get("cores", os.cpu_count() or 1),
        ),
        facts=[
            (said["tasks"], ", ".join(predictor.tasks)),
            (said["image"], said["wide"].format(kind=model.image.kind, width=model.image.width)),
            (
                said["text"],
                said["tower"].format(kind=model.text.kind, width=model.text.width, depth=model.text.depth),
            ),
            (said["fusion"], fusion),
            (said["parameters"], f"{parameters:,}"),
            (said["steps"], steps),
            (said["skipped"], str(len(trained.get("skipped_steps", [])))),
            *kept_weights(subject),
        ],
        data=[
            (said["table"], Path(recipe.data.path).name),
            (said["rows"], f"{check.get('rows', sum(rows.values())):,}"),
            *_images(check, said),
        ],
        splits={kind_name(name, lang): count for name, count in rows.items()},
        kinds={column: kind_name(kind, lang) for column, kind in recipe.data.kinds.items()},
        notes=[sentence(note, lang) for note in subject.inference.get("notes", [])],
        warnings=[sentence(str(warning), lang) for warning in check.get("warnings", [])],
        judged_on=judged_on(subject),
        hardware=machine_rows(subject),
        commands=_commands(subject, said),
        limits=limits_of(subject, said),
        recipe=recipe.save_text(),
        created=time.strftime("%Y-%m-%d"),
        version=__version__,
        root=table_root(recipe.data.path),
        languages=_languages(check),
        tags=["rebus", *tasks],
        dataset=Path(recipe.data.path).stem,
        hub=hub_metadata(subject.run),
    )


def kept_weights(subject: Subject) -> list[tuple[str, str]]:
    """Which step's weights the model has; nothing where the Run does not say."""
    said, trained = SAID[subject.lang], subject.trained
    if "weights_step" not in trained:
        return []
    best = trained.get("best")
    if best is None or best["step"] != trained["weights_step"]:
        return [(said["kept"], said["last"])]
    validations = [line for line in subject.run.metrics() if line.get("kind") == "valid"]
    name = next((metric for metric, value in best["metrics"].items() if value == best["value"]), "")
    rows = said["looked_at"].format(rows=trained["valid_rows"]) if trained.get("valid_rows") else ""
    metric = labels.metric_name(name.rpartition("/")[2], subject.lang)
    words = {"count": len(validations), "name": metric, "value": best["value"], "rows": rows}
    return [(said["kept"], said["best"].format(step=best["step"], **words))]


def judged_on(subject: Subject) -> str:
    """Which rows the figures are for: ``test set: answer 412 rows``."""
    said, lang, whole = SAID[subject.lang], subject.lang, subject.trained.get("judged_of", {})
    counts = [
        said["some" if task in whole else "count"].format(task=task, rows=rows, of=whole.get(task, rows))
        for task, rows in subject.evaluation.get("rows", {}).items()
    ]
    between = "、" if lang == "zh" else ", "
    return (
        str(said["judged"].format(split=kind_name(subject.split, lang), counts=between.join(counts))) if counts else ""
    )


def limits_of(subject: Subject, said: dict[str, Any]) -> list[str]:
    """What the model is not good for, from what was measured."""
    found = list(said["limits"])
    if subject.recipe.model.image.kind != "none":
        found.append(said["pixels"].format(size=subject.recipe.image.size))
    evaluation = subject.evaluation
    found += [
        said["few"].format(rows=rows, task=task) for task, rows in evaluation.get("rows", {}).items() if rows < FEW
    ]
    if subject.split == "valid" and subject.trained.get("best") and subject.recipe.train.final_weights == "best":
        found.append(said["chosen"])
    leaks = subject.check.get("leaks", {}).get("count", 0)
    if leaks:
        found.append(said["leaks"].format(count=leaks))
    for task, score in evaluation.get("tasks", {}).items():
        watch = str(getattr(subject.predictor.tasks.get(task), "watch", ""))
        gain = score["gains"].get(watch)
        if gain is not None and not _better(watch, gain):
            found.append(said["weak"].format(task=task, baseline=naive_name(score["baseline_name"], subject.lang)))
        found += beside_plain(task, score, watch, subject.lang)
    if subject.recipe.model.fusion.kind != "none" and not evaluation.get("ablation"):
        found.append(said["unmeasured"])
    return found


def beside_plain(task: str, score: dict[str, Any], metric: str, lang: str) -> list[str]:
    """What is to be said where a plain model is as good as this one, or better."""
    found = []
    for name, other in score.get("others", {}).items():
        gain = other["gains"].get(metric)
        if gain is None or "seconds" not in other or _better(metric, gain):
            continue
        worse = gain[1] > 0 if metric in LOWER_IS_BETTER else gain[2] < 0
        words = {"task": task, "name": naive_name(name, lang), "seconds": max(other["seconds"], 1.0)}
        figures = {"metric": labels.metric_name(metric, lang), "rows": other["rows"]}
        figures |= {"base": labels.figure(other["metrics"][metric], metric)}
        figures |= {"own": labels.figure(score["metrics"][metric], metric)}
        found.append(SAID[lang]["plain" if worse else "even"].format(**words, **figures))
    return found


def _better(metric: str, gain: Sequence[float]) -> bool:
    """Whether the interval of a gain (difference, low, high) leaves zero out on the good side."""
    return gain[2] < 0 if metric in LOWER_IS_BETTER else gain[1] > 0


def table_root(path: str) -> Path:
    """The folder that a table's relative paths start from."""
    place = Path(path)
    return place if place.is_dir() else folder_of(path)


def _images(check: dict[str, Any], said: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    for one in check.get("images", []):
        if one.get("width") and one.get("height"):
            formats = ", ".join(f"{name} {count:,}" for name, count in one.get("formats", {}).items())
            told = said["images_are"].format(
                different=one["different"], formats=formats, width=one["width"][1], height=one["height"][1]
            )
            found.append((said["images"], told))
        if one.get("rows_without"):
            found.append((said["without"], f"{one['rows_without']:,}"))
    return found


def _commands(subject: Subject, said: dict[str, Any]) -> list[tuple[str, str]]:
    run, recipe = subject.run, subject.recipe
    folder, data = shlex.quote(str(run.folder)), shlex.quote(Path(recipe.data.path).name)
    if "pretrain_image" in subject.predictor.tasks:
        return image_commands(run.folder, Path(recipe.data.path).name, subject.lang)
    sees = recipe.model.image.kind != "none"
    reads = recipe.model.text.kind != "none"
    shown = " ".join(["--image IMAGE"] * sees + ["--text TEXT"] * reads)
    task = next(iter(subject.predictor.tasks.values()))
    asking = [(said["ask"], f"rebus ask {folder} {'IMAGE QUESTION' if sees else 'QUESTION'}")]
    predicting = [(said["predict"], f"rebus predict {folder} DATA --out answers.csv")]
    return [
        *(asking if isinstance(task, WritingTask) else predicting),
        (said["judge"], f"rebus evaluate {folder}"),
        (said["ablate"], f"rebus evaluate {folder} --ablate"),
        (said["explain"], f"rebus explain {folder} {shown}"),
        (said["flow"], f"rebus flow {folder} {shown}"),
        *(predicting if isinstance(task, WritingTask) else []),
        (said["again"], f"rebus train {data} --recipe {folder}/recipe.yaml{settled(subject)} --out again"),
    ]


def settled(subject: Subject) -> str:
    """What a command that repeats the run has to add: the precision, where it was measured and not said."""
    precision = subject.trained.get("precision")
    said = subject.recipe.train.precision
    return f" --set train.precision={precision}" if said == "auto" and precision in ("fp32", "bf16") else ""


def _languages(check: dict[str, Any]) -> list[str]:
    """en, zh, as the table's texts are written."""
    shares: dict[str, float] = {}
    for column in check.get("columns", {}).values():
        for script, share in column.get("scripts", {}).items():
            shares[script] = max(shares.get(script, 0.0), share)
    return [code for script, code in (("latin", "en"), ("cjk", "zh")) if shares.get(script, 0.0) > 0.02]
