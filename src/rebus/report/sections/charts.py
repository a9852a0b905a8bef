"""The plots of a Run: curves, figures beside baselines and by type, and those that need predictions."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from rebus.catalogue import translator
from rebus.report.contents import Plot, Result
from rebus.report.neighbours import plot_neighbours
from rebus.report.plots import (
    plot_calibration,
    plot_confusion,
    plot_curves,
    plot_metric_bars,
    plot_scatter,
    plot_types,
)
from rebus.report.sections.examples import shown
from rebus.report.sections.subject import Looked, Subject
from rebus.tasks import Task
from rebus.tasks.cells import as_text
from rebus.tasks.metrics.classification import confusion_matrix

MOST = 40  # classes of a confusion matrix
FEW = 20  # different true answers beyond which written answers make no confusion matrix


def plots_of_run(subject: Subject, results: list[Result]) -> list[Plot]:
    """Curves, figures beside baselines, figures by type. Raises RunError: they cannot be written."""
    folder, lang, texts = subject.run.folder / "plots", subject.lang, translator("charts", subject.lang)
    plots = []
    records = subject.run.metrics()
    if records:
        plots.append(Plot(texts("curves"), plot_curves(folder / "curves.png", records, lang)))
    if results:
        plots.append(Plot(texts("figures"), plot_metric_bars(folder / "figures.png", results, lang)))
    for name, score in subject.evaluation.get("tasks", {}).items():
        if score["by_type"]:
            kinds = score["by_type"].items()
            columns = {texts("model"): {kind: figures["right"] for kind, figures in kinds}}
            if all("baseline" in figures for _, figures in kinds):
                columns[texts("baseline")] = {kind: figures["baseline"] for kind, figures in kinds}
            title = texts("types", task=name)
            plots.append(Plot(title, plot_types(folder / f"{name}-types.png", columns, lang)))
    return plots


def plots_of_predictions(subject: Subject, looked: Looked) -> list[Plot]:
    """Confusion and calibration of labels and short answers, scatter of numbers, neighbours of images."""
    folder, lang, texts = subject.run.folder / "plots", subject.lang, translator("charts", subject.lang)
    task, values, rows, message = looked.task, looked.source.values, looked.rows, looked.told

    def title(key: str) -> str:
        return texts(key, task=task.name, rows=len(rows))

    if task.answers == "vector":
        alike = plot_neighbours(folder / "neighbours.png", looked.source, rows, message, lang)
        return [alike] if alike is not None else []
    if task.answers == "number":
        truths = [float(task.truth(values, row)) for row in rows]
        guesses = [float(prediction.value) for prediction in message]
        return [Plot(title("scatter"), plot_scatter(folder / f"{task.name}-scatter.png", truths, guesses, lang))]
    plots = []
    if is_sure(task, looked):
        sure = [prediction.confidence or 0.0 for prediction in message]
        right = task.right(values, rows, message) >= 1.0
        path = folder / f"{task.name}-calibration.png"
        plots.append(Plot(title("calibration"), plot_calibration(path, sure, right, lang)))
    table = confusion(looked, texts("other"))
    if table is not None:
        names, counts = table
        path = folder / f"{task.name}-confusion.png"
        plots.append(Plot(title("confusion"), plot_confusion(path, counts, names, lang)))
    return plots


def is_sure(task: Task, looked: Looked) -> bool:
    """Whether its confidence is a probability of being right: of one label or one answer, not the same for all."""
    if task.answers not in ("label", "text"):
        return False
    return len({round(prediction.confidence or 0.0, 6) for prediction in looked.told}) > 1


def confusion(looked: Looked, other: str) -> tuple[list[str], Any] | None:
    """Classes and counts (C, C), row = true; None where classes are too many or there are none."""
    task, values, rows, message = looked.task, looked.source.values, looked.rows, looked.told
    if task.answers == "label":
        names = task.known_labels()
        if len(names) > MOST:
            return None
        index = {name: place for place, name in enumerate(names)}
        labels = [index.get(as_text(task.truth(values, row)), -1) for row in rows]
        guesses = [index[prediction.value] for prediction in message]
        return list(names), confusion_matrix(guesses, labels, len(names))
    if task.answers != "text":
        return None
    truths = [shown(task.truth(values, row)) for row in rows]
    counts = Counter(truths)
    if not 2 <= len(counts) <= FEW or len(rows) < 2 * len(counts):
        return None
    names = [name for name, _ in counts.most_common()]
    items = [shown(prediction.value) for prediction in message]
    strange = any(word not in counts for word in items)
    names += [other] if strange else []
    place = {name: at for at, name in enumerate(names)}
    matrix = np.zeros((len(names), len(names)), dtype=np.int64)
    for truth, word in zip(truths, items, strict=True):
        matrix[place[truth], place.get(word, len(names) - 1)] += 1
    return names, matrix
