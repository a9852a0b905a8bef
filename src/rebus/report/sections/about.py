"""The head of a report: what was trained on what, the data, the splits, how to use and repeat it, what it cannot do."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rebus._version import __version__
from rebus.catalogue import Translator, rendered, translate_list, translate_name, translator
from rebus.data.tars.finding import folder_of
from rebus.report import labels
from rebus.report.contents import ReportData
from rebus.report.hub import hub_metadata
from rebus.report.neighbours import image_commands
from rebus.report.sections.machine import machine_rows
from rebus.report.sections.subject import Subject
from rebus.tasks.metrics import LOWER_IS_BETTER

FEW = 200  # judged rows below which a report says that they are few


def head_of(subject: Subject) -> ReportData:
    """Everything that needs neither predictions nor plots. Raises RunError: the model cannot be read."""
    texts, lang = translator("about", subject.lang), subject.lang
    recipe, trained, check = subject.recipe, subject.trained, subject.check
    predictor = subject.predictor
    rows = trained.get("rows") or check.get("splits", {})
    tasks = [name for name, task in predictor.tasks.items() if task.predicts]
    model = recipe.model
    parameters = trained.get("parameters", predictor.model.count_parameters())
    fusion = f"{model.fusion.kind} ({model.fusion.how})" if model.fusion.kind == "joint" else model.fusion.kind
    steps = f"{trained.get('steps', 0):,} ({translate_name('end', str(trained.get('stopped_because', '')), lang)})"
    return ReportData(
        title=texts("title", name=Path(recipe.data.path).stem, tasks=", ".join(tasks)),
        summary=texts(
            "summary",
            parameters=parameters,
            rows=rows.get("train", 0),
            minutes=trained.get("seconds", 0.0) / 60,
            cores=trained.get("machine", {}).get("cores", os.cpu_count() or 1),
        ),
        facts=[
            (texts("tasks"), ", ".join(predictor.tasks)),
            (texts("image"), texts("wide", kind=model.image.kind, width=model.image.width)),
            (
                texts("text"),
                texts("tower", kind=model.text.kind, width=model.text.width, depth=model.text.depth),
            ),
            (texts("fusion"), fusion),
            (texts("parameters"), f"{parameters:,}"),
            (texts("steps"), steps),
            (texts("skipped"), str(len(trained.get("skipped_steps", [])))),
            *kept_weights(subject),
        ],
        data=[
            (texts("table"), Path(recipe.data.path).name),
            (texts("rows"), f"{check.get('rows', sum(rows.values())):,}"),
            *_images(check, texts),
        ],
        splits={translate_name("split", name, lang): count for name, count in rows.items()},
        kinds={column: translate_name("kind", kind, lang) for column, kind in recipe.data.kinds.items()},
        notes=[rendered(note, lang) for note in subject.inference.get("notes", [])],
        warnings=[rendered(warning, lang) for warning in check.get("warnings", [])],
        judged_on=judged_on(subject),
        hardware=machine_rows(subject),
        commands=_commands(subject, texts),
        limits=limits_of(subject, texts),
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
    texts, trained = translator("about", subject.lang), subject.trained
    if "weights_step" not in trained:
        return []
    best = trained.get("best")
    if best is None or best["step"] != trained["weights_step"]:
        return [(texts("kept"), texts("last"))]
    validations = [line for line in subject.run.metrics() if line.get("kind") == "valid"]
    name = next((metric for metric, value in best["metrics"].items() if value == best["value"]), "")
    rows = texts("looked_at", rows=trained["valid_rows"]) if trained.get("valid_rows") else ""
    metric = labels.metric_name(name.rpartition("/")[2], subject.lang)
    words = {"count": len(validations), "name": metric, "value": best["value"], "rows": rows}
    return [(texts("kept"), texts("best", step=best["step"], **words))]


def judged_on(subject: Subject) -> str:
    """Which rows the figures are for: ``test set: answer 412 rows``."""
    texts, lang, whole = translator("about", subject.lang), subject.lang, subject.trained.get("judged_of", {})
    counts = [
        texts("some" if task in whole else "count", task=task, rows=rows, of=whole.get(task, rows))
        for task, rows in subject.evaluation.get("rows", {}).items()
    ]
    between = "、" if lang == "zh" else ", "
    return (
        str(texts("judged", split=translate_name("split", subject.split, lang), counts=between.join(counts)))
        if counts
        else ""
    )


def limits_of(subject: Subject, texts: Translator) -> list[str]:
    """What the model is not good for, from what was measured."""
    result = translate_list("about.limits", subject.lang)
    if subject.recipe.model.image.kind != "none":
        result.append(texts("pixels", size=subject.recipe.image.size))
    evaluation = subject.evaluation
    result += [texts("few", rows=rows, task=task) for task, rows in evaluation.get("rows", {}).items() if rows < FEW]
    if subject.split == "valid" and subject.trained.get("best") and subject.recipe.train.final_weights == "best":
        result.append(texts("chosen"))
    leaks = subject.check.get("leaks", {}).get("count", 0)
    if leaks:
        result.append(texts("leaks", count=leaks))
    for task, score in evaluation.get("tasks", {}).items():
        watch = str(getattr(subject.predictor.tasks.get(task), "watch", ""))
        gain = score["gains"].get(watch)
        if gain is not None and not _better(watch, gain):
            result.append(
                texts("weak", task=task, baseline=translate_name("baseline", score["baseline_name"], subject.lang))
            )
        result += beside_plain(task, score, watch, subject.lang)
    if subject.recipe.model.fusion.kind != "none" and not evaluation.get("ablation"):
        result.append(texts("unmeasured"))
    return result


def beside_plain(task: str, score: dict[str, Any], metric: str, lang: str) -> list[str]:
    """What is to be said where a plain model is as good as this one, or better."""
    result = []
    for name, other in score.get("others", {}).items():
        gain = other["gains"].get(metric)
        if gain is None or "seconds" not in other or _better(metric, gain):
            continue
        worse = gain[1] > 0 if metric in LOWER_IS_BETTER else gain[2] < 0
        words = {"task": task, "name": translate_name("baseline", name, lang), "seconds": max(other["seconds"], 1.0)}
        figures = {"metric": labels.metric_name(metric, lang), "rows": other["rows"]}
        figures |= {"base": labels.figure(other["metrics"][metric], metric)}
        figures |= {"own": labels.figure(score["metrics"][metric], metric)}
        result.append(translator("about", lang)("plain" if worse else "even", **words, **figures))
    return result


def _better(metric: str, gain: Sequence[float]) -> bool:
    """Whether the interval of a gain (difference, low, high) leaves zero out on the good side."""
    return gain[2] < 0 if metric in LOWER_IS_BETTER else gain[1] > 0


def table_root(path: str) -> Path:
    """The folder that a table's relative paths start from."""
    place = Path(path)
    return place if place.is_dir() else folder_of(path)


