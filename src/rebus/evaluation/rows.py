"""A table as one task sees it: what is judged, and what baselines may know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rebus import recipe
from rebus.data.readers import read_table
from rebus.data.store import ImageStore
from rebus.data.table import Table
from rebus.errors import RebusError
from rebus.inference.predictor import Predictor
from rebus.inference.session import store_for
from rebus.resolve.inputs import other_rows
from rebus.tasks import Match, Prediction, Task
from rebus.tasks.base import Values
from rebus.tasks.cells import missing


@dataclass
class Rows:
    """A table as one task sees it.

    Attributes:
        task: whose columns.
        values: role: one value a row.
        store: decoded images; None where the model sees none.
    """

    task: Task
    values: Values
    store: ImageStore | None

    def image(self, row: int) -> NDArray[np.uint8] | None:
        """The row's image, None where it has none."""
        if self.store is None or "image" not in self.values or missing(self.values["image"][row]):
            return None
        array: NDArray[np.uint8] = self.store.get(row)
        return array

    def predict(self, predictor: Predictor, rows: Sequence[int]) -> list[Prediction]:
        """Predictions for ``rows``."""
        values = self.task.tried(self.values, rows) if isinstance(self.task, Match) else self.values
        return predictor.run_task(self.task, values, rows, self.image)


def rows_of(predictor: Predictor, table: Table, task: Task) -> Rows:
    """A table met with a trained task.

    Raises:
        DataError: a column that the task reads or predicts is missing.
    """
    columns = {name: table.column(name) for name in table.columns}
    values = task.values(columns) | other_rows(predictor.recipe, columns, table.root)
    return Rows(task, values, store_for(predictor, table, task))


def read_own(settings: recipe.Data, *, required: bool) -> Table | None:
    """The table a Run was trained from; None where it is gone and not required."""
    try:
        return read_table(settings)
    except RebusError:
        if required:
            raise
        return None
