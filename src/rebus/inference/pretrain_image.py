"""What a model knows of held-out images.

Letters: B images of a batch, S side, R rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from rebus.data.transforms import augment
from rebus.models.batch import Batch
from rebus.tasks import Prediction
from rebus.tasks.pretrain_image import PretrainImage

if TYPE_CHECKING:
    from rebus.inference.predictor import Predictor


def look_at_images(
    predictor: Predictor, task: PretrainImage, rows: Sequence[int], batch: Batch, owner: Tensor
) -> list[Prediction]:
    """What a model knows of the images of R rows, (B, 3, S, S) in the batch; ``owner`` (R,) says whose is whose."""
    model, name = predictor.model, task.name
    images = batch.inputs["image"]
    pixels, of_row = images.tensors["pixels"], images.first(owner)
    if task.contrasts:
        plain = pixels.permute(0, 2, 3, 1).cpu().numpy()
        first = [rows[int((of_row == place).nonzero()[0])] for place in range(len(plain))]
        for view, given in enumerate((batch.inputs, batch.views)):
            changed = augment(plain, predictor.recipe.image.augment, 0, 0, first, view)
            shown = torch.from_numpy(changed).permute(0, 3, 1, 2).to(pixels.device)
            given["image"] = replace(images, tensors={"pixels": shown})
    part = task.collate([task.item(row, None) for row in rows], owner.tolist())
    batch.targets[name] = {key: tensor.to(pixels.device) for key, tensor in part.items()}
    outputs = model(batch, [name])[name]
    pooled = model.image.encode(pixels).pooled.float()
    return task.predictions(outputs, functional.normalize(pooled, dim=-1)[of_row])
