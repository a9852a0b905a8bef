"""What a predictor knows as vectors: texts and images, in one space where the model was trained to ``retrieve``.

Letters: N texts or images, S side of an image, D numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rebus.errors import DataError
from rebus.models.vlm import VisionLanguageModel
from rebus.tasks.cells import missing, pad_texts
from rebus.tasks.session import Session

Vectors = NDArray[np.float32]


def shared_space(model: VisionLanguageModel) -> bool:
    """Whether images and texts are vectors of one space, so that a product of the two means something."""
    return model.pairs is not None


def check_space(model: VisionLanguageModel) -> None:
    """Raise DataError unless images and texts share a space."""
    if not shared_space(model):
        do = "train one on images with texts: rebus train TABLE --task retrieve"
        raise DataError("the model", "images and texts as vectors of one space", "a model without", do)


@torch.inference_mode()
def embed_texts(session: Session, texts: Sequence[str]) -> Vectors:
    """(N, D) vectors of length one; the cosine of two texts is their product.

    Raises:
        DataError: the model reads no text by itself.
    """
    model, processor = session.model, session.processor
    if model.text is None and model.decoder is None:
        raise DataError("the model", "a text tower", "none", "train one on text: rebus train pairs.csv")
    result: list[Tensor] = []
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))  # texts of like length together
    for start in range(0, len(texts), session.batch_size):
        read = [
            np.asarray(processor.read(texts[place]), dtype=np.int64)
            for place in order[start : start + session.batch_size]
        ]
        ids, mask = pad_texts(read)
        part = {"text_ids": ids.to(model.device), "text_mask": mask.to(model.device)}
        result.append(model.text_vectors(part).cpu())
    if not result:
        return np.zeros((0, 0), dtype=np.float32)
    vectors = torch.cat(result)
    back = torch.empty_like(vectors)
    back[torch.tensor(order)] = vectors
    table: Vectors = back.numpy()
    return table


@torch.inference_mode()
def embed_images(session: Session, images: Iterable[Any], root: str | Path = ".") -> Vectors:
    """(N, D) vectors of length one; in the space of the texts where the model was trained to ``retrieve``, else the
    image tower's own.

    Args:
        session: the model.
        images: one after the other, taken ``batch_size`` at a time: paths, bytes or (H, W, 3) arrays of uint8; an
            array (N, S, S, 3) is N of these.
        root: folder that relative paths start from.

    Raises:
        DataError: the model sees no images, or an array is not of that shape.
        ImageError: an image cannot be read; it is named by its place.
    """
    model = session.model
    if model.image is None:
        do = "train one on images: rebus train TABLE --task retrieve"
        raise DataError("the model", "an image tower", "none", do)
    if isinstance(images, (str, bytes, Path)):
        raise DataError("the images", "several images", "one", "put it in a list")
    items = [pool_images(model, some) for some in _portions(session, images, Path(root))]
    if not items:
        return np.zeros((0, 0), dtype=np.float32)
    table: Vectors = torch.cat(items).numpy()
    return table


def pool_images(model: VisionLanguageModel, pixels: NDArray[np.uint8]) -> Tensor:
    """(N, S, S, 3) -> (N, D) of length one, on the CPU."""
    image = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(model.device)
    pooled = model.image.encode(image).pooled
    return model.item_vectors("image", pooled).cpu()


def _portions(session: Session, images: Iterable[Any], root: Path) -> Iterator[NDArray[np.uint8]]:
    coming, seen = iter(images), 0
    while some := list(islice(coming, session.batch_size)):
        opened = []
        for place, value in enumerate(some, seen + 1):
            if not isinstance(value, np.ndarray) and missing(value):
                raise DataError(f"image {place}", "a path, bytes or an array", "nothing", "leave it out")
            opened.append(session.open_image(value, root, f"image {place}"))
        seen += len(some)
        yield np.stack(opened)
