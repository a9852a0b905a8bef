"""What every use of a trained model on a table shares: the rows of a split, the decoded pictures of a column."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rebus import recipe
from rebus.data.splits import assign_splits
from rebus.data.store import PictureStore
from rebus.data.table import Table
from rebus.errors import DataError, nearest
from rebus.inference.predictor import Predictor
from rebus.resolve.from_table import open_store
from rebus.tasks import Task

if TYPE_CHECKING:
    pass


def store_for(predictor: Predictor, table: Table, task: Task) -> PictureStore | None:
    """Decoded pictures of the task's picture column."""
    column = task.settings.columns.get("picture")
    if column is None or predictor.model.picture is None or column not in table.columns:
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
    pictures = [column for column, kind in settings.data.kinds.items() if kind == "picture"]
    return [
        row for row, name in enumerate(assign_splits(table, settings.data.split, pictures, seed=0)) if name == split
    ]
