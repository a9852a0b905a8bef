"""What a recipe with the task ``pretrain_image`` leaves open."""

from __future__ import annotations

from rebus import recipe
from rebus.errors import RecipeError
from rebus.resolve.known import Log, Rows
from rebus.tasks.pretrain_image import PretrainImage

NAME = PretrainImage.name
# SimCLR's own changes (crop, flip, colour, grey) at half its strength of colour, as for small images; MAE's crop
AUGMENT = {
    "simclr": recipe.Augment(crop=0.2, flip=0.5, colour=0.4, hue=0.1, grey=0.2),
    "masked": recipe.Augment(crop=0.2, flip=0.5),
}
BATCH = 128  # images to be told apart; SimCLR learns little from few


def settle_images(settings: recipe.Recipe, known: Rows, log: Log) -> recipe.Recipe:
    """What a recipe with the task ``pretrain_image`` leaves at its defaults; printed.

    Raises:
        RecipeError: another task beside it, no image tower, or a frozen one.
    """
    entry = next((task for task in settings.tasks if task.name == NAME), None)
    if entry is None:
        return settings
    model = settings.model
    if len(settings.tasks) > 1:
        names = ", ".join(task.name for task in settings.tasks)
        do = "train it first, then the others with --from its Run"
        expected = f"the task '{NAME}' by itself, as it changes images more than others bear"
        raise RecipeError("tasks", expected, names, do)
    if model.image.kind == "none":
        do = "set convnet or vit"
        raise RecipeError("model.image.kind", f"an image tower, which the task '{NAME}' is for", "'none'", do)
    if model.image.frozen:
        raise RecipeError("model.image.frozen", "false: the tower is what learns", "true", "leave it out")
    lines, changes = [], {"model.text.kind": "none", "model.fusion.kind": "none"}
    if settings.image.augment == recipe.Augment() and not settings.image.augment.model_fields_set:
        augment = AUGMENT[entry.method]
        settings = settings.replace({"image.augment": augment})
        values = ", ".join(f"{name} {value:g}" for name, value in augment if value)
        lines.append(f"image.augment: {values}; otherwise: --set image.augment.crop=0.5 and so on")
    if entry.method == "simclr" and not settings.sets("train.batch_size"):
        size = max(8, min(BATCH, 1 << max(len(known.training) // 4, 1).bit_length() - 1))
        settings = settings.replace({"train.batch_size": size})
        lines.append(f"train.batch_size: {size}")
    if lines:
        log(f"task {NAME} ({entry.method}) sets {'; '.join(lines)}")
    return settings.replace(changes)
