"""Score a model on rows: predictions, figures, intervals, baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from rebus.run.predictor import Predictor
from rebus.run.prepare import Prepared
from rebus.tasks import Prediction, Task, TaskScore


@overload
def score_rows(predictor: Predictor, prepared: Prepared, task: Task, rows: Sequence[int]) -> TaskScore: ...
@overload
def score_rows(
    predictor: Predictor, prepared: Prepared, task: Task, rows: Sequence[int], *, predictions_only: Literal[True]
) -> list[Prediction]: ...
def score_rows(
    predictor: Predictor, prepared: Prepared, task: Task, rows: Sequence[int], *, predictions_only: bool = False
) -> Any:
    """Predict ``rows`` of a prepared table and score them."""
    store = prepared.pictures()
    column = prepared.picture_column
    pictures = prepared.table.column(column) if column is not None else None

    def picture_of(row: int) -> NDArray[np.uint8] | None:
        if store is None or pictures is None or pictures[row] is None:
            return None
        array: NDArray[np.uint8] = store.get(row)
        return array

    values = prepared.values[task.name]
    told = predictor.run_task(task, values, rows, picture_of)
    if predictions_only:
        return told
    return task.score(values, rows, told, prepared.rows("train", task))
