"""Rotary positions in the convention of Llama: the two halves of a head are the two coordinates that turn.

Source: Su et al. (2021), "RoFormer: Enhanced Transformer with Rotary Position Embedding".
Letters: B items, H heads, L tokens, K size of a head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from rebus.errors import RecipeError

Rotary = tuple[Tensor, Tensor]
Scaling = tuple[tuple[str, float | str], ...]  # a configuration's rope_scaling, ordered, so that it can be a key

_NEEDED = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}


def rope_scaling(settings: Mapping[str, Any] | None) -> Scaling:
    """A ``rope_scaling`` as ``rotary_tables`` takes it: its kind under ``rope_type``, and the numbers that it needs.

    Raises:
        RecipeError: the kind is not known, or a number is missing.
    """
    if not settings:
        return ()
    kind = str(settings.get("rope_type", settings.get("type", "default")))
    if kind not in _NEEDED:
        do = "this kind is not supported; use a checkpoint without it"
        raise RecipeError("rope_scaling, 'rope_type'", " or ".join(_NEEDED), repr(kind), do)
    for key in _NEEDED[kind]:
        if not isinstance(settings.get(key), int | float) or float(settings[key]) <= 0:
            raise RecipeError(f"rope_scaling, '{key}'", "a number above 0", repr(settings.get(key)), "set it")
    if kind == "default":
        return ()
    return (("rope_type", kind), *((key, float(settings[key])) for key in _NEEDED[kind]))


def rotary_tables(positions: Tensor, head_dim: int, theta: float = 10000.0, scaling: Scaling = ()) -> Rotary:
    """Cosines and sines for the given positions.

    Args:
        positions: (B, L) or (1, L) whole numbers, in any order: blocks of a packed row may each start again at 0.
        head_dim: K, even.
        theta: the longest wave is about ``2 pi theta`` positions long.
        scaling: from ``rope_scaling``.

    Returns:
        Two tensors (B, 1, L, K/2), float32: one head's angles serve all heads.

    Raises:
        RecipeError: the head size is odd.
    """
    if head_dim % 2:
        raise RecipeError("rotary positions", "an even head size", str(head_dim), "change the width or the heads")
    frequencies = _frequencies(head_dim, theta, scaling, positions.device)
    # outside autocast: bfloat16 angles would be wrong by whole turns at far positions
    angles = positions.float()[:, None, :, None] * frequencies  # (B, 1, L, K/2)
    return angles.cos(), angles.sin()


@lru_cache(maxsize=32)
def _frequencies(head_dim: int, theta: float, scaling: Scaling, device: torch.device) -> Tensor:
    """(K/2,) radians a position, the fastest first."""
    with torch.inference_mode(False):
        steps = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device)
        plain: Tensor = 1.0 / theta ** (steps / head_dim)
        return _scaled(plain, dict(scaling))


def _scaled(plain: Tensor, scaling: dict[str, Any]) -> Tensor:
    """Slower waves for texts longer than those of the first training.

    ``linear``: Chen et al. (2023), "Extending Context Window of Large Language Models via Positional Interpolation".
    ``llama3``: waves much shorter than the first context stay, much longer ones are stretched by ``factor``, those
    between are blended; Grattafiori et al. (2024), "The Llama 3 Herd of Models", and its published code.
    """
    if not scaling:
        return plain
    factor: float = scaling["factor"]
    if scaling["rope_type"] == "linear":
        return plain / factor
    context = scaling["original_max_position_embeddings"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    length = 2 * math.pi / plain  # of each wave, in positions
    share = (context / length - low) / (high - low)
    blended = (1 - share) * plain / factor + share * plain
    long, short = length > context / low, length < context / high
    scaled: Tensor = torch.where(long, plain / factor, torch.where(short, plain, blended))
    return scaled


def apply_rotary(x: Tensor, rotary: Rotary) -> Tensor:
    """Turn each pair (x[i], x[i + K/2]) by its position's angle: (B, H, L, K) -> (B, H, L, K), type kept."""
    cos, sin = rotary
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)
