"""From a Run folder to its plots, report.html and model card: what training left, and examples asked of the model."""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rebus._version import __version__
from rebus.data.tars.finding import folder_of
from rebus.errors import RebusError
from rebus.report.ablation import ablation_tables, ablation_verdicts
from rebus.report.card import write_card
from rebus.report.contents import Example, Plot, ReportData, Result, Table, results_of
from rebus.report.course import course_tables, remark_lines
from rebus.report.html import write_report
from rebus.report.labels import labels
from rebus.report.language import describe_language_run, is_language_run
from rebus.report.neighbours import picture_commands, plot_neighbours
from rebus.report.plots import (
    plot_calibration,
    plot_confusion,
    plot_curves,
    plot_metric_bars,
    plot_scatter,
    plot_types,
)
from rebus.run.evaluate import Evaluation, Rows, chosen_rows, read_own, rows_of
from rebus.run.folder import Run
from rebus.run.predictor import Predictor
from rebus.tasks import Caption, Classify, Pictures, Prediction, Regress, Task
from rebus.tasks.cells import as_text
from rebus.tasks.metrics import Comparison
from rebus.tasks.metrics.classification import confusion_matrix
from rebus.tasks.metrics.intervals import Interval
from rebus.tasks.writing import WritingTask

LOOKED_AT = 256  # rows that examples are chosen from
SHOWN = 6  # examples of each group
DRAWN = 12  # captions shown
SAID: dict[str, dict[str, Any]] = {
    "en": {
        "title": "{name}: {tasks}",
        "summary": "A model of {parameters:,} parameters, trained on {rows:,} rows in {minutes:.1f} minutes on {cores} "
        "CPU cores. Figures are for rows it was not trained on.",
        "right": "right",
        "wrong": "most confident mistakes",
        "close": "closest",
        "drawn": "drawn evenly",
        "far": "furthest off",
        "limits": [
            "Figures hold for data like the held-out rows; other data may fare worse.",
            "A confident answer can be wrong: confidence is the model's own.",
            "Of a picture the model sees {size} x {size} pixels.",
        ],
        "ask": "ask it",
        "judge": "judge it again",
        "predict": "predict a table",
        "again": "train it again",
        "by_type": "by type",
    },
    "zh": {
        "title": "{name}：{tasks}",
        "summary": "模型有 {parameters:,} 个参数，用 {rows:,} 行数据在 {cores} 个 CPU 核上训练了 {minutes:.1f} 分钟。"
        "各项数字都来自训练时没有用过的行。",
        "right": "答对的",
        "wrong": "最自信的错误",
        "close": "最接近的",
        "drawn": "均匀抽取的",
        "far": "偏差最大的",
        "limits": [
            "这些数字只适用于与留出数据相似的数据，换了别的数据可能更差。",
            "自信的回答也可能是错的：置信度是模型自己给的。",
            "模型看到的图片只有 {size} x {size} 像素。",
        ],
        "ask": "向它提问",
        "judge": "重新评测",
        "predict": "预测一张表",
        "again": "重新训练",
        "by_type": "按类型",
    },
}


def write_outputs(run: Run, *, lang: str = "en", extra: ReportData | None = None) -> Path:
    """Write plots/, report.html and README.md; gives the report's path.

    Args:
        run: a finished Run.
        lang: en or zh.
        extra: tables, examples and limits that go before those found here.

    Raises:
        RunError: the Run is unfinished, damaged or cannot be written.
    """
    data = describe_run(run, lang)
    if extra is not None:
        data.title, data.summary = extra.title or data.title, extra.summary or data.summary
        data.tables = [*extra.tables, *data.tables]
        data.plots = [*extra.plots, *data.plots]
        data.examples = [*extra.examples, *data.examples]
        data.commands = [*extra.commands, *data.commands]
        data.limits = [*extra.limits, *data.limits]
    write_card(run.folder / "README.md", data, lang)
    return write_report(run.report_path, data, lang)


