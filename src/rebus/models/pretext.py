"""Heads that teach an image tower without labels; what they learn themselves is dropped when the tower moves on.

Sources: Chen et al. (2020), "A Simple Framework for Contrastive Learning of Visual Representations" (SimCLR); He et al.
(2022), "Masked Autoencoders Are Scalable Vision Learners" (MAE); Xie et al. (2022), "SimMIM: a Simple Framework for
Masked Image Modeling". They know no loop and no augmentation.

Letters: B images of a batch, R items, S side of an image, T = G x G tokens of the tower, K of them visible, H
hidden, P pixels of a token's side, D width, E numbers of a projection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rebus.errors import RecipeError
from rebus.models.batch import Batch
from rebus.models.features import Features
from rebus.nn.block import EncoderLayer, start_weights
from rebus.nn.norms import RMSNorm

PROJECTION = 128  # E, as in SimCLR
HIDE_DROPPED, HIDE_COVERED = 0.75, 0.6  # shares of MAE and SimMIM
DECODER_LAYERS, DECODER_HEAD = 2, 16
Normalise = Callable[[Tensor], Tensor]


def make_pretext(tower: Any, method: str, *, size: int, hide: float) -> nn.Module:
    """The head for a method.

    Args:
        tower: the image tower.
        method: ``simclr`` or ``masked``.
        size: S.
        hide: share of patches hidden; 0: the method's own.

    Raises:
        RecipeError: the tower's tokens do not divide the image into equal squares.
    """
    if method == "simclr":
        return ContrastHead(tower.width)
    return HiddenPatches(tower, size=size, hide=hide)


class ContrastHead(nn.Module):
    """Two views of each image as vectors of length one: the tower, then two layers (SimCLR's projection head).

    Batch norm is left out, so that a vector depends on its own image only.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Sequential(
            RMSNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, PROJECTION, bias=False)
        )
        start_weights(self)

    def forward(self, tower: nn.Module, normalise: Normalise, batch: Batch, part: dict[str, Tensor]) -> Tensor:
        """(2, R, E): both views of the R items' images, which the batch holds as ``inputs`` and ``views``."""
        both = batch.inputs["image"], batch.views["image"]
        pixels = torch.cat([one.tensors["pixels"][one.first(part["owner"])] for one in both])
        seen: Features = tower(normalise(pixels))
        found = functional.normalize(self.project(seen.pooled).float(), dim=-1)
        return found.view(2, len(part["owner"]), PROJECTION)


