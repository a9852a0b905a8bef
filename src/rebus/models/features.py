"""The one currency between model parts: what a tower gives, a fusion mixes and a head reads.

Letters: B items, L tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """What a model part knows about B items.

    Attributes:
        tokens: (B, L, D), a vector for each image patch or text token.
        mask: (B, L) bool, True where the token is real and not padding.
        pooled: (B, D), one vector an item.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor

    def select(self, owner: Tensor) -> Features:
        """The features of items ``owner`` (R,) long: several questions may share one image."""
        return Features(self.tokens[owner], self.mask[owner], self.pooled[owner])

    def per_example(self, owner: Tensor, size: int, most: int) -> Features:
        """The features of ``size`` examples, the items of each laid end to end; places without an item are masked.

        Args:
            owner: (B,) the example each item belongs to, ascending.
            size: examples.
            most: the largest number of items that an example has.

        Returns:
            tokens (size, most x L, D); ``pooled`` is the mean over an example's items.
        """
        if len(owner) == size and most == 1:
            return self
        most = max(most, 1)
        count = owner.bincount(minlength=size)
        place = owner * most + torch.arange(len(owner), device=owner.device) - (count.cumsum(0) - count)[owner]

        def laid(items: Tensor) -> Tensor:
            return items.new_zeros(size * most, *items.shape[1:]).index_copy(0, place, items)

        tokens = laid(self.tokens).view(size, -1, self.width)
        pooled = laid(self.pooled).view(size, most, -1).sum(1) / count.clamp(min=1)[:, None]
        return Features(tokens, laid(self.mask).view(size, -1), pooled.to(self.pooled.dtype))

    @property
    def width(self) -> int:
        """D."""
        return self.tokens.shape[-1]


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """The mean over real tokens: (B, L, D), (B, L) -> (B, D); zeros where an item has none."""
    weight = mask.unsqueeze(-1).to(tokens.dtype)
    return (tokens * weight).sum(1) / weight.sum(1).clamp(min=1.0)


def join_features(parts: list[Features]) -> Features:
    """Lay the tokens of several Features end to end; ``pooled`` is the mean over all real tokens."""
    tokens = torch.cat([part.tokens for part in parts], dim=1)
    mask = torch.cat([part.mask for part in parts], dim=1)
    return Features(tokens, mask, masked_mean(tokens, mask))
