"""What a predictor does for tasks that read: long texts in windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rebus.models.batch import Batch
from rebus.tasks import Prediction
from rebus.tasks.base import Values
from rebus.tasks.reading import WordsTask

if TYPE_CHECKING:
    from rebus.inference.predictor import Predictor


def read_words(
    predictor: Predictor, task: WordsTask, values: Values, rows: Sequence[int], batch: Batch, owner: Tensor
) -> list[Prediction]:
    """A prediction a row; a long text is several windows, and ``batch_size`` of them go through the model at a time."""
    windows = [task.windows(values, row, predictor.processor, learn=False) for row in rows]
    flat = [(place, window) for place, several in enumerate(windows) for window in several]
    outputs: list[list[NDArray[np.float32]]] = [[] for _ in rows]
    device = predictor.model.device
    for start in range(0, len(flat), predictor.batch_size):
        portion = flat[start : start + predictor.batch_size]
        part = task.collate([window for _, window in portion], [int(owner[place]) for place, _ in portion])
        batch.targets[task.name] = {name: tensor.to(device) for name, tensor in part.items()}
        told = predictor.model(batch, [task.name])[task.name].float().cpu().numpy()  # (R, L, C)
        for (place, _), numbers in zip(portion, told, strict=True):
            outputs[place].append(numbers)
    return [task.predict_row(values, row, windows[i], outputs[i]) for i, row in enumerate(rows)]


def plainly(value: Any) -> str:
    """A prediction as one line: labels with commas, spans as ``Anna (person), Paris (place)``."""
    if not isinstance(value, list):
        return str(value)
    parts = [
        f"{one['text']} ({one['label']})" if isinstance(one, dict) and "text" in one else str(one) for one in value
    ]
    return ", ".join(parts)