def keep_ablation(run: Run, found: Evaluation, lang: str | None, *, own: bool) -> None:
    """Put what a model loses into words; of its own held-out rows also into the Run, its report and its card."""
    language = lang or language_of(run)
    labels(language)  # refuses any other
    for one in found.ablation.values():
        one.verdict = ablation_verdicts(one.as_dict(), language)
    if own and run.weights_path.exists() and run.evaluation:
        run.write_json("evaluation.json", run.evaluation | {"ablation": found.as_dict()["ablation"]})
        write_outputs(run, lang=language)


def language_of(run: Run) -> str:
    """The language that a Run's report is in; English where there is none yet."""
    if not run.report_path.exists():
        return "en"
    with open(run.report_path, encoding="utf-8", errors="replace") as page:
        return "zh" if 'lang="zh' in page.read(200) else "en"


def describe_run(run: Run, lang: str) -> ReportData:
    """Everything that a Run can tell of itself."""
    if is_language_run(run.evaluation):
        scores = run.evaluation["tasks"].items()
        results = [one for name, score in scores for one in results_of_score(name, score)]
        return describe_language_run(run, results, lang)
    said = SAID[lang]
    predictor = Predictor.open(run.folder)
    recipe, evaluation = predictor.recipe, run.evaluation
    trained = evaluation.get("training", {})
    rows = trained.get("rows", {})
    tasks = [name for name, task in predictor.tasks.items() if task.predicts]
    check = run.read_json("check.json") if (run.folder / "check.json").exists() else {}
    inference = run.read_json("inference.json") if (run.folder / "inference.json").exists() else {}
    model = recipe.model
    judged = ", ".join(f"{name}: {count}" for name, count in evaluation.get("rows", {}).items())
    data = ReportData(
        title=said["title"].format(name=Path(recipe.data.path).stem, tasks=", ".join(tasks)),
        summary=said["summary"].format(
            parameters=trained.get("parameters", predictor.model.count_parameters()),
            rows=rows.get("train", 0),
            minutes=trained.get("seconds", 0.0) / 60,
            cores=os.cpu_count() or 1,
        ),
        facts=[
            ("tasks", ", ".join(predictor.tasks)),
            ("picture tower", f"{model.picture.kind}, width {model.picture.width}"),
            ("text tower", f"{model.text.kind}, width {model.text.width}, depth {model.text.depth}"),
            (
                "fusion",
                f"{model.fusion.kind} ({model.fusion.how})" if model.fusion.kind == "joint" else model.fusion.kind,
            ),
            ("parameters", f"{trained.get('parameters', 0):,}"),
            ("steps", f"{trained.get('steps', 0):,} ({trained.get('stopped_because', '')})"),
            ("skipped steps", str(len(trained.get("skipped_steps", [])))),
        ],
        data=[("table", Path(recipe.data.path).name), ("rows", f"{check.get('rows', sum(rows.values())):,}")],
        splits=rows,
        kinds=dict(recipe.data.kinds),
        notes=list(inference.get("notes", [])),
        warnings=[str(warning) for warning in check.get("warnings", [])],
        judged_on=f"{trained.get('judged_on', 'test')} ({judged})",
        hardware=[
            ("training", f"{trained.get('seconds', 0.0):.0f} s, {trained.get('precision', '')}"),
            ("CPU cores", str(os.cpu_count())),
            ("machine", platform.machine()),
            ("torch", torch.__version__),
        ],
        commands=[
            (said["ask"], f"rebus ask {run.folder} PICTURE QUESTION"),
            (said["judge"], f"rebus evaluate {run.folder}"),
            (said["predict"], f"rebus predict {run.folder} DATA --out answers.csv"),
            (said["again"], f"rebus train {Path(recipe.data.path).name} --recipe {run.folder}/recipe.yaml --out again"),
        ],
        limits=[limit.format(size=recipe.picture.size) for limit in said["limits"]],
        recipe=recipe.save_text(),
        created=time.strftime("%Y-%m-%d"),
        version=__version__,
        root=table_root(recipe.data.path),
        tags=["rebus", *tasks],
        dataset=Path(recipe.data.path).stem,
        pipeline_tag="image-text-to-text" if model.picture.kind != "none" else "text-generation",
    )
    for name, score in evaluation.get("tasks", {}).items():
        data.results += results_of_score(name, score)
        if score["by_type"]:
            columns = list(next(iter(score["by_type"].values())))
            cells = [[kind, *(figures.get(column) for column in columns)] for kind, figures in score["by_type"].items()]
            data.tables.append(Table(f"{name}: {said['by_type']}", ["", *columns], cells))
    lost = ablation_tables(evaluation.get("ablation", {}), lang)
    data.tables = [*course_tables(evaluation, lang), *lost, *data.tables]
    data.warnings += remark_lines(evaluation, lang)
    data.plots = plots_of(run, data, evaluation, lang)
    if "pictures" in predictor.tasks:
        data.commands = picture_commands(run.folder, Path(recipe.data.path).name, lang)
    add_examples(data, run, predictor, str(trained.get("judged_on", "test")), lang)
    return data


