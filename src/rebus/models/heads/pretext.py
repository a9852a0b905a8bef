"""Heads that teach an image tower without labels; what they learn themselves is dropped when the tower moves on.

Sources: Chen et al. (2020), "A Simple Framework for Contrastive Learning of Visual Representations" (SimCLR); He et al.
(2022), "Masked Autoencoders Are Scalable Vision Learners" (MAE); Xie et al. (2022), "SimMIM: a Simple Framework for
Masked Image Modeling". They know no loop and no augmentation.

Letters: B images of a batch, R items, S side of an image, T = G x G tokens of the tower, K of them visible, H
hidden, P pixels of a token's side, D width, E numbers of a projection.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from rebus.errors import RecipeError
from rebus.models.features import Features
from rebus.models.heads.base import HEADS, Head, HeadContext, HeadSpec
from rebus.models.parts import Parts
from rebus.models.towers.base import ImageTower
from rebus.nn.block import EncoderLayer, start_weights
from rebus.nn.norms import RMSNorm

PROJECTION = 128  # E, as in SimCLR
HIDE_DROPPED, HIDE_COVERED = 0.75, 0.6  # shares of MAE and SimMIM
DECODER_LAYERS, DECODER_HEAD = 2, 16


@HEADS.register("simclr")
class ContrastHead(Head):
    """Two views of each item as vectors of length one, (2, R, E): the tower, then SimCLR's projection head.

    Batch norm is left out, so that a vector depends on its own item only.
    """

    consumes = "inputs"

    def __init__(self, spec: HeadSpec, parts: Parts) -> None:
        super().__init__(spec, parts)
        width = parts.widths[spec.item]
        self.project = nn.Sequential(
            RMSNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, PROJECTION, bias=False)
        )
        start_weights(self)

    def forward(self, context: HeadContext) -> Tensor:
        """Of the R items of the batch that the part names."""
        item, owner = self.spec.item, context.part["owner"]
        both = context.batch.inputs[item], context.batch.views[item]
        tensors = {
            name: torch.cat([view.tensors[name][view.first(owner)] for view in both]) for name in both[0].tensors
        }
        vectors = self.project(context.parts.towers[item].encode(**tensors).pooled)
        return functional.normalize(vectors.float(), dim=-1).view(2, len(owner), PROJECTION)


@HEADS.register("masked")
class HiddenPatches(Head):
    """Guess the pixels of hidden patches from the others: (R, 2), each item's mean squared error, and that of no guess.

    A tower that can leave patches out (``drops_patches``) encodes the visible ones only, and a light decoder of its
    own fills the gaps, as MAE does. Any other tower sees a learned colour on hidden patches, and one linear layer
    guesses from its tokens, as SimMIM does. Either way the target is each patch's pixels at mean 0 and variance 1, and
    the loss is squared error: MAE's choice, which SimMIM's own (absolute error of plain pixels) is not.

    Options:
        hide: share of patches hidden; 0: 0.75 where patches are left out, else 0.6.

    Raises:
        RecipeError: the tower's tokens do not divide the image into equal squares.
    """

    consumes = "inputs"
    defaults: ClassVar = {"hide": 0.0}

    def __init__(self, spec: HeadSpec, parts: Parts) -> None:
        super().__init__(spec, parts)
        tower = parts.tower(spec.item)
        size, hide, self.count = tower.size, self.options["hide"], int(tower.num_tokens)
        self.grid = round(self.count**0.5)
        self.side = size // self.grid
        if self.grid**2 != self.count or self.grid * self.side != size:
            expected = "a tower whose tokens divide the image into equal squares, for method=masked"
            received = f"{self.count} tokens of an image of {size} pixels a side"
            raise RecipeError("model.image", expected, received, "set image.size to a multiple of model.image.patch")
        self.drops = tower.drops_patches
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

    def forward(self, context: HeadContext) -> Tensor:
        """Of R images; ``part["rng"]`` (R,) decides which patches are hidden."""
        images, part = context.batch.inputs[self.spec.item], context.part
        return self.errors(
            context.parts.tower(self.spec.item), images.tensors["pixels"][images.first(part["owner"])], part["rng"]
        )

    def errors(self, tower: ImageTower, pixels: Tensor, rng: Tensor) -> Tensor:
        """(R, 3, S, S) of 0 to 255 -> (R, 2); ``rng`` (R,) decides which patches are hidden."""
        pixels = tower.normalise(pixels)
        order = noise(rng, self.count).argsort(1)
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

    def _fill(self, tower: ImageTower, pixels: Tensor, keep: Tensor) -> Tensor:
        features: Features = tower(pixels, keep)
        entered = self.enter(features.tokens)
        gaps = self.gap.to(entered.dtype).expand(len(pixels), self.count, -1)
        x = gaps.scatter(1, keep[..., None].expand_as(entered), entered) + self.position
        for layer in self.layers:
            x = layer(x)
        guess: Tensor = self.leave(x)
        return guess

    def _look(self, tower: ImageTower, pixels: Tensor, hidden: Tensor) -> Tensor:
        covered = torch.zeros(len(pixels), self.count, dtype=torch.bool, device=pixels.device).scatter(1, hidden, True)
        cover = covered.view(-1, 1, self.grid, self.grid)
        cover = cover.repeat_interleave(self.side, 2).repeat_interleave(self.side, 3)
        features: Features = tower(torch.where(cover, self.colour.to(pixels.dtype), pixels))
        guess: Tensor = self.leave(features.tokens)
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
