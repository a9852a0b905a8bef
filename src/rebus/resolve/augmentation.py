"""What a recipe leaves open of how images are changed in training, filled in from the tasks and their texts."""

from __future__ import annotations

from rebus import recipe
from rebus.data.mixing import mixes
from rebus.data.sides import sides_in
from rebus.errors import RecipeError
from rebus.resolve.known import Log, Rows
from rebus.tasks.base import Task

HALF = 0.5


def settle_changes(settings: recipe.Recipe, known: Rows, log: Log) -> recipe.Recipe:
    """Whether images are mirrored; mixing is refused where targets cannot be mixed.

    Raises:
        RecipeError: mixup or cutmix beside a task that writes or reads text.
    """
    change, flip = settings.image.augment, "image.augment.flip"
    if settings.model.image.kind == "none" or not any("image" in task.columns for task in settings.tasks):
        return settings.replace({flip: change.flip or 0.0})
    if mixes(change):
        for task in known.tasks.values():
            _refuse_mixing(task, "mixup" if change.mixup else "cutmix")
    others = any(value for name, value in change if name != "flip")
    if change.flip == 0.0 or (change.flip is None and not others):
        return settings.replace({flip: 0.0})
    why = sides_in(*_texts(known))
    if change.flip is None:
        log(
            f"images are not mirrored: {why}; otherwise: --set image.augment.flip={HALF}"
            if why
            else "images are mirrored half the time, as other changes are on; otherwise: --set image.augment.flip=0"
        )
        return settings.replace({flip: 0.0 if why else HALF})
    if why:
        log(f"warning: images are mirrored (image.augment.flip is {change.flip:g}), yet {why}")
    return settings


def _texts(known: Rows) -> tuple[list[str], list[str]]:
    texts: list[str] = []
    labels: list[str] = []
    for name, task in known.tasks.items():
        values = known.values[name]
        texts += task.texts(values, [row for row in known.training if task.usable(values, row)])
        labels += task.known_labels()
    return texts, labels


def _refuse_mixing(task: Task, name: str) -> None:
    if task.mixes_targets and "text" not in task.settings.columns:
        return
    why = "writes" if task.writes else "reads text" if task.mixes_targets else "has no target to mix"
    raise RecipeError(
        f"image.augment.{name}",
        "tasks that give numbers for an image alone: classify, tag or regress without a text column",
        f"the task '{task.name}', which {why}",
        f"leave it out: --set image.augment.{name}=0",
    )