def results_of_score(task: str, score: dict[str, Any]) -> list[Result]:
    """A task's figures, each beside its baseline."""
    compared = {
        name: Comparison(
            Interval(value, *score["intervals"].get(name, (value, value))),
            difference=Interval(*score["gains"][name]) if name in score["gains"] else None,
        )
        for name, value in score["metrics"].items()
    }
    return results_of(
        score["metrics"],
        task=task,
        baseline=score["baseline"],
        baseline_name=score["baseline_name"],
        comparisons=compared,
    )


def plots_of(run: Run, data: ReportData, evaluation: dict[str, Any], lang: str) -> list[Plot]:
    """Curves, figures beside baselines, figures by type."""
    folder = run.folder / "plots"
    plots = []
    records = run.metrics()
    if records:
        plots.append(Plot("curves", plot_curves(folder / "curves.png", records, lang)))
    if data.results:
        plots.append(Plot("figures", plot_metric_bars(folder / "figures.png", data.results, lang)))
    for name, score in evaluation.get("tasks", {}).items():
        if score["by_type"]:
            kinds = score["by_type"].items()
            columns = {"model": {kind: figures["right"] for kind, figures in kinds}}
            if all("baseline" in figures for _, figures in kinds):
                columns["baseline"] = {kind: figures["baseline"] for kind, figures in kinds}
            plots.append(Plot(f"{name} by type", plot_types(folder / f"{name}-types.png", columns, lang)))
    return plots


def add_examples(data: ReportData, run: Run, predictor: Predictor, split: str, lang: str) -> None:
    """Examples and the plots that need predictions, where the table is still there."""
    try:
        table = read_own(predictor.recipe.data, required=True)
        assert table is not None  # noqa: S101 - required
        rows = chosen_rows(table, predictor.recipe, split)
    except RebusError as error:
        data.warnings.append(f"no examples: the table could not be read again ({error.found})")
        return
    for task in predictor.tasks.values():
        if not task.predicts:
            continue
        source = rows_of(predictor, table, task)
        usable = readable(source, rows)
        if not usable:
            continue
        told = source.predict(predictor, usable)
        if isinstance(task, Pictures):
            alike = plot_neighbours(run.folder / "plots" / "neighbours.png", source, usable, told, lang)
            data.plots += [alike] if alike is not None else []
            continue
        data.examples += examples_of(task, source, usable, told, lang)
        data.plots += plots_of_predictions(run, task, source, usable, told, lang)


