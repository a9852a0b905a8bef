"""What a predictor does for tasks that read: long texts in windows, texts as vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rebus.errors import DataError
from rebus.tasks import Prediction
from rebus.tasks.base import Values
from rebus.tasks.cells import pad_texts
from rebus.tasks.reading import WordsTask

if TYPE_CHECKING:
    from rebus.run.predictor import Predictor


def read_words(
    predictor: Predictor, task: WordsTask, values: Values, rows: Sequence[int], batch: dict[str, Any], owner: Tensor
) -> list[Prediction]:
    """A prediction a row; a long text is several windows, and ``batch_size`` of them go through the model at a time."""
    windows = [task.windows(values, row, predictor.codec, learn=False) for row in rows]
    flat = [(place, window) for place, several in enumerate(windows) for window in several]
    outputs: list[list[NDArray[np.float32]]] = [[] for _ in rows]
    device = predictor.model.mean.device
    for start in range(0, len(flat), predictor.batch_size):
        portion = flat[start : start + predictor.batch_size]
        part = task.collate([window for _, window in portion], [int(owner[place]) for place, _ in portion])
        batch["tasks"][task.name] = {name: tensor.to(device) for name, tensor in part.items()}
        told = predictor.model(batch, [task.name])[task.name].float().cpu().numpy()  # (R, L, C)
        for (place, _), numbers in zip(portion, told, strict=True):
            outputs[place].append(numbers)
    return [task.predict_row(values, row, windows[i], outputs[i]) for i, row in enumerate(rows)]


def plainly(value: Any) -> str:
    """A prediction as one line: labels with commas, spans as ``Anna (person), Paris (place)``."""
    if not isinstance(value, list):
        return str(value)
    parts = [
        f"{one['text']} ({one['label']})" if isinstance(one, dict) and "text" in one else str(one) for one in value
    ]
    return ", ".join(parts)


@torch.inference_mode()
def embed(predictor: Predictor, texts: Sequence[str]) -> NDArray[np.float32]:
    """(N, D) vectors of length one; the cosine of two texts is their product.

    Raises:
        DataError: the model reads no text by itself.
    """
    model, codec = predictor.model, predictor.codec
    if model.text is None and model.decoder is None:
        raise DataError("the model", "a text tower", "none", "train one on text: rebus train pairs.csv")
    was_training = model.training
    model.eval()
    found: list[Tensor] = []
    try:
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))  # texts of like length together
        for start in range(0, len(texts), predictor.batch_size):
            read = [
                np.asarray(codec.read(texts[place]), dtype=np.int64)
                for place in order[start : start + predictor.batch_size]
            ]
            ids, mask = pad_texts(read)
            part = {"text_ids": ids.to(model.mean.device), "text_mask": mask.to(model.mean.device)}
            alone = model.fusion is None or "text" not in model.fusion.modalities
            features = model.read(part) if alone else model.fused(None, part)
            assert features is not None  # noqa: S101 - there is a text tower
            found.append(functional.normalize(features.pooled.float(), dim=-1).cpu())
    finally:
        model.train(was_training)
    if not found:
        return np.zeros((0, 0), dtype=np.float32)
    vectors = torch.cat(found)
    back = torch.empty_like(vectors)
    back[torch.tensor(order)] = vectors
    table: NDArray[np.float32] = back.numpy()
    return table
