"""Whether a model gives one answer to nearly all rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from rebus.catalogue import Note
from rebus.tasks import Prediction, Task
from rebus.tasks.base import Values
from rebus.tasks.cells import as_text

CONSTANT = 0.98  # share of rows with the same answer from which a model tells nothing apart
MIN_ROWS = 8  # rows below which nothing can be said
SAME_ANSWERS = 0.95  # share of the spread of the true numbers that may be lost


def constant_answer(task: Task, values: Values, rows: Sequence[int], predictions: Sequence[Prediction]) -> str | None:
    """A sentence where a model says the same to nearly all rows though their truths differ; None where it does not."""
    if len(rows) < MIN_ROWS or task.answers not in ("text", "label", "labels", "number"):
        return None
    if task.answers == "number":
        text = np.asarray([float(item.value) for item in predictions])
        true = np.asarray([float(task.truth(values, row)) for row in rows])
        if true.std() == 0.0 or text.std() >= (1 - SAME_ANSWERS) * true.std():
            return None
        figures = {"mean": float(text.mean()), "low": float(true.min()), "high": float(true.max())}
        return Note("watch.constant_number", task=task.name, rows=len(rows), **figures)
    answers = Counter(_plain(item.value) for item in predictions)
    truths = Counter(_plain(task.truth(values, row)) for row in rows)
    common, times = answers.most_common(1)[0]
    if times < CONSTANT * len(rows) or truths.most_common(1)[0][1] >= CONSTANT * len(rows):
        return None
    key = "watch.constant_all" if times == len(rows) else "watch.constant"
    share = truths[common] / len(rows)
    return Note(key, task=task.name, common=common[:60], times=times, rows=len(rows), share=share)


def _plain(value: Any) -> str:
    return ", ".join(sorted(map(as_text, value))) if isinstance(value, (list, tuple, set)) else as_text(value)
