"""Does a map depend on what the model learned? Weights are randomised from the top down, and the map is drawn again.

A map that stays the same shows the image's edges, not the model. Source: Adebayo, Gilmer, Muelly, Goodfellow, Hardt
and Kim, "Sanity Checks for Saliency Maps", 2018, the cascading randomisation.
It knows no method and no task.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

SAME = 0.5  # a rank correlation above this between a learned and a random model's maps is a warning
STAGES = ("heads and decoder", "fusion", "text tower", "image tower")  # from the top down
_PARTS = {
    "heads": 0, "decoder": 0, "naming": 0, "fusion": 1, "inline": 1, "places": 1, "text": 2, "image": 3,
}  # fmt: skip


@torch.no_grad()
def cascade(model: nn.Module, seed: int = 0) -> Iterator[str]:
    """Randomise the model in place, one stage after another, from what is next to the answer down to the pixels.

    Each weight is drawn anew from a normal distribution of its tensor's own mean and spread, so that sizes stay what
    they were and only what was learned is lost. Tensors of one number stay.

    Args:
        model: a copy of the model; at the end nothing of it is left.
        seed: of the draws.

    Yields:
        The name of each stage that has weights, after it was randomised.
    """
    rng = torch.Generator().manual_seed(seed)
    for stage, parameters in _by_stage(model).items():
        for parameter in parameters:
            if parameter.numel() > 1:
                drawn = torch.randn(parameter.shape, generator=rng)
                wide = parameter.detach().float().cpu()
                parameter.copy_(drawn * wide.std() + wide.mean())
        yield STAGES[stage]


def stages(model: nn.Module) -> list[str]:
    """The stages of ``cascade`` that a model has weights for."""
    return [STAGES[stage] for stage in _by_stage(model)]


def _by_stage(model: nn.Module) -> dict[int, list[nn.Parameter]]:
    result: dict[int, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        result.setdefault(_PARTS.get(name.split(".")[0], 0), []).append(parameter)
    return dict(sorted(result.items()))


def rank_correlation(array_like: ArrayLike, other: ArrayLike) -> float:
    """Spearman's rank correlation of two maps of one shape; equal values share the mean of their ranks.

    A map that is all alike has no order: two such maps are the same (1), one beside another map says nothing of it (0).
    """
    first, second = np.asarray(array_like, dtype=np.float64).ravel(), np.asarray(other, dtype=np.float64).ravel()
    assert first.shape == second.shape, (first.shape, second.shape)  # noqa: S101 - maps of one method and one image
    a, b = _ranks(first), _ranks(second)
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    if size == 0.0:
        return float(not a.any() and not b.any())
    return float(a @ b) / size


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, ties at their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray(((ends - counts + ends - 1) / 2)[inverse.ravel()])
