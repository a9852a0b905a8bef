"""A decoder as it is, seen by the engine as a ``Writer``: any kind of layer, any device, weights that still change."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from rebus.models.features import Features
from rebus.models.towers.decoder import Decoder
from rebus.nn.cache import Cache, KVCache


class Plain:
    """Asks the decoder's own modules."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.max_length, self.vocab_size = decoder.max_length, decoder.vocab_size

    @property
    def device(self) -> torch.device:
        """The weights'."""
        return self.decoder.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The weights'."""
        return self.decoder.embed_tokens.weight.dtype

    @property
    def bounded(self) -> bool:
        """Learned positions are a table."""
        return self.decoder.embed_positions is not None

    def embed(self, input_ids: Tensor) -> Tensor:
        """(R, L) long -> (R, L, D)."""
        return self.decoder.embed(input_ids)

    def forward_embeds(
        self,
        x: Tensor,
        positions: Tensor,
        mask: Tensor | None = None,
        memory: Features | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """(R, L, D) -> (R, L, D)."""
        return self.decoder.forward_embeds(x, positions, mask, memory, cast("KVCache | None", cache))

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V)."""
        return self.decoder.logits(hidden)

    def new_cache(self, room: int = 64) -> Cache:
        """An empty cache."""
        return self.decoder.new_cache(room)
