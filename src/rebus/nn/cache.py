"""Keys and values of the tokens already read, so that generating a token costs one token: what attention asks for.

Who keeps them is not known here; ``rebus.generation.paging`` is one. For inference: they carry no gradient. Letters: B
items, G key heads, L tokens, K head size.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class LayerCache(Protocol):
    """One layer's part of a cache."""

    @property
    def memory(self) -> tuple[Tensor, Tensor] | None:
        """Cross-attention's keys and values: computed at the first token, then kept."""
        ...

    @memory.setter
    def memory(self, pair: tuple[Tensor, Tensor]) -> None: ...

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add (B, G, L, K) new tokens; gives all tokens so far, (B, G, L_total, K)."""
        ...


class Cache(Protocol):
    """The caches of all layers."""

    @property
    def length(self) -> int:
        """Tokens read so far, padding included."""
        ...

    def __getitem__(self, index: int) -> LayerCache:
        """One layer's cache."""
        ...
