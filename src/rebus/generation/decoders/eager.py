"""A decoder as it is: any kind of layer, any device, weights that still change."""

from __future__ import annotations

from torch import Tensor

from rebus.models.features import Features
from rebus.models.towers.decoder import Decoder
from rebus.nn.cache import Cache


class EagerDecoder:
    """A ``DecoderBackend`` that asks the decoder's own modules."""

    attends = True

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.max_length, self.vocab_size = decoder.max_length, decoder.vocab_size
        self.bounded = decoder.embed_positions is not None
        weight = decoder.embed_tokens.weight
        self.device, self.dtype = weight.device, weight.dtype

    def embed(self, input_ids: Tensor) -> Tensor:
        """(R, L) long -> (R, L, D)."""
        return self.decoder.embed(input_ids)

    def forward_embeds(
        self, x: Tensor, positions: Tensor, mask: Tensor | None, memory: Features | None, cache: Cache
    ) -> Tensor:
        """(R, L, D) -> (R, L, D)."""
        return self.decoder.forward_embeds(x, positions, mask, memory, cache)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V)."""
        return self.decoder.logits(hidden)
