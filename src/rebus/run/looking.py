"""What training would see and say of a table, without training."""

from __future__ import annotations

from dataclasses import dataclass

from rebus import recipe
from rebus.data.check import CheckReport, check_table
from rebus.data.kinds import Inference, infer
from rebus.data.readers import read_table
from rebus.data.splits import assign_splits
from rebus.data.table import Table
from rebus.run.prepare import filled


@dataclass(frozen=True)
class Looked:
    """A table that was looked at.

    Attributes:
        table: its rows.
        inference: what its columns hold and which tasks suit them.
        report: what is in it and what is wrong with it.
        splits: train, valid or test, one a row.
    """

    table: Table
    inference: Inference
    report: CheckReport
    splits: list[str]


def look_at(settings: recipe.Recipe) -> Looked:
    """Look at the table that a recipe names.

    Raises:
        DataError: the table cannot be read at all. RecipeError: a setting does not fit it.
    """
    table = read_table(settings.data)
    inference = infer(table, settings.data.kinds, [entry.name for entry in settings.tasks])
    tasks = filled(settings.tasks, inference) if settings.tasks or inference.tasks else []
    pictures = [column for column, kind in inference.kinds.items() if kind == "picture"]
    splits = assign_splits(table, settings.data.split, pictures, seed=0)
    return Looked(table, inference, check_table(table, settings.data, inference.kinds, tasks, splits), splits)