def _images(check: dict[str, Any], texts: Translator) -> list[tuple[str, str]]:
    result = []
    for image in check.get("images", []):
        if image.get("width") and image.get("height"):
            formats = ", ".join(f"{name} {count:,}" for name, count in image.get("formats", {}).items())
            message = texts(
                "images_are",
                different=image["different"],
                formats=formats,
                width=image["width"][1],
                height=image["height"][1],
            )
            result.append((texts("images"), message))
        if image.get("rows_without"):
            result.append((texts("without"), f"{image['rows_without']:,}"))
    return result


def _commands(subject: Subject, texts: Translator) -> list[tuple[str, str]]:
    run, recipe = subject.run, subject.recipe
    folder, data = shlex.quote(str(run.folder)), shlex.quote(Path(recipe.data.path).name)
    if not any(task.explains for task in subject.predictor.tasks.values()):
        return image_commands(run.folder, Path(recipe.data.path).name, subject.lang)
    sees = recipe.model.image.kind != "none"
    reads = recipe.model.text.kind != "none"
    shown = " ".join(["--image IMAGE"] * sees + ["--text TEXT"] * reads)
    task = next(iter(subject.predictor.tasks.values()))
    asking = [(texts("ask"), f"rebus ask {folder} {'IMAGE QUESTION' if sees else 'QUESTION'}")]
    predicting = [(texts("predict"), f"rebus predict {folder} DATA --out answers.csv")]
    return [
        *(asking if task.writes else predicting),
        (texts("judge"), f"rebus evaluate {folder}"),
        (texts("ablate"), f"rebus evaluate {folder} --ablate"),
        (texts("explain"), f"rebus explain {folder} {shown}"),
        (texts("flow"), f"rebus flow {folder} {shown}"),
        *(predicting if task.writes else []),
        (texts("again"), f"rebus train {data} --recipe {folder}/recipe.yaml{settled(subject)} --out again"),
    ]


def settled(subject: Subject) -> str:
    """What a command that repeats the run has to add: the precision, where it was measured and not said."""
    precision = subject.trained.get("precision")
    text = subject.recipe.train.precision
    return f" --set train.precision={precision}" if text == "auto" and precision in ("fp32", "bf16") else ""


def _languages(check: dict[str, Any]) -> list[str]:
    """en, zh, as the table's texts are written."""
    shares: dict[str, float] = {}
    for column in check.get("columns", {}).values():
        for script, share in column.get("scripts", {}).items():
            shares[script] = max(shares.get(script, 0.0), share)
    return [code for script, code in (("latin", "en"), ("cjk", "zh")) if shares.get(script, 0.0) > 0.02]
