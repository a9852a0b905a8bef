"""Keys and values of the tokens already read, so that generating a token costs one token.

For inference: tensors are written in place and carry no gradient. ``Cache`` and ``Layer`` are all that attention and
the generation engine ask for; ``KVCache`` keeps each layer's tokens in one block of memory, in their order, so that a
layer is given views of it. Letters: B items, G key heads, L tokens, K head size.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Layer(Protocol):
    """One layer's part of a cache."""

    memory: tuple[Tensor, Tensor] | None  # cross-attention's keys and values: computed at the first token, then kept

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add (B, G, L, K) new tokens; gives all tokens so far, (B, G, L_total, K)."""
        ...


class Cache(Protocol):
    """The caches of all layers."""

    @property
    def length(self) -> int:
        """Tokens read so far, padding included."""
        ...

    def __getitem__(self, index: int) -> Layer:
        """One layer's cache."""
        ...

    def select(self, items: Tensor) -> None:
        """Make item ``i`` what item ``items[i]`` was: (R,) long, R of any size."""
        ...

    def truncate(self, length: int) -> None:
        """Forget all tokens but the first ``length``."""
        ...

    def copied(self, items: int, length: int, room: int) -> Cache:
        """A new cache of ``items`` items, each with the first ``length`` tokens of this cache's first item."""
        ...


class LayerCache:
    """One layer's keys and values; the buffer doubles when it is full."""

    def __init__(self, room: int) -> None:
        self.length = 0
        self.memory: tuple[Tensor, Tensor] | None = None
        self._room = room
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add (B, G, L, K) new tokens; gives all tokens so far, (B, G, L_total, K)."""
        end = self.length + keys.shape[2]
        self._keys = self._stored(self._keys, keys.detach(), end)
        self._values = self._stored(self._values, values.detach(), end)
        self.length = end
        return self._keys[:, :, :end], self._values[:, :, :end]

    def claim(self, items: int, heads: int, tokens: int, size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Room for more tokens, for code that writes them there itself: both whole buffers (B, G, room, K)."""
        if self._keys is None or self._values is None or self.length + tokens > self._keys.shape[2]:
            blank = torch.zeros((), dtype=dtype).expand(items, heads, tokens, size)
            self.append(blank, blank)
        else:
            self.length += tokens
        assert self._keys is not None and self._values is not None  # noqa: S101, PT018 - made above
        return self._keys, self._values

    def select(self, items: Tensor) -> None:
        """Keep, repeat or reorder items; see ``KVCache.select``."""
        if self._keys is not None and self._values is not None:
            self._keys, self._values = self._moved(self._keys, items), self._moved(self._values, items)
        if self.memory is not None:
            self.memory = (self.memory[0][items], self.memory[1][items])

    def copied(self, items: int, length: int, room: int) -> LayerCache:
        """See ``KVCache.copied``."""
        made = LayerCache(room)
        if self._keys is not None and self._values is not None and length:
            made.append(*(one[:1, :, :length].expand(items, -1, -1, -1) for one in (self._keys, self._values)))
        if self.memory is not None:
            key, value = (one[:1].expand(items, -1, -1, -1) for one in self.memory)
            made.memory = (key, value)
        return made

    def _moved(self, buffer: Tensor, items: Tensor) -> Tensor:
        """Copies what is filled, not the room after it."""
        made = buffer.new_empty(len(items), *buffer.shape[1:])
        made[:, :, : self.length] = buffer[items, :, : self.length]
        return made

    def _stored(self, buffer: Tensor | None, new: Tensor, end: int) -> Tensor:
        if buffer is None or end > buffer.shape[2]:
            room = max(end, self._room if buffer is None else 2 * buffer.shape[2])
            larger = new.new_empty(new.shape[0], new.shape[1], room, new.shape[3])
            if buffer is not None:
                larger[:, :, : self.length] = buffer[:, :, : self.length]
            buffer = larger
        buffer[:, :, self.length : end] = new
        return buffer


class KVCache:
    """The caches of all layers of one decoder.

    Args:
        layers: how many.
        room: tokens to make room for at first; it grows by itself.
    """

    def __init__(self, layers: int, room: int = 64) -> None:
        self.layers = [LayerCache(room) for _ in range(layers)]

    @property
    def length(self) -> int:
        """Tokens read so far, padding included."""
        return self.layers[0].length if self.layers else 0

    def __getitem__(self, index: int) -> LayerCache:
        """One layer's cache."""
        return self.layers[index]

    def select(self, items: Tensor) -> None:
        """Make item ``i`` what item ``items[i]`` was: (R,) long, R of any size.

        Drops finished items, repeats one item for several continuations, or reorders beams.
        """
        for layer in self.layers:
            layer.select(items)

    def truncate(self, length: int) -> None:
        """Forget all tokens but the first ``length``."""
        for layer in self.layers:
            layer.length = min(layer.length, length)

    def copied(self, items: int, length: int, room: int) -> KVCache:
        """A new cache of ``items`` items, each with the first ``length`` tokens of this cache's first item."""
        made = KVCache(0)
        made.layers = [layer.copied(items, length, room) for layer in self.layers]
        return made
