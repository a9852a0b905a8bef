"""Keys and values of all tokens in one tensor a layer: the least that attention can do with."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor


class TinyLayer:
    def __init__(self) -> None:
        self.pair: tuple[Tensor, Tensor] | None = None
        self.memory: tuple[Tensor, Tensor] | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        old = self.pair or (keys[:, :, :0], values[:, :, :0])
        self.pair = (torch.cat([old[0], keys], 2), torch.cat([old[1], values], 2))
        return self.pair

    def select(self, items: Tensor) -> None:
        if self.pair is not None:
            self.pair = (self.pair[0][items], self.pair[1][items])
        if self.memory is not None:
            self.memory = (self.memory[0][items], self.memory[1][items])


class TinyCache(defaultdict[int, TinyLayer]):
    def __init__(self) -> None:
        super().__init__(TinyLayer)

    @property
    def length(self) -> int:
        pair = self[0].pair
        return 0 if pair is None else pair[0].shape[2]

    def select(self, items: Tensor) -> None:
        for layer in self.values():
            layer.select(items)