class HiddenPatches(nn.Module):
    """Guess the pixels of hidden patches from the others.

    A tower that can leave patches out (``drops_patches``) encodes the visible ones only, and a light decoder of its
    own fills the gaps, as MAE does. Any other tower sees a learned colour on hidden patches, and one linear layer
    guesses from its tokens, as SimMIM does. Either way the target is each patch's pixels at mean 0 and variance 1, and
    the loss is squared error: MAE's choice, which SimMIM's own (absolute error of plain pixels) is not.

    Args:
        tower: the image tower.
        size: S.
        hide: share of patches hidden; 0: 0.75 where patches are left out, else 0.6.

    Raises:
        RecipeError: the tower's tokens do not divide the image into equal squares.
    """

    def __init__(self, tower: Any, *, size: int, hide: float) -> None:
        super().__init__()
        self.count = int(tower.num_tokens)
        self.grid = round(self.count**0.5)
        self.side = size // self.grid
        if self.grid**2 != self.count or self.grid * self.side != size:
            expected = "a tower whose tokens divide the image into equal squares, for method=masked"
            found = f"{self.count} tokens of an image of {size} pixels a side"
            raise RecipeError("model.image", expected, found, "set image.size to a multiple of model.image.patch")
        self.drops = bool(getattr(tower, "drops_patches", False))
        share = hide or (HIDE_DROPPED if self.drops else HIDE_COVERED)
        self.visible = min(self.count - 1, max(1, round((1 - share) * self.count)))
        if self.count < 2:
            raise RecipeError("model.image.patch", "at least two patches, to hide one", "1", "choose a smaller patch")
        width, pixels = int(tower.width), 3 * self.side**2
        if self.drops:
            inner = max(4, width // (2 * DECODER_HEAD)) * DECODER_HEAD
            self.enter = nn.Linear(width, inner)
            self.gap = nn.Parameter(torch.randn(inner) * 0.02)
            self.position = nn.Parameter(torch.randn(self.count, inner) * 0.02)
            self.layers = nn.ModuleList(
                EncoderLayer(inner, inner // DECODER_HEAD, 4 * inner) for _ in range(DECODER_LAYERS)
            )
            self.leave = nn.Sequential(nn.LayerNorm(inner), nn.Linear(inner, pixels))
        else:
            self.colour = nn.Parameter(torch.zeros(1, 3, 1, 1))
            self.leave = nn.Sequential(RMSNorm(width), nn.Linear(width, pixels))
        start_weights(self)
        with torch.no_grad():
            for weight in self.leave[1].parameters():  # at first nearly nothing is guessed: no worse than not to guess
                weight.mul_(0.1)

    def forward(self, tower: nn.Module, normalise: Normalise, batch: Batch, part: dict[str, Tensor]) -> Tensor:
        """(R, 2): each item's mean squared error over hidden pixels, and what guessing nothing would cost.

        ``part["rng"]`` (R,) decides which patches are hidden.
        """
        images = batch.inputs["image"]
        pixels = normalise(images.tensors["pixels"][images.first(part["owner"])])
        order = noise(part["rng"], self.count).argsort(1)
        keep, hidden = order[:, : self.visible], order[:, self.visible :]
        guess = self._fill(tower, pixels, keep) if self.drops else self._look(tower, pixels, hidden)
        wanted = _at(self.targets(pixels), hidden)
        error = (_at(guess.float(), hidden) - wanted).square().mean((1, 2))
        return torch.stack([error, wanted.square().mean((1, 2))], dim=1)

    def targets(self, pixels: Tensor) -> Tensor:
        """(R, 3, S, S) -> (R, T, 3 x P x P), each patch at mean 0 and variance 1; a flat one is all zeros."""
        cut = pixels.float().unfold(2, self.side, self.side).unfold(3, self.side, self.side)  # (R, 3, G, G, P, P)
        flat = cut.permute(0, 2, 3, 1, 4, 5).flatten(1, 2).flatten(2)
        centred = flat - flat.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    def _fill(self, tower: nn.Module, pixels: Tensor, keep: Tensor) -> Tensor:
        seen: Features = tower(pixels, keep)
        entered = self.enter(seen.tokens)
        gaps = self.gap.to(entered.dtype).expand(len(pixels), self.count, -1)
        x = gaps.scatter(1, keep[..., None].expand_as(entered), entered) + self.position
        for layer in self.layers:
            x = layer(x)
        guess: Tensor = self.leave(x)
        return guess

    def _look(self, tower: nn.Module, pixels: Tensor, hidden: Tensor) -> Tensor:
        covered = torch.zeros(len(pixels), self.count, dtype=torch.bool, device=pixels.device).scatter(1, hidden, True)
        cover = covered.view(-1, 1, self.grid, self.grid)
        cover = cover.repeat_interleave(self.side, 2).repeat_interleave(self.side, 3)
        seen: Features = tower(torch.where(cover, self.colour.to(pixels.dtype), pixels))
        guess: Tensor = self.leave(seen.tokens)
        return guess


def noise(rng: Tensor, count: int) -> Tensor:
    """(R,) whole numbers -> (R, count) that look random, int64; the same on every device and in every batch.

    Steele, Lea and Flood (2014), "Fast Splittable Pseudorandom Number Generators" (SplitMix64); sums and products wrap.
    """
    x = rng[:, None] + torch.arange(1, count + 1, device=rng.device) * _signed(0x9E3779B97F4A7C15)
    x = (x ^ _shifted(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shifted(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shifted(x, 31)


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _shifted(x: Tensor, bits: int) -> Tensor:
    """A shift to the right that fills with zeros: int64 fills with its sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _at(tokens: Tensor, places: Tensor) -> Tensor:
    """(R, T, C) at places (R, H) -> (R, H, C)."""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))
