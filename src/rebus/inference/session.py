"""What every use of a trained model on a table shares: the rows of a split, the decoded images of a column."""

from __future__ import annotations

from rebus import recipe
from rebus.data.splits import assign_splits
from rebus.data.store import ImageStore
from rebus.data.table import Table
from rebus.errors import DataError, nearest
from rebus.inference.predictor import Predictor
from rebus.resolve.from_table import open_store
from rebus.tasks import Task


def store_for(predictor: Predictor, table: Table, task: Task) -> ImageStore | None:
    """Decoded images of the task's image column."""
    column = task.settings.columns.get("image")
    if column is None or predictor.model.image is None or column not in table.columns:
        return None
    return open_store(table, column, predictor.recipe)


def chosen_rows(table: Table, settings: recipe.Recipe, split: str) -> list[int]:
    """Row numbers of a split. Raises DataError for an unknown name."""
    if split == "all":
        return list(range(len(table)))
    if split not in ("train", "valid", "test"):
        raise DataError(
            f"--split {split}",
            "train, valid, test or all",
            f"'{split}'",
            nearest(split, ["train", "valid", "test", "all"]),
        )
    images = [column for column, kind in settings.data.kinds.items() if kind == "image"]
    return [row for row, name in enumerate(assign_splits(table, settings.data.split, images, seed=0)) if name == split]
