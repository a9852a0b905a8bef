"""How many tokens an image becomes on its way from the tower to the text, and what makes them so few.

A tower gives a grid of tokens; the recipe may ask for fewer (``model.image.tokens``), made by averaging neighbours,
or, where image tokens stand inside the text, by laying squares of neighbours end to end (pixel shuffle).
Letters: B images, G x G the tower's grid, S the side it is averaged to, F the shuffle's factor, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Literal

import torch
from torch import Tensor

from rebus import recipe
from rebus.errors import RecipeError
from rebus.models.towers import TOWERS

INLINE = "image"  # the modality whose tokens may stand inside a text
Projector = Literal["linear", "shuffle", "mlp"]


@dataclass(frozen=True)
class ImagePlan:
    """What becomes of a tower's tokens.

    Attributes:
        given: tokens that the tower gives.
        side: S, side of the square that they are averaged to; None: they are left as they are.
        projector: how they become the text's, where they stand inside it; None: they do not.
        factor: F, of the pixel shuffle; 1: none.
    """

    given: int
    side: int | None = None
    projector: Projector | None = None
    factor: int = 1

    @property
    def pooled(self) -> int:
        """Tokens after averaging."""
        return self.given if self.side is None else self.side**2

    @property
    def inside(self) -> int:
        """Tokens inside the text."""
        return self.pooled // self.factor**2


def pixel_shuffle(tokens: Tensor, factor: int) -> Tensor:
    """(B, G x G, D) -> (B, (G / F)^2, F^2 D): F x F neighbours end to end, row by row, as Idefics3 orders them.

    Laurençon et al. (2024), "Building and better understanding vision-language models"; the step is the reverse of
    Shi et al. (2016), "Real-Time Single Image and Video Super-Resolution".
    """
    items, count, width = tokens.shape
    small = isqrt(count) // factor
    squares = tokens.reshape(items, small, factor, small, factor, width)
    return squares.transpose(2, 3).reshape(items, small * small, factor * factor * width)


def plan_of(settings: recipe.Model, image: recipe.Image) -> ImagePlan:
    """What becomes of the tokens of a recipe's image tower.

    Raises:
        RecipeError: no square number of tokens, more than the tower has, or a grid that does not divide.
    """
    with torch.device("meta"):
        tower = TOWERS.get(settings.image.kind)(settings.image, size=image.size)
    return plan_for(settings.fusion, settings.image.tokens, tower.num_tokens)


def plan_for(fusion: recipe.Fusion | None, wanted: int | None, given: int) -> ImagePlan:
    """The plan for a tower that gives so many tokens. Raises as ``plan_of``.

    Args:
        fusion: the recipe's; None: these tokens never stand inside a text.
        wanted: tokens that the recipe asks for; None: as the tower has.
        given: tokens that it has.
    """
    grid = isqrt(given) if isqrt(given) ** 2 == given else None
    if wanted is not None:
        _check_wanted(wanted, given, grid)
    side = None if wanted is None or wanted == given else isqrt(wanted)
    if fusion is None or fusion.kind != "unified" or fusion.layout != "inline":
        return ImagePlan(given, side)
    projector = fusion.projector
    if projector in ("linear", "mlp"):
        return ImagePlan(given, side, projector)
    factor = fusion.shuffle if side is None else _quotient(grid, side)
    if wanted == given:
        factor = 1
    if grid is not None and factor is not None and grid % factor == 0:
        return ImagePlan(given, None, "shuffle" if factor > 1 else "linear", factor)
    if projector == "auto":
        return ImagePlan(given, side, "linear")
    shape = f"{grid} x {grid} tokens" if grid is not None else f"{given} tokens, which are no square"
    if wanted is None:
        do = f"set model.fusion.shuffle to a divisor of {grid or 'the grid'}, or model.fusion.projector=linear"
        raise RecipeError("model.fusion.shuffle", f"a divisor of the tower's grid ({shape})", str(factor), do)
    do = "ask for a number whose root divides the grid's side, or set model.fusion.projector=linear to average"
    raise RecipeError("model.image.tokens", f"a square that a shuffle makes of {shape}", str(wanted), do)


def _quotient(grid: int | None, side: int) -> int | None:
    return grid // side if grid is not None and grid % side == 0 else None


def _check_wanted(wanted: int, given: int, grid: int | None) -> None:
    where = "model.image.tokens"
    if wanted == given:
        return
    if isqrt(wanted) ** 2 != wanted:
        near = sorted({max(1, isqrt(wanted)) ** 2, (isqrt(wanted) + 1) ** 2})
        raise RecipeError(where, "a square number", str(wanted), f"use {' or '.join(map(str, near))}")
    if grid is None:
        do = "leave model.image.tokens out, or choose another image tower"
        raise RecipeError(where, "a tower whose tokens are a square grid", f"one that gives {given} tokens", do)
    if wanted > given:
        do = f"ask for at most {given}, or make images larger (image.size) or patches smaller (model.image.patch)"
        raise RecipeError(where, f"at most the {given} tokens that the tower gives", str(wanted), do)
