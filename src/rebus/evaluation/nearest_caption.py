"""The captions of the nearest training images: what a model that writes has to beat.

Whoever finds the most alike image and repeats its caption has learned no word. Devlin et al. (2015), "Exploring
Nearest Neighbor Approaches for Image Captioning". Letters: N images, D numbers of an image's vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rebus.errors import RebusError
from rebus.evaluation.rows import Rows
from rebus.inference.predictor import Predictor
from rebus.tasks import Prediction, Task
from rebus.tasks.base import Values
from rebus.tasks.batch_builder import group_rows
from rebus.tasks.cells import missing

MOST = 5000  # training images that are looked at
NAME = "caption of the nearest training image"


def applies(task: Task, predictor: Predictor) -> bool:
    """Whether there is such a baseline: a captioning task and a model with an image tower."""
    return task.asked_with == "image" and predictor.model.image is not None


@torch.inference_mode()
def image_vectors(predictor: Predictor, source: Rows, rows: Sequence[int]) -> NDArray[np.float32]:
    """(N, D) what the model's image tower says of each row's image, of length one; zeros where it has none."""
    model, side = predictor.model, predictor.recipe.image.size
    was_training = model.training
    model.eval()
    items = []
    try:
        for start in range(0, len(rows), predictor.batch_size):
            pixels = [source.image(row) for row in rows[start : start + predictor.batch_size]]
            blank = np.zeros((side, side, 3), dtype=np.uint8)
            array = np.stack([blank if pixel is None else pixel for pixel in pixels])
            batch = torch.from_numpy(array).permute(0, 3, 1, 2).to(model.device)
            pooled = model.image.encode(batch).pooled.float()
            pooled = torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()
            items.append(pooled * np.array([[pixel is not None] for pixel in pixels], dtype=np.float32))
    finally:
        model.train(was_training)
    return np.concatenate(items) if items else np.zeros((0, 1), dtype=np.float32)


def nearest_captions(
    predictor: Predictor, source: Rows, rows: Sequence[int], known: Rows, training: Sequence[int]
) -> list[Prediction]:
    """For each row the first caption of the training image whose vector is nearest, by the cosine.

    Args:
        predictor: whose image tower looks.
        source: the table that holds ``rows``.
        rows: what is asked.
        known: the table that holds ``training``.
        training: rows with images and captions, ``MOST`` images of them looked at, spread over all.

    Returns:
        A prediction a row; none at all where no training image can be read.
    """
    task = source.task
    shown = [group[0] for group in group_rows(training, known.values["image"])]
    readable = []
    for row in shown[:: -(-len(shown) // MOST) or 1]:
        try:
            if known.image(row) is not None and caption_of(task, known.values, row):
                readable.append(row)
        except RebusError:
            continue  # told by the check
    if not readable:
        return []
    memory = image_vectors(predictor, known, readable)
    unique = [group[0] for group in group_rows(rows, source.values["image"])]
    vectors = image_vectors(predictor, source, unique)
    best = (vectors @ memory.T).argmax(axis=1)
    captions = [caption_of(task, known.values, readable[at]) for at in best]
    entries = {key(source.values, row): caption for row, caption in zip(unique, captions, strict=True)}
    return [Prediction(entries[key(source.values, row)]) for row in rows]


def key(values: Values, row: int) -> Any:
    """What rows that share an image share."""
    value = values["image"][row]
    return ("row", row) if missing(value) else value


def caption_of(task: Task, values: Values, row: int) -> str:
    """The first caption of a row, or nothing."""
    return next(iter(task.targets(values, row)), "")
