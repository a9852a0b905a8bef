"""Features of a frozen image tower, computed once an image and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from rebus import recipe
from rebus.data.store import ImageStore
from rebus.loop.frozen import FeatureCache
from rebus.models.vlm import VisionLanguageModel

Features = Callable[[Sequence[int]], tuple[Tensor, ...]]


def frozen_features(
    model: VisionLanguageModel,
    settings: recipe.Recipe,
    groups: list[list[int]],
    store: ImageStore | None,
    *,
    still: bool | None = None,
) -> Features | None:
    """Group numbers -> (tokens (B, P, D), pooled (B, D)) where the tower is frozen and images are not changed.

    Args:
        model: its image tower is put in evaluation mode by the first features that are asked for.
        settings: the recipe.
        groups: row numbers, the rows of one image together.
        store: decoded images by row.
        still: whether the tower is frozen for a while at least; None: as the recipe says.

    Returns:
        None where features change from step to step, or there are no images.
    """
    changes = any(value for _, value in settings.image.augment)
    frozen = settings.model.image.frozen if still is None else still
    if store is None or model.image is None or not frozen or changes:
        return None

    def compute(numbers: Sequence[int]) -> tuple[Tensor, ...]:
        if model.image.training:  # asked for before training: dropout off, statistics as they are
            model.image.eval()
        side = settings.image.size
        pixels = np.zeros((len(numbers), side, side, 3), dtype=np.uint8)
        for place, number in enumerate(numbers):
            row = groups[number][0]
            if store.key(row) is not None:
                pixels[place] = store.get(row)
        image = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(model.device)
        seen = model.image.encode(image)
        return seen.tokens.float().cpu(), seen.pooled.float().cpu()

    return FeatureCache(compute, len(groups), limit_mb=settings.data.cache_mb).get
