"""A table as one task sees it: what is judged, and what baselines may know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rebus import recipe
from rebus.data.readers import read_table
from rebus.data.table import Table
from rebus.errors import RebusError
from rebus.inference.predictor import Predictor
from rebus.models.modalities.rows import RowInputs
from rebus.tasks import Prediction, Task
from rebus.tasks.base import Values


@dataclass
class Rows:
    """A table as one task sees it.

    Attributes:
        task: whose columns.
        values: role: one value a row.
        inputs: what the model reads of them beside text.
    """

    task: Task
    values: Values
    inputs: RowInputs

    @property
    def sees(self) -> bool:
        """Whether the model sees images of these rows."""
        return "image" in self.inputs.modalities and "image" in self.values

    def image(self, row: int) -> NDArray[np.uint8] | None:
        """The row's first image, (S, S, 3); None where it has none."""
        items = self.inputs.items("image", row) if self.sees else []
        return items[0]["pixels"] if items else None

    def predict(self, predictor: Predictor, rows: Sequence[int]) -> list[Prediction]:
        """Predictions for ``rows``."""
        return predictor.run_task(self.task, self.task.tried(self.values, rows), rows, self.inputs)


def rows_of(predictor: Predictor, table: Table, task: Task) -> Rows:
    """A table met with a trained task.

    Raises:
        DataError: a column that the task reads or predicts is missing.
    """
    columns = {name: table.column(name) for name in table.columns}
    return Rows(task, task.values(columns), predictor.inputs_of(task, table))


def read_own(settings: recipe.Data, *, required: bool) -> Table | None:
    """The table a Run was trained from; None where it is gone and not required."""
    try:
        return read_table(settings)
    except RebusError:
        if required:
            raise
        return None
