"""What a recipe leaves open of how images are changed in training, filled in from the tasks and their texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rebus import recipe
from rebus.data.mixing import mixes
from rebus.data.sides import sides_in
from rebus.errors import RecipeError
from rebus.tasks.base import Task, Values, VectorTask
from rebus.tasks.labels import Labels

Log = Callable[[str], None]
HALF = 0.5


def settle_changes(
    settings: recipe.Recipe, tasks: Mapping[str, Task], values: Mapping[str, Values], rows: Sequence[int], log: Log
) -> None:
    """Decide, in place, whether images are mirrored, and refuse mixing where targets cannot be mixed.

    Args:
        settings: met with its columns.
        tasks: name: task, fitted.
        values: name: the task's columns.
        rows: to train on.
        log: prints a line for people.

    Raises:
        RecipeError: mixup or cutmix beside a task that writes or reads text.
    """
    change = settings.image.augment
    if settings.model.image.kind == "none" or not any("image" in task.settings.columns for task in tasks.values()):
        change.flip = change.flip or 0.0
        return
    if mixes(change):
        for task in tasks.values():
            _refuse_mixing(task, "mixup" if change.mixup else "cutmix")
    others = any(value for name, value in change if name != "flip")
    if change.flip == 0.0 or (change.flip is None and not others):
        change.flip = 0.0
        return
    why = sides_in(*_said(tasks, values, rows))
    if change.flip is None:
        change.flip = 0.0 if why else HALF
        log(
            f"images are not mirrored: {why}; otherwise: --set image.augment.flip={HALF}"
            if why
            else "images are mirrored half the time, as other changes are on; otherwise: --set image.augment.flip=0"
        )
    elif why:
        log(f"warning: images are mirrored (image.augment.flip is {change.flip:g}), yet {why}")


def _said(tasks: Mapping[str, Task], values: Mapping[str, Values], rows: Sequence[int]) -> tuple[list[str], list[str]]:
    texts: list[str] = []
    labels: list[str] = []
    for name, task in tasks.items():
        texts += task.texts(values[name], [row for row in rows if task.usable(values[name], row)])
        labels += task.labels if isinstance(task, Labels) else []
    return texts, labels


def _refuse_mixing(task: Task, name: str) -> None:
    if isinstance(task, VectorTask) and "text" not in task.settings.columns:
        return
    why = "writes" if task.writes else "reads text" if isinstance(task, VectorTask) else "has no target to mix"
    raise RecipeError(
        f"image.augment.{name}",
        "tasks that give numbers for an image alone: classify, tag or regress without a text column",
        f"the task '{task.name}', which {why}",
        f"leave it out: --set image.augment.{name}=0",
    )
