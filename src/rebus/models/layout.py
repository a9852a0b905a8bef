"""How tokens of images and texts are laid out side by side: who sees whom, and where each one is.

Letters: B images, R texts, L text tokens, P image tokens, G x G their grid, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rebus.models.features import Features

IGNORED = -100  # a label that no loss reads, PyTorch's own convention


class Places(nn.Module):
    """Say where each token of a grid is: (B, K x G x G, D), of K items, plus a learned vector for its row and column.

    It is added after the token has been named, so that what it shows and where it is do not mix.
    """

    def __init__(self, side: int, width: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(side, 1, width) * 0.3)
        self.columns = nn.Parameter(torch.randn(1, side, width) * 0.3)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, K x G x G, D) -> same."""
        places = (self.rows + self.columns).flatten(0, 1).to(tokens.dtype)
        return tokens + places.repeat(tokens.shape[1] // len(places), 1)


def pick(tokens: Tensor, wanted: Tensor) -> Tensor:
    """The N wanted tokens of (R, L, D), in row-major order: (N, D); ``tokens[wanted]`` with a fast backward pass."""
    flat, places = tokens.flatten(0, 1), wanted.flatten().nonzero().squeeze(1)
    return flat if len(places) == len(flat) else flat.index_select(0, places)


def one_text_a_row(blocks: Tensor) -> bool:
    """Whether each row of (R, L) holds one text and then padding: then no token sees anything that it should not.

    Padding itself sees the text; nothing reads what becomes of it.
    """
    first = blocks[:, :1]
    alone = ((blocks == first) | (blocks < 0)) & (first >= 0)
    return bool(alone.all()) and bool((blocks[:, 1:] <= blocks[:, :-1]).all())


def block_mask(blocks: Tensor) -> Tensor:
    """Who may attend to whom when several texts share a row: (R, L) -> (R, L, L) bool.

    ``blocks`` numbers the text each token is of, negative for padding. A token sees earlier tokens of its own text.
    """
    length = blocks.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=blocks.device).tril()
    same = blocks[:, :, None] == blocks[:, None, :]
    return same & causal & (blocks >= 0)[:, None, :]


def after_prefix(
    prefix: Features, x: Tensor, positions: Tensor, mask: Tensor, real: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Put P prefix tokens before L text tokens.

    The prefix sees itself both ways and none of the text; the text sees the prefix and what it saw before.

    Args:
        prefix: (R, P, D).
        x: (R, L, D) embedded text.
        positions: (R, L), counted from 0 in each text.
        mask: (R, L, L) bool, who may attend to whom.
        real: (R, L) bool, which text tokens are not padding.

    Returns:
        (R, P + L, D), positions (R, P + L), mask (R, P + L, P + L).
    """
    rows, length, before = x.shape[0], x.shape[1], prefix.tokens.shape[1]
    full = torch.zeros(rows, before + length, before + length, dtype=torch.bool, device=x.device)
    full[:, :before, :before] = prefix.mask[:, None, :]
    full[:, before:, :before] = prefix.mask[:, None, :] & real[:, :, None]
    full[:, before:, before:] = mask
    # All image tokens stand at position 0: where a patch is, its own embedding says, and a word then finds the
    # patch that looks like it at whatever distance.
    places = torch.cat([positions.new_zeros(rows, before), positions + 1], dim=1)
    return torch.cat([prefix.tokens.to(x.dtype), x], dim=1), places, full
