"""Rotary positions in the convention of Llama: the two halves of a head are the two coordinates that turn.

Source: Su et al. (2021), "RoFormer: Enhanced Transformer with Rotary Position Embedding".
Letters: B items, H heads, L tokens, K size of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rebus.errors import RecipeError

Rotary = tuple[Tensor, Tensor]


def rotary_tables(positions: Tensor, head_dim: int, theta: float = 10000.0) -> Rotary:
    """Cosines and sines for the given positions.

    Args:
        positions: (B, L) or (1, L) whole numbers, in any order: blocks of a packed row may each start again at 0.
        head_dim: K, even.
        theta: the longest wave is about ``2 pi theta`` positions long.

    Returns:
        Two tensors (B, 1, L, K/2), float32: one head's angles serve all heads.

    Raises:
        RecipeError: the head size is odd.
    """
    if head_dim % 2:
        raise RecipeError("rotary positions", "an even head size", str(head_dim), "change the width or the heads")
    steps = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device)
    frequencies = 1.0 / theta ** (steps / head_dim)  # (K/2,)
    # outside autocast: bfloat16 angles would be wrong by whole turns at far positions
    angles = positions.float()[:, None, :, None] * frequencies  # (B, 1, L, K/2)
    return angles.cos(), angles.sin()


def apply_rotary(x: Tensor, rotary: Rotary) -> Tensor:
    """Turn each pair (x[i], x[i + K/2]) by its position's angle: (B, H, L, K) -> (B, H, L, K), type kept."""
    cos, sin = rotary
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)
