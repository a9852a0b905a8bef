"""Columns of numbers, categories and dates as tokens, one a column, and a residual network over all of them.

It knows no cells: ``rebus.models.modalities.tabular`` turns them into numbers by the training rows' statistics.
Numbers enter by a linear layer of their own over a standardised value and its piecewise-linear encoding (Gorishniy,
Rubachev and Babenko 2022, "On Embeddings for Numerical Features in Tabular Deep Learning"), categories by a learned
vector each; a missing value is a learned vector of its column. docs/LOG.md has what other forms measured.

Letters: N rows, M measured columns (numbers, dates), F numbers that stand for one value, K categories, L = M + K, D.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rebus import recipe
from rebus.models.features import Features
from rebus.models.towers.base import TOWERS, Tower, all_real


class ResidualBlock(nn.Module):
    """``x + fc2(gelu(fc1(norm(x))))``."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) -> (N, D)."""
        changed: Tensor = self.dropout(self.fc2(self.dropout(nn.functional.gelu(self.fc1(self.norm(x))))))
        return x + changed


@TOWERS.register("tabular")
class TabularTower(Tower):
    """One token a column; ``pooled`` is what the network makes of all of them, and is added to each token.

    Args:
        settings: width, depth, dropout.
        measured: M.
        features: F.
        categories: for each category, how many codes it has: 0 is missing, 1 a value that training never saw.
        context: ignored.
    """

    modality = "tabular"
    own_settings = recipe.OtherTower
    defaults: ClassVar = {"width": 64, "depth": 1, "dropout": 0.2}
    starts: Tensor

    def __init__(
        self, settings: Any, *, measured: int, features: int, categories: Sequence[int], **context: Any
    ) -> None:
        super().__init__(settings)
        self.num_tokens = measured + len(categories)
        self.weight = nn.Parameter(torch.randn(measured, features, self.width) * max(features, 1) ** -0.5)
        self.missing = nn.Parameter(torch.randn(measured, self.width) * 0.02)
        self.codes = nn.Embedding(sum(categories), self.width)
        nn.init.normal_(self.codes.weight, std=0.5)  # as loud as a number
        starts = torch.tensor([0, *categories[:-1]] if categories else [], dtype=torch.long).cumsum(0)
        self.register_buffer("starts", starts, persistent=False)
        self.column = nn.Parameter(torch.randn(self.num_tokens, self.width) * 0.02)
        self.dropout = nn.Dropout(settings.dropout)
        self.join = nn.Linear(self.num_tokens * self.width, self.width)
        self.layers = nn.ModuleList(ResidualBlock(self.width, settings.dropout) for _ in range(settings.depth))

    def embed(self, values: Tensor, known: Tensor, codes: Tensor) -> Tensor:
        """What enters the network; see ``forward``: (N, L, D)."""
        numbers = torch.einsum("nmf,mfd->nmd", values.to(self.weight.dtype), self.weight)
        numbers = torch.where(known.unsqueeze(-1), numbers, self.missing)
        return torch.cat([numbers, self.codes(codes + self.starts)], dim=1) + self.column

    def forward(self, values: Tensor, known: Tensor, codes: Tensor) -> Features:
        """Features of L tokens, the measured columns first.

        Args:
            values: (N, M, F) float.
            known: (N, M) bool, False where a value is missing.
            codes: (N, K) long.
        """
        return self.join_columns(self.embed(values, known, codes))

    def join_columns(self, tokens: Tensor) -> Features:
        """(N, L, D) of ``embed`` -> Features."""
        pooled = self.join(self.dropout(tokens).flatten(1))
        for layer in self.layers:
            pooled = layer(pooled)
        return all_real(tokens + pooled.unsqueeze(1), pooled)
