"""Tasks and how their columns are read: what a recipe leaves open of them, from what a table's columns hold."""

from __future__ import annotations

from collections.abc import Sequence

from rebus import recipe as settings
from rebus.data import jpeg
from rebus.data.kinds import Inference
from rebus.data.role_cells import settled
from rebus.errors import DataError, RecipeError
from rebus.resolve.known import Cells, Columns, Log


def settle_tasks(recipe: settings.Recipe, known: Columns, log: Log) -> settings.Recipe:
    """The tasks and their columns; marks of numbers and separators of lists.

    Raises:
        DataError: no task can be found from the columns. RecipeError: a task stands twice.
    """
    tasks = filled(recipe.tasks, known.inference)
    return recipe.replace(tasks=settled(tasks, known.table, recipe.data))


def settle_images(recipe: settings.Recipe, known: Cells, log: Log) -> settings.Recipe:
    """Black and white of images with more than 8 bits a sample, and the decoder.

    A resumed run keeps its decoder: two may differ by a level.
    """
    levels = [survey.levels for survey in known.report.images if survey.levels is not None]
    if recipe.data.levels is None and levels:
        recipe = recipe.replace({"data.levels": (min(low for low, _ in levels), max(high for _, high in levels))})
    if shared_image_column(recipe.tasks) is not None:
        recipe = recipe.replace({"data.jpeg": jpeg.settled(recipe.data.jpeg)})
    return recipe


def filled(tasks: list[settings.TaskSettings], inference: Inference) -> list[settings.TaskSettings]:
    """The recipe's tasks with inferred columns where it names none; the inferred tasks where it has no task."""
    if not tasks:
        if inference.refusal is not None:
            raise inference.refusal
        if not inference.tasks:
            raise DataError(
                where="the table",
                expected="columns that a task can be found from",
                found=", ".join(f"{column} ({kind})" for column, kind in inference.kinds.items()) or "no column",
                do="name the task and its columns: --task classify --set tasks.0.columns.label=COLUMN",
            )
        return inference.tasks
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise RecipeError("tasks", "each task once", ", ".join(names), "merge the two entries of the same name")
    guessed = {task.name: task.columns for task in inference.tasks}
    return [task.replace(columns={**guessed.get(task.name, {}), **task.columns}) for task in tasks]


def shared_image_column(tasks: Sequence[settings.TaskSettings]) -> str | None:
    """The one image column that all tasks share.

    Raises:
        RecipeError: two tasks name different ones.
    """
    names = {task.columns["image"] for task in tasks if "image" in task.columns}
    if len(names) > 1:
        raise RecipeError("tasks", "one image column for all tasks", ", ".join(sorted(names)), "train them apart")
    return next(iter(names), None)
