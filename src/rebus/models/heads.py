"""Heads that turn Features into a task's numbers."""

from __future__ import annotations

from typing import Any

from torch import nn

from rebus.errors import RecipeError
from rebus.models.masked import MaskedHead
from rebus.models.towers.encoder import Encoder
from rebus.nn.norms import RMSNorm


def make_head(width: int, outputs: int, dropout: float, hidden: int = 0, *, normed: bool = True) -> nn.Module:
    """(..., D) -> (..., C), through a hidden layer where there is one; with no outputs, the vector as it is.

    Without a hidden layer and not ``normed`` it is what BERT's and ViT's classifiers are: dropout and a linear layer.
    """
    if not outputs:
        return nn.Identity()
    if not normed and not hidden:
        return nn.Sequential(nn.Dropout(dropout), nn.Linear(width, outputs))
    if hidden:
        between = [nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout)]
        return nn.Sequential(RMSNorm(width), *between, nn.Linear(hidden, outputs))
    return nn.Sequential(RMSNorm(width), nn.Dropout(dropout), nn.Linear(width, outputs))


def masked_head(tower: Any) -> MaskedHead:
    """What guesses hidden words. Raises RecipeError where the text tower is no encoder."""
    if not isinstance(tower, Encoder):
        found = "another tower" if tower is not None else "none"
        raise RecipeError("model.text.kind", "encoder, which reads both ways, for the task 'mlm'", found, "set it so")
    return MaskedHead(tower.settings, tower.vocab_size)
