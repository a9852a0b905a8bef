"""A running average of a model's weights, kept in float32 beside it. Knows no loop and no file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of the weights that learn (Polyak and Juditsky 1992).

    The decay of update n is ``min(decay, (1 + n) / (10 + n))``, so that the first weights are soon forgotten.
    Buffers are not averaged: validation uses the model's own.

    Args:
        model: whose weights are averaged; frozen weights are left out.
        decay: 0.999 and the like.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self._live = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.tensors: dict[str, Tensor] = {name: weight.detach().float().clone() for name, weight in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the model's weights of now into the average."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        weights = [weight.detach().float() for weight in self._live.values()]
        torch._foreach_lerp_(list(self.tensors.values()), weights, 1.0 - decay)

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor], updates: int) -> None:
        """Go on from a saved average."""
        self.updates = updates
        for name, average in self.tensors.items():
            average.copy_(tensors[name])

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """The model's weights become the averaged ones."""
        for name, weight in self._live.items():
            weight.copy_(self.tensors[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within this context the model has the averaged weights; afterwards its own again, bit for bit."""
        own = {name: weight.detach().clone() for name, weight in self._live.items()}
        self.copy_to_model()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in self._live.items():
                    weight.copy_(own[name])
