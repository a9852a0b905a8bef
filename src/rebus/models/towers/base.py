"""What a tower is: items of one modality in, Features out. It knows no other modality, no task and no file.

Letters: N items, L tokens, D width, S side of an image, G x G the grid of its tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isqrt
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from rebus import recipe
from rebus.errors import RecipeError
from rebus.models.features import Features
from rebus.registry import Registry


class Tower(nn.Module):
    """The base of all towers, built as ``TOWERS.get(kind)(settings, **context)``.

    Args:
        settings: the recipe's.
        context: what the modality knows of its items; each tower ignores what it has no use for.

    Attributes:
        modality: what it reads.
        num_tokens: L, where it is the same for all items; 0: it is not.
        grid: G, where the tokens are those of a square; 0: they are not.
        side: of the square that ``encode`` averages a grid to; 0: it leaves it as it is.
        follows: whether explanations can follow it: nothing but attentions moves anything from token to token.
        pooling: what ``pooled`` is of: the ``mean``; the ``first`` token, before the others; the ``last`` real one; the
            ``end``, the last place; a ``probe``, an attention of its own.
        own_settings: the class of its settings; a modality's settings of another class are read as this one.
        defaults: settings that suit it, where the recipe says nothing; of towers beside image and text.
    """

    modality: ClassVar[str]
    own_settings: ClassVar[type[recipe.Section]] = recipe.Tower
    defaults: ClassVar[Mapping[str, Any]] = {}
    num_tokens: int = 0
    grid: int = 0
    side: int = 0
    follows: bool = False
    pooling: str = "mean"

    def __init__(self, settings: Any, **context: Any) -> None:
        super().__init__()
        self.settings, self.width = settings, settings.width

    @property
    def length(self) -> int:
        """Tokens that ``encode`` gives of an item; 1 where items differ."""
        return (self.side or self.grid) ** 2 or self.num_tokens or 1

    def fitted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of a checkpoint of this kind of tower, as this one can take them over."""
        return state

    def encode(self, **tensors: Tensor) -> Features:
        """Features of N items as a batch holds them: ``forward`` of the tensors that the modality collates."""
        features: Features = self(**tensors)
        return features


class TextTower(Tower):
    """The base of text towers: ``forward`` takes ids (N, L) long, their mask (N, L) bool and segments or None.

    Args:
        settings: the recipe's.
        vocab_size: V, rows of the embeddings.
        context: ignored.

    Attributes:
        writes: whether it is the decoder that writes text too.
        fills_gaps: whether it reads both ways and has word embeddings ``words``, to guess hidden words with.
        options: the class of the recipe's ``model.text.options``.
        reader: the text reader it needs; None: none.
        takes_reader: whether a text reader may stand before it.
    """

    modality = "text"
    settings: recipe.Tower
    writes = False
    fills_gaps = False
    options: ClassVar[type[recipe.Section]] = recipe.Section
    reader: ClassVar[str | None] = None
    takes_reader: ClassVar[bool] = False

    def __init__(self, settings: recipe.Tower, vocab_size: int, **context: Any) -> None:
        super().__init__(settings)
        self.vocab_size = vocab_size

    @property
    def embedding(self) -> nn.Module:
        """What turns ids into vectors: the first of the tower's modules."""
        return next(self.children())

    def shares(self, input_ids: Tensor, mask: Tensor) -> Tensor | None:
        """(N, L): how much each token counts in ``pooled``, where the tower learns that; None: it does not."""
        return None


class ImageTower(Tower):
    """The base of image towers: ``forward`` takes normalised pixels (N, 3, S, S) and gives G x G tokens, row by row.

    Args:
        settings: the recipe's.
        size: S, a multiple of the patch.
        mean: of the three channels, 0 to 1, which ``normalise`` takes off.
        std: of the three channels, which it divides by.
        context: ignored.

    Attributes:
        drops_patches: whether ``forward`` also takes the places of the patches to keep.
        before: tokens inside the tower that stand before those of the grid.
        maps: name of the module that gives the last feature maps (N, K, G, G); none: there are none.

    Raises:
        RecipeError: the size is not a multiple of the patch.
    """

    modality = "image"
    drops_patches = False
    before = 0
    maps = ""
    settings: recipe.Tower
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        settings: recipe.Tower,
        *,
        size: int,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        **context: Any,
    ) -> None:
        super().__init__(settings)
        patch = settings.patch
        if size % patch or size < patch:
            do = f"use {max(patch, round(size / patch) * patch)}, or another patch"
            raise RecipeError("setting 'image.size'", f"a multiple of model.image.patch ({patch})", str(size), do)
        self.size, self.grid = size, size // patch
        self.num_tokens = self.grid**2
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def normalise(self, pixels: Tensor) -> Tensor:
        """(N, 3, S, S) of 0 to 255 -> float, by mean and spread, channels last in memory."""
        normal = (pixels.to(self.mean.dtype) / 255.0 - self.mean) / self.std
        return normal.contiguous(memory_format=torch.channels_last)

    def encode(self, pixels: Tensor) -> Features:  # type: ignore[override]
        """(N, 3, S, S) of 0 to 255 -> Features, of as many tokens as the recipe wants."""
        return self.reduced(self(self.normalise(pixels)))

    def reduced(self, features: Features) -> Features:
        """The tower's own Features in as many tokens as the recipe wants; ``pooled`` stays."""
        if not self.side:
            return features
        tokens = averaged(features.tokens, self.side)
        return Features(tokens, features.mask[:, :1].expand(-1, tokens.shape[1]), features.pooled)


def averaged(tokens: Tensor, side: int) -> Tensor:
    """(N, G x G, D) -> (N, S x S, D), the means of neighbours; where S does not divide G, they overlap."""
    grid = isqrt(tokens.shape[1])
    if grid == side:
        return tokens
    square = tokens.transpose(1, 2).reshape(*tokens.shape[::2], grid, grid)
    return functional.adaptive_avg_pool2d(square, side).flatten(2).transpose(1, 2)


def grid_features(x: Tensor) -> Features:
    """(N, D, G, G) -> Features of G x G tokens, row by row; pooled is their mean."""
    return all_real(x.flatten(2).transpose(1, 2))


def all_real(tokens: Tensor, pooled: Tensor | None = None) -> Features:
    """Features of tokens (N, L, D) none of which is padding; ``pooled``: None: their mean."""
    mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    return Features(tokens, mask, tokens.mean(1) if pooled is None else pooled)


TOWERS: Registry[Any] = Registry("tower", ("modality",))


def tower_kinds(modality: str) -> list[str]:
    """The registered kinds of tower that read a modality."""
    return [name for name in TOWERS.names() if TOWERS.get(name).modality == modality]