def readable(source: Rows, rows: list[int]) -> list[int]:
    """Up to ``LOOKED_AT`` rows, spread over all, that can be judged and whose picture can be read."""
    spread = rows[:: max(1, len(rows) // LOOKED_AT)][:LOOKED_AT]
    good = []
    for row in spread:
        if not source.task.judgeable(source.values, row):
            continue
        try:
            source.picture(row)
        except RebusError:
            continue
        good.append(row)
    return good


def examples_of(task: Task, source: Rows, rows: list[int], told: list[Prediction], lang: str) -> list[Example]:
    """Some right answers and confident mistakes; of numbers the closest and furthest off; of captions a drawn few."""
    said, marks = SAID[lang], task.right(source.values, rows, told)
    numbers, captions = isinstance(task, Regress), isinstance(task, Caption)
    groups: dict[str, list[int]]
    if numbers:
        order = np.argsort(marks, kind="stable")
        groups = {said["close"]: order[:SHOWN].tolist(), said["far"]: order[::-1][:SHOWN].tolist()}
    elif captions:  # word for word right is not what a caption has to be
        spread = np.linspace(0, len(rows) - 1, min(DRAWN, len(rows)))
        groups = {said["drawn"]: spread.round().astype(int).tolist()}
    else:
        sure = np.argsort([-prediction.confidence for prediction in told], kind="stable")
        groups = {
            said["right"]: varied([int(i) for i in sure if marks[i] >= 1.0], told),
            said["wrong"]: [int(i) for i in sure if marks[i] < 1.0][:SHOWN],
        }
    examples = []
    for group, places in groups.items():
        for place in places:
            row, prediction = rows[int(place)], told[int(place)]
            question = task.prompt(source.values, row) if isinstance(task, WritingTask) else ""
            if not question and "text" in source.values:
                question = as_text(source.values["text"][row])[:300]
            truth = task.truth(source.values, row)
            examples.append(
                Example(
                    answer=shown(prediction.value),
                    truth=shown(truth),
                    question=question,
                    picture=source.picture(row),
                    right=None if numbers or captions else bool(marks[int(place)] >= 1.0),
                    group=f"{task.name}: {group}",
                    confidence=None if numbers else prediction.confidence,
                )
            )
    return examples


def varied(places: list[int], told: list[Prediction]) -> list[int]:
    """At most ``SHOWN`` places, no answer shown twice before every answer was shown once."""
    seen: Counter[str] = Counter()
    ranked = []
    for place in places:
        answer = shown(told[place].value)
        ranked.append((seen[answer], place))
        seen[answer] += 1
    return [place for _, place in sorted(ranked, key=lambda pair: pair[0])[:SHOWN]]


def shown(value: Any) -> str:
    """A value as people read it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(str(part) for part in value) if isinstance(value, (list, tuple)) else str(value)


def plots_of_predictions(
    run: Run, task: Task, source: Rows, rows: list[int], told: list[Prediction], lang: str
) -> list[Plot]:
    """Confusion and calibration of labels, scatter of numbers."""
    folder = run.folder / "plots"
    if isinstance(task, Classify):
        names = task.labels
        index = task.index
        labels = [index.get(as_text(source.values["label"][row]), -1) for row in rows]
        counts = confusion_matrix([index[prediction.value] for prediction in told], labels, len(names))
        sure = [prediction.confidence for prediction in told]
        right = task.right(source.values, rows, told) >= 1.0
        plots = [Plot(f"{task.name} calibration", plot_calibration(folder / "calibration.png", sure, right, lang))]
        if len(names) <= 40:
            plots.append(Plot(f"{task.name} confusion", plot_confusion(folder / "confusion.png", counts, names, lang)))
        return plots
    if isinstance(task, Regress):
        truths = [float(source.values["target"][row]) for row in rows]
        guesses = [float(prediction.value) for prediction in told]
        return [Plot(f"{task.name}", plot_scatter(folder / "scatter.png", truths, guesses, lang))]
    return []


def table_root(path: str) -> Path:
    """The folder that a table's relative paths start from."""
    place = Path(path)
    return place if place.is_dir() else folder_of(path)
