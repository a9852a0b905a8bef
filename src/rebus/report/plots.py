"""Plots as PNG files: curves, figures with intervals, confusion, types, calibration, regression.

Knows no model and no page: figures in, files out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from rebus.catalogue import Translator
from rebus.report import labels
from rebus.report.canvas import COLOURS, save, spoken
from rebus.report.contents import Result
from rebus.tasks.metrics import COUNTS
from rebus.tasks.metrics.classification import calibration_bins

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = tuple[list[float], list[float]]

_MOST_CLASSES = 40  # of a confusion matrix that can still be read


def plot_curves(path: str | Path, records: Iterable[Mapping[str, Any]], language: str = "en") -> Path:
    """Loss, learning rate and validation figures by step, from the lines of metrics.jsonl.

    Args:
        path: the PNG file.
        records: ``{"kind": "train", "step", "loss", "lr", "parts"?}`` and ``{"kind": "valid", "step", "metrics"}``.
        language: of the axes.

    Raises:
        RunError: the file cannot be written.
    """
    lines = list(records)
    trained = [line for line in lines if line.get("kind") == "train" and line.get("loss") is not None]
    losses = {"": _points(trained, lambda line: line["loss"])}
    parts = {name for line in trained for name in line.get("parts") or {} if name.startswith("loss/")}
    if len(parts) > 1:
        losses |= {name.split("/", 1)[1]: _points(trained, _part(name)) for name in sorted(parts)}
    rates = _points(trained, lambda line: line.get("lr"))
    valid = [line for line in lines if line.get("kind") == "valid"]
    names = list(dict.fromkeys(name for line in valid for name in line.get("metrics") or {}))
    figures = {name: _points(valid, _metric(name)) for name in names if name.rsplit("/", 1)[-1] not in COUNTS}
    shares = {name: points for name, points in figures.items() if labels.is_share(name.rsplit("/", 1)[-1])}
    others = {name: points for name, points in figures.items() if name not in shares}
    panels: list[Callable[[Axes, Translator], None]] = [partial(_draw_losses, losses)]
    panels += [partial(_draw_figures, part, spoken(language)) for part in (shares, others) if part]
    panels.append(partial(_draw_rates, rates))

    rows = -(-len(panels) // 2)

    def draw(figure: Figure, texts: Translator) -> None:
        sheet = figure.subplots(rows, 2).ravel()
        for axes, panel in zip(sheet, panels, strict=False):
            panel(axes, texts)
            axes.set_xlabel(texts("step"))
        for axes in sheet[len(panels) :]:
            axes.set_axis_off()

    return save(path, draw, language, (8.4, 3.1 * rows))


def plot_metric_bars(path: str | Path, results: Sequence[Result], language: str = "en") -> Path:
    """Figures with their 95% intervals beside the baseline's; only shares of 1, which fit one axis.

    Raises:
        RunError: the file cannot be written.
    """
    shown = [result for result in results if labels.is_share(result.metric)][::-1]

    def draw(figure: Figure, texts: Translator) -> None:
        axes = figure.subplots()
        places = np.arange(len(shown))
        values = np.array([100 * result.value for result in shown])
        bounds = [result.interval or (result.value, result.value) for result in shown]
        errors = np.abs(np.array([[100 * low, 100 * high] for low, high in bounds]).reshape(-1, 2).T - values)
        axes.barh(places + 0.18, values, 0.36, xerr=errors, color=COLOURS[0], ecolor="#333333", label=texts("model"))
        known = [(at, 100 * result.baseline) for at, result in enumerate(shown) if result.baseline is not None]
        if known:
            at, base = np.array(known).T
            axes.barh(at - 0.18, base, 0.36, color=COLOURS[2], label=texts("baseline"))
        axes.set_yticks(places, [_name(result, language) for result in shown])
        axes.set_xlim(0, 100)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(texts("percent"))
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)

    return save(path, draw, language, (7.0, 1.6 + 0.55 * max(1, len(shown))))


def plot_types(path: str | Path, columns: Mapping[str, Mapping[str, float]], language: str = "en") -> Path:
    """Bars by type for each of several models: ``{"unseen artists": {"count": 0.94, ...}, "baseline": {...}}``.

    Raises:
        RunError: the file cannot be written.
    """
    types = list(dict.fromkeys(name for values in columns.values() for name in values))

    def draw(figure: Figure, texts: Translator) -> None:
        axes = figure.subplots()
        height = 0.8 / max(1, len(columns))
        places = np.arange(len(types))[::-1]
        for row, (label, values) in enumerate(columns.items()):
            bars = [100 * values[name] if name in values else np.nan for name in types]
            offset = (len(columns) - 1) / 2 - row
            axes.barh(places + offset * height, bars, 0.92 * height, color=COLOURS[row % len(COLOURS)], label=label)
        axes.set_yticks(places, types)
        axes.set_xlim(0, 100)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(texts("percent"))
        if columns:
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)

    return save(path, draw, language, (7.0, 1.7 + 0.22 * max(1, len(types)) * (1 + len(columns))))


def plot_confusion(path: str | Path, counts: ArrayLike, classes: Sequence[str], language: str = "en") -> Path:
    """A confusion matrix (C, C), row = true class, column = guess; of many classes only the 40 commonest.

    Raises:
        RunError: the file cannot be written.
    """
    matrix = np.asarray(counts)
    keep = np.sort(np.argsort(-matrix.sum(1), kind="stable")[:_MOST_CLASSES])
    matrix, names = matrix[np.ix_(keep, keep)], [str(classes[at]) for at in keep]
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)

    def draw(figure: Figure, texts: Translator) -> None:
        axes = figure.subplots()
        axes.imshow(shares, cmap="GnBu", vmin=0, vmax=1)
        axes.grid(visible=False)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel(texts("predicted"))
        axes.set_ylabel(texts("true"))
        if len(names) <= 15:
            for (row, column), count in np.ndenumerate(matrix):
                colour = "white" if shares[row, column] > 0.6 else "#333333"
                axes.text(column, row, f"{count}", ha="center", va="center", color=colour, fontsize=8)

    side = 2.6 + 0.32 * len(names)
    return save(path, draw, language, (side + 0.6, side))


def plot_calibration(
    path: str | Path, confidence: ArrayLike, right: ArrayLike, language: str = "en", bins: int = 15
) -> Path:
    """Accuracy against confidence (N,) in equal bins, with the share of items in each.

    Raises:
        RunError: the file cannot be written.
    """
    sure, correct = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    bin_of = calibration_bins(sure, bins)
    count = np.bincount(bin_of, minlength=bins)
    filled = count > 0
    mean_sure = np.bincount(bin_of, sure, bins)[filled] / count[filled]
    mean_right = np.bincount(bin_of, correct, bins)[filled] / count[filled]

    def draw(figure: Figure, texts: Translator) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        upper.plot([0, 1], [0, 1], color=COLOURS[2], linestyle="--", label=texts("perfect"))
        upper.plot(mean_sure, mean_right, marker="o", color=COLOURS[0], label=texts("model"))
        upper.set_ylabel(texts("accuracy"))
        upper.set_ylim(-0.02, 1.02)
        upper.legend(loc="upper left")
        lower.bar((np.arange(bins) + 0.5) / bins, count / max(1, count.sum()), 0.9 / bins, color=COLOURS[0])
        lower.set_xlabel(texts("confidence"))
        lower.set_ylabel(texts("share"))
        lower.set_xlim(0, 1)

    return save(path, draw, language, (4.8, 4.8))


def plot_scatter(
    path: str | Path, truths: ArrayLike, predictions: ArrayLike, language: str = "en", name: str = ""
) -> Path:
    """Predicted against true numbers (N,), with the line of perfect agreement.

    Raises:
        RunError: the file cannot be written.
    """
    truth, guess = np.asarray(truths, dtype=np.float64), np.asarray(predictions, dtype=np.float64)

    def draw(figure: Figure, texts: Translator) -> None:
        axes = figure.subplots()
        both = np.concatenate([truth, guess])
        if len(both):
            axes.plot([both.min(), both.max()], [both.min(), both.max()], color=COLOURS[2], linestyle="--")
        axes.scatter(truth, guess, s=14, alpha=0.5, color=COLOURS[0], linewidths=0)
        axes.set_xlabel(f"{name} {texts('true')}".strip())
        axes.set_ylabel(f"{name} {texts('predicted')}".strip())

    return save(path, draw, language, (4.8, 4.6))


def _draw_losses(losses: Mapping[str, Points], axes: Axes, texts: Translator) -> None:
    for row, (name, (steps, values)) in enumerate(losses.items()):
        colour = COLOURS[row % len(COLOURS)]
        if len(losses) == 1:
            axes.plot(steps, values, color=colour, alpha=0.3, linewidth=0.8)
        axes.plot(steps, _smoothed(values), color=colour, label=name or texts("loss"))
    axes.set_ylabel(texts("loss"))
    if len(losses) > 1:
        axes.legend()


def _draw_figures(figures: Mapping[str, Points], language: str, axes: Axes, texts: Translator) -> None:
    tasks = {name.rpartition("/")[0] for name in figures}
    for row, (name, (steps, values)) in enumerate(figures.items()):
        task, _, metric = name.rpartition("/")
        label = labels.metric_name(metric, language)
        label = f"{task}: {label}" if len(tasks) > 1 else label
        axes.plot(steps, values, label=label, color=COLOURS[row % len(COLOURS)], marker="o", markersize=3)
    axes.set_ylabel(texts("valid"))
    axes.legend(fontsize=8)


def _draw_rates(rates: Points, axes: Axes, texts: Translator) -> None:
    axes.plot(*rates, color=COLOURS[2])
    axes.set_ylabel(texts("rate"))
    axes.set_ylim(bottom=0)


def _points(lines: Iterable[Mapping[str, Any]], value_of: Callable[[Mapping[str, Any]], Any]) -> Points:
    pairs = [(float(line["step"]), value_of(line)) for line in lines]
    known = [(step, float(value)) for step, value in pairs if value is not None]
    return [step for step, _ in known], [value for _, value in known]


def _part(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda line: (line.get("parts") or {}).get(name)


def _metric(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda line: (line.get("metrics") or {}).get(name)


def _smoothed(values: Sequence[float]) -> list[float]:
    """An exponential mean over about a twentieth of the curve, without the start's bias."""
    keep = 1 - 1 / max(1.0, len(values) / 20)
    total = weight = 0.0
    smooth = []
    for value in values:
        total, weight = keep * total + value, keep * weight + 1
        smooth.append(total / weight)
    return smooth


def _name(result: Result, language: str) -> str:
    name = labels.metric_name(result.metric, spoken(language))
    return f"{result.task}: {name}" if result.task else name
