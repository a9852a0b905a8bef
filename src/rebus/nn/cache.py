"""Keys and values of the tokens already read, so that generating a token costs one token.

For inference: tensors are written in place and carry no gradient. Letters: B items, H key heads, L tokens, K head size.
"""

from __future__ import annotations

from torch import Tensor


class LayerCache:
    """One layer's keys and values; the buffer doubles when it is full."""

    def __init__(self, room: int) -> None:
        self.length = 0
        self.memory: tuple[Tensor, Tensor] | None = None  # cross-attention: computed at the first token, then kept
        self._room = room
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add (B, H, L, K) new tokens; gives all tokens so far, (B, H, L_total, K)."""
        end = self.length + keys.shape[2]
        self._keys = self._stored(self._keys, keys.detach(), end)
        self._values = self._stored(self._values, values.detach(), end)
        self.length = end
        return self._keys[:, :, :end], self._values[:, :, :end]

    def select(self, items: Tensor) -> None:
        """Keep, repeat or reorder items; see ``KVCache.select``."""
        if self._keys is not None and self._values is not None:
            self._keys, self._values = self._keys[items], self._values[items]
        if self.memory is not None:
            self.memory = (self.memory[0][items], self.memory[1][items])

    def _stored(self, buffer: Tensor | None, new: Tensor, end: int) -> Tensor:
        if buffer is None or end > buffer.shape[2]:
            room = max(end, self._room if buffer is None else 2 * buffer.shape[2])
            larger = new.new_zeros(new.shape[0], new.shape[1], room, new.shape[3])
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
