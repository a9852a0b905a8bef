"""Images: decoded, fitted to the square, changed at random and mixed in training.

Letters: N images, S side of the square.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rebus.data.frame import Frame, frame_of
from rebus.data.mixing import mix_of, mixed, mixes
from rebus.data.transforms import augment, fit_image, fitted_image
from rebus.errors import DataError
from rebus.models.modalities.base import MODALITIES, Item, Key, Modality
from rebus.recipe import Recipe


@MODALITIES.register("image")
class ImageModality(Modality):
    """``pixels`` (N, 3, S, S) uint8."""

    name = "image"
    kinds = ("image",)
    towers = ("convnet", "efficientnet", "resnet", "vit")

    def context(self) -> dict[str, Any]:
        """The side of the square, and the channels' mean and spread, 0 to 1."""
        image = self.settings.image
        return {"size": image.size, "mean": image.mean, "std": image.std}

    def item(self, cells: Mapping[str, Any], root: Path, where: str) -> Item | None:
        """An image: a path, bytes, or an array (H, W, 3) of uint8. Raises DataError, ImageError."""
        return {"pixels": open_image(cells[self.columns[0]], root, where, self.settings)}

    @property
    def changes(self) -> bool:
        """Whether any random change is on."""
        return any(value for _, value in self.settings.image.augment)

    def augment(self, item: Item, key: Key, view: int = 0) -> Item:
        """Random changes of ``image.augment``; see ``data.transforms.augment``."""
        if not self.changes:
            return item
        return {"pixels": augment(item["pixels"], self.settings.image.augment, *key, view)}

    def frame(self, key: Key) -> Frame | None:
        """Where the changed image's places were before."""
        return frame_of(self.settings.image.augment, *key)

    @property
    def mixes(self) -> bool:
        """Whether each image of a batch is mixed with that of another example: mixup, cutmix."""
        return mixes(self.settings.image.augment)

    def share(self, key: Key) -> float:
        """How much of a mixed image is its own, 0 to 1."""
        return mix_of(self.settings.image.augment, *key, self.settings.image.size).share

    def mix(self, item: Item, other: Item, key: Key) -> Item:
        """The image with that of another example mixed into it."""
        how = mix_of(self.settings.image.augment, *key, self.settings.image.size)
        return {"pixels": mixed(item["pixels"], other["pixels"], how)}

    def collate(self, items: Sequence[Item]) -> dict[str, Tensor]:
        """``pixels`` (N, 3, S, S), channels last in memory."""
        return {"pixels": torch.from_numpy(np.stack([item["pixels"] for item in items])).permute(0, 3, 1, 2)}


def open_image(value: Any, root: Path, where: str, settings: Recipe) -> NDArray[np.uint8]:
    """A path, bytes or (H, W, 3) uint8 array as the square (S, S, 3) that the model sees.

    Raises:
        DataError: an array of another shape or type. ImageError: the image cannot be read.
    """
    data, image = settings.data, settings.image
    if isinstance(value, np.ndarray):
        if value.ndim != 3 or value.shape[2] != 3 or value.dtype != np.uint8:
            facts = {"shape": str(value.shape), "type": str(value.dtype)}
            raise DataError.of("problem.image_array", where=where, **facts)
        return fit_image(value, image.size, image.fit, data.background, image.resample, image.edge)
    return fitted_image(
        str(value) if isinstance(value, Path) else value,
        root,
        size=image.size,
        fit=image.fit,
        background=data.background,
        pixel_budget=data.pixel_budget,
        where=where,
        resample=image.resample,
        edge=image.edge,
        jpeg=data.jpeg,
        levels=data.levels,
    )
