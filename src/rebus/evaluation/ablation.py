"""What a trained model loses when what it sees or reads is taken away: the honest test that it looks at all.

Each loss is paired: the same rows, the same resamples, rows of one image together. It knows no report.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from rebus.errors import DataError
from rebus.inference.predictor import Predictor
from rebus.models.modalities import Item
from rebus.models.modalities.rows import RowInputs
from rebus.tasks import Prediction, Task
from rebus.tasks.base import Values
from rebus.tasks.cells import as_text, missing
from rebus.tasks.metrics import LOWER_IS_BETTER, compare
from rebus.tasks.metrics.intervals import Interval

MOST, MOST_SEEN, LEAST = 30_000, 3_000, 10  # rows that are asked about for columns, with images, and of a column
TEXTS = ("text", "question", "prompt")  # roles whose text can be taken away


@dataclass
class Ablation:
    """What one task loses.

    Attributes:
        metric: the figure.
        value: as the model is.
        rows: judged.
        losses: ``images_shuffled``, ``images_blank``, ``images_absent``, ``text_shuffled``, ``text_masked``: the
            figure then, and how much of it is lost with the bounds of the 95% interval; positive is a loss.
        verdict: in plain words, once a report has put it so.
    """

    metric: str
    value: float
    rows: int
    losses: dict[str, dict[str, float]] = field(default_factory=dict)
    verdict: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def ablate(
    predictor: Predictor,
    task: Task,
    values: Values,
    rows: Sequence[int],
    predictions: list[Prediction],
    inputs: RowInputs,
    *,
    seed: int = 0,
) -> Ablation:
    """Ask again about the same rows with images shuffled, blank or absent, with text shuffled or masked.

    Args:
        predictor: the model.
        task: what it is judged on.
        values: the task's columns.
        rows: that are judged, at least one.
        predictions: what the model says of them as they are.
        inputs: what the model reads of them beside text.
        seed: of the shuffles.

    Raises:
        DataError: the model neither sees an image nor reads a text of these rows.
    """
    result = _losses(predictor, task, values, rows, predictions, _changes(predictor, task, values, rows, inputs, seed))
    if not result.losses:
        raise DataError(
            f"rebus evaluate --ablate, task '{task.name}'",
            "a model that sees images or reads a text, and at least two different ones among the rows",
            "neither",
            "leave --ablate out, or judge more rows with --split all",
        )
    return result


def shuffle_columns(
    predictor: Predictor,
    task: Task,
    values: Values,
    rows: Sequence[int],
    predictions: list[Prediction],
    inputs: RowInputs,
    *,
    seed: int = 0,
) -> Ablation | None:
    """What each column that is an input by itself adds: what is lost when its cells are shuffled among the rows.

    So many rows are asked about that the model looks at ``MOST`` of them in all. Arguments as for ``ablate``.
    Source: Breiman (2001), "Random Forests".

    Returns:
        Losses by column, the largest first; None where no column is an input, or there are too few rows.
    """
    names = [name for modality in inputs.modalities.values() if modality.many for name in modality.columns]
    names = [name for name in names if name in inputs.columns]
    most = MOST_SEEN if "image" in inputs.modalities else MOST
    if not names or len(names) > most // LEAST or len(rows) < LEAST:
        return None
    count = max(most // len(names), LEAST)
    some, text = list(rows[:count]), predictions[:count]
    rng = np.random.default_rng(seed)
    changes = ((name, values, _shuffled(inputs, some, name, rng)) for name in names)
    result = _losses(predictor, task, values, some, text, changes)
    result.losses = dict(sorted(result.losses.items(), key=lambda item: -item[1]["lost"]))
    return result


def _shuffled(inputs: RowInputs, rows: Sequence[int], column: str, rng: np.random.Generator) -> RowInputs:
    """The rows with one column's cells moved among them."""
    cells = inputs.columns[column]
    return inputs.with_cells(column, {row: cells[other] for row, other in zip(rows, _moved(rows, rng), strict=True)})


def _losses(
    predictor: Predictor,
    task: Task,
    values: Values,
    rows: Sequence[int],
    predictions: list[Prediction],
    changes: Iterable[tuple[str, Values, RowInputs]],
) -> Ablation:
    """What each change costs, with intervals over the same resamples."""
    metric = task.watch
    figure = task.statistics(values, rows, predictions)[metric]
    ablation = Ablation(metric, float(figure(np.ones((1, len(rows))))[0]), len(rows))
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    groups = [as_text(values["image"][row])[:512] for row in rows] if "image" in values else None
    for name, changed, shown in changes:
        other = predictor.run_task(task, changed, rows, shown)
        changed_figure = task.statistics(values, rows, other)[metric]
        item = compare({metric: figure}, {metric: changed_figure}, len(rows), groups=groups)[metric]
        lost = item.difference or Interval(np.nan, np.nan, np.nan)
        low, high = sorted((sign * lost.low, sign * lost.high))
        then = item.baseline.value if item.baseline else np.nan
        ablation.losses[name] = {"value": then, "lost": sign * lost.value, "low": low, "high": high}
    return ablation


def _changes(
    predictor: Predictor, task: Task, values: Values, rows: Sequence[int], inputs: RowInputs, seed: int
) -> Iterator[tuple[str, Values, RowInputs]]:
    """(name, columns, inputs) of each way to take something away."""
    rng = np.random.default_rng(seed)
    if "image" in inputs.modalities and "image" in values:
        first: dict[str, int] = {}  # each image by the first row that shows it
        for row in rows:
            if not missing(values["image"][row]):
                first.setdefault(as_text(values["image"][row]), row)
        if len(first) > 1:
            other = dict(zip(first, _moved(list(first.values()), rng), strict=True))
            yield "images_shuffled", values, inputs.replaced("image", lambda row: _of(inputs, other, values, row))
        if first:
            blank = _mean_colour(inputs, list(first.values()))
            shown = inputs.replaced("image", lambda row: [blank] * inputs.count("image", row))
            yield "images_blank", values, shown
            yield "images_absent", values, inputs.replaced("image", lambda row: [])
    role = next((role for role in TEXTS if role in values and role in task.inputs), None)
    if role is None or role in task.settings.unseen:
        return
    known = [row for row in rows if not missing(values[role][row])]
    if len({as_text(values[role][row]) for row in known}) > 1:
        column = list(values[role])
        for row, source in zip(known, _moved(known, rng), strict=True):
            column[row] = values[role][source]
        yield "text_shuffled", {**values, role: column}, inputs
    if known:
        yield "text_masked", {**values, role: [None] * len(values[role])}, inputs


def _of(inputs: RowInputs, other: Mapping[str, int], values: Values, row: int) -> list[Item]:
    """The images of the row that stands in for a row; a row that has no image is not given one."""
    cell = values["image"][row]
    return [] if missing(cell) else inputs.items("image", other[as_text(cell)])


def _moved(rows: Sequence[int], rng: np.random.Generator) -> list[int]:
    """For each of the rows another one of them."""
    order = rng.permutation(len(rows))
    moved = [0] * len(rows)
    for place, following in zip(order, np.roll(order, -1), strict=True):
        moved[int(place)] = rows[int(following)]
    return moved


def _mean_colour(inputs: RowInputs, rows: Sequence[int], most: int = 200) -> Item:
    """An image of the mean colour of some rows' images."""
    seen = [item["pixels"] for row in rows[:most] for item in inputs.items("image", row)]
    colour = np.mean([array.reshape(-1, 3).mean(0) for array in seen], axis=0)
    return {"pixels": np.broadcast_to(np.round(colour).astype(np.uint8), seen[0].shape).copy()}
