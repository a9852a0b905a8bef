"""What a recipe with the task ``pretrain_image`` leaves open."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rebus import recipe
from rebus.errors import RecipeError
from rebus.tasks.pretrain_image import PretrainImage

if TYPE_CHECKING:
    pass

Log = Callable[[str], None]

NAME = PretrainImage.name


# SimCLR's own changes (crop, flip, colour, grey) at half its strength of colour, as for small images; MAE's crop
AUGMENT = {
    "simclr": recipe.Augment(crop=0.2, flip=0.5, colour=0.4, hue=0.1, grey=0.2),
    "masked": recipe.Augment(crop=0.2, flip=0.5),
}


BATCH = 128  # images to be told apart; SimCLR learns little from few


def settle_images(settings: recipe.Recipe, rows: int, log: Log) -> None:
    """Fill in, in place, what a recipe with the task ``pretrain_image`` leaves at its defaults, and say so.

    Args:
        settings: met with its columns.
        rows: to train on.
        log: prints a line for people.

    Raises:
        RecipeError: another task beside it, no image tower, or a frozen one.
    """
    entry = next((task for task in settings.tasks if task.name == NAME), None)
    if entry is None:
        return
    model, train = settings.model, settings.train
    if len(settings.tasks) > 1:
        found = ", ".join(task.name for task in settings.tasks)
        do = "train it first, then the others with --from its Run"
        raise RecipeError(
            "tasks", f"the task '{NAME}' by itself, as it changes images more than others bear", found, do
        )
    if model.image.kind == "none":
        do = "set convnet or vit"
        raise RecipeError("model.image.kind", f"an image tower, which the task '{NAME}' is for", "'none'", do)
    if model.image.frozen:
        raise RecipeError("model.image.frozen", "false: the tower is what learns", "true", "leave it out")
    contrasts = entry.method == "simclr"
    model.text.kind, model.fusion.kind = "none", "none"
    told = []
    if settings.image.augment == recipe.Augment() and not settings.image.augment.model_fields_set:
        settings.image.augment = AUGMENT[entry.method].model_copy()
        changes = ", ".join(f"{name} {value:g}" for name, value in settings.image.augment if value)
        told.append(f"image.augment: {changes}; otherwise: --set image.augment.crop=0.5 and so on")
    if contrasts and "batch_size" not in train.model_fields_set:
        train.batch_size = max(8, min(BATCH, 1 << max(rows // 4, 1).bit_length() - 1))
        told.append(f"train.batch_size: {train.batch_size}")
    if told:
        log(f"task {NAME} ({entry.method}) sets {'; '.join(told)}")
