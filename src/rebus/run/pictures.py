"""Runs of the task ``pictures``: what the recipe leaves open, what a model knows of held-out pictures, and a collapse.

Letters: B pictures of a batch, S side, R rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rebus import recipe
from rebus.data.transforms import augment
from rebus.errors import RecipeError
from rebus.tasks import Prediction
from rebus.tasks.base import Values
from rebus.tasks.pictures import Pictures

if TYPE_CHECKING:
    from rebus.run.predictor import Predictor

Tell = Callable[[str], None]
NAME = Pictures.name
# SimCLR's own changes (crop, flip, colour, grey) at half its strength of colour, as for small pictures; MAE's crop
AUGMENT = {
    "simclr": recipe.Augment(crop=0.2, flip=0.5, colour=0.4, hue=0.1, grey=0.2),
    "masked": recipe.Augment(crop=0.2, flip=0.5),
}
BATCH = 128  # pictures to be told apart; SimCLR learns little from few
FROM_PROGRESS = 0.2  # of a run, before which vectors that are all alike mean nothing yet


def settle_pictures(settings: recipe.Recipe, rows: int, tell: Tell) -> None:
    """Fill in, in place, what a recipe with the task ``pictures`` leaves at its defaults, and say so.

    Args:
        settings: met with its columns.
        rows: to train on.
        tell: prints a line for people.

    Raises:
        RecipeError: another task beside it, no picture tower, or a frozen one.
    """
    entry = next((task for task in settings.tasks if task.name == NAME), None)
    if entry is None:
        return
    model, train = settings.model, settings.train
    if len(settings.tasks) > 1:
        found = ", ".join(task.name for task in settings.tasks)
        do = "train it first, then the others with --from its Run"
        raise RecipeError(
            "tasks", f"the task '{NAME}' by itself, as it changes pictures more than others bear", found, do
        )
    if model.picture.kind == "none":
        do = "set convnet or vit"
        raise RecipeError("model.picture.kind", f"a picture tower, which the task '{NAME}' is for", "'none'", do)
    if model.picture.frozen:
        raise RecipeError("model.picture.frozen", "false: the tower is what learns", "true", "leave it out")
    contrasts = entry.method == "simclr"
    model.text.kind, model.fusion.kind = "none", "none"
    told = []
    if settings.picture.augment == recipe.Augment() and not settings.picture.augment.model_fields_set:
        settings.picture.augment = AUGMENT[entry.method].model_copy()
        changes = ", ".join(f"{name} {value:g}" for name, value in settings.picture.augment if value)
        told.append(f"picture.augment: {changes}; otherwise: --set picture.augment.crop=0.5 and so on")
    if contrasts and "batch_size" not in train.model_fields_set:
        train.batch_size = max(8, min(BATCH, 1 << max(rows // 4, 1).bit_length() - 1))
        told.append(f"train.batch_size: {train.batch_size}")
    if told:
        tell(f"task {NAME} ({entry.method}) sets {'; '.join(told)}")


def look_at_pictures(
    predictor: Predictor, task: Pictures, rows: Sequence[int], batch: dict[str, Any], owner: Tensor
) -> list[Prediction]:
    """What a model knows of the pictures of R rows, (B, 3, S, S) in the batch; ``owner`` (R,) says whose is whose."""
    model, name = predictor.model, task.name
    pixels: Tensor = batch["picture"]
    if task.contrasts:
        plain = pixels.permute(0, 2, 3, 1).cpu().numpy()
        first = [rows[int((owner == place).nonzero()[0])] for place in range(len(plain))]
        for key, view in (("picture", 0), ("views", 1)):
            changed = augment(plain, predictor.recipe.picture.augment, 0, 0, first, view)
            batch[key] = torch.from_numpy(changed).permute(0, 3, 1, 2).to(pixels.device)
    part = task.collate([task.item(row, None) for row in rows], owner.tolist())
    batch["tasks"][name] = {key: tensor.to(pixels.device) for key, tensor in part.items()}
    outputs = model(batch, [name])[name]
    pooled = model.picture(model.normalise(pixels)).pooled.float()
    return task.predictions(outputs, functional.normalize(pooled, dim=-1)[owner])


class PictureWatch:
    """Shows what is near to what, and says, once, that a tower has become blind. See ``training.plan.Observer``.

    Args:
        task: whose predictions are looked at.
    """

    def __init__(self, task: Pictures) -> None:
        self.task, self.seen, self.said = task, list[Prediction](), False
        self.names: list[str] = []

    def note(self, values: Values, rows: Sequence[int], predictions: Sequence[Prediction]) -> None:
        """Remember a validation's predictions."""
        self.seen = list(predictions)
        self.names = [shown_name(values["picture"][row], row) for row in rows]

    def sample(self) -> str:
        """Which held-out picture is nearest to the first one."""
        if len(self.seen) < 2:
            return ""
        vectors = np.stack([p.extra["vector"] for p in self.seen])
        cosines = vectors[1:] @ vectors[0]
        best = int(cosines.argmax())
        return f"nearest to {self.names[0]}: {self.names[best + 1]} (cosine {float(cosines[best]):.3f})"

    def stepped(self, step: int, progress: float, parts: Mapping[str, float]) -> Sequence[tuple[str, str]]:
        """Nothing."""
        return ()

    def validated(self, progress: float) -> Sequence[tuple[str, str]]:
        """The warning, if there is reason for one."""
        if self.said or progress < FROM_PROGRESS:
            return ()
        found = [("collapse", text) for text in self.task.remarks(self.seen)]
        self.said = bool(found)
        return found


def shown_name(value: Any, row: int) -> str:
    """What to call a row's picture: its file's name, or its row."""
    return Path(value).name if isinstance(value, str) and len(value) < 256 else f"row {row + 1}"
