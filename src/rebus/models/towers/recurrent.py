"""A recurrent text tower: a GRU or LSTM that reads both ways.

Sources: Cho et al. (2014), "Learning Phrase Representations using RNN Encoder-Decoder"; Hochreiter and Schmidhuber
(1997), "Long Short-Term Memory"; Schuster and Paliwal (1997), "Bidirectional Recurrent Neural Networks".
Letters: B items, L tokens, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rebus import recipe
from rebus.errors import RecipeError
from rebus.models.features import Features
from rebus.models.towers.base import TOWERS, TextTower


@TOWERS.register("recurrent")
class Recurrent(TextTower):
    """Embeddings and ``depth`` layers of cells, half of the width for each direction.

    Padding is never read, wherever it stands: a text gives the same features alone and in any batch.

    Args:
        settings: width (even), depth, cell, dropout.
        vocab_size: V.
        context: ignored.

    Raises:
        RecipeError: the width is odd.
    """

    takes_reader = True

    def __init__(self, settings: recipe.Tower, vocab_size: int, **context: Any) -> None:
        super().__init__(settings, vocab_size)
        if settings.width % 2:
            do = f"use {settings.width + 1}"
            raise RecipeError("the width of a recurrent tower", "an even number", str(settings.width), do)
        self.embed = nn.Embedding(vocab_size, self.width)
        nn.init.normal_(self.embed.weight, std=0.1)
        self.dropout = nn.Dropout(settings.dropout)
        self.cells = (nn.GRU if settings.cell == "gru" else nn.LSTM)(
            self.width,
            self.width // 2,
            num_layers=settings.depth,
            batch_first=True,
            bidirectional=True,
            dropout=settings.dropout if settings.depth > 1 else 0.0,
        )

    def forward(self, input_ids: Tensor, mask: Tensor, segment_ids: Tensor | None = None) -> Features:
        """(B, L) long ids and (B, L) bool -> Features; pooled is the last layer's final state of both directions.

        Tokens and pooled are zero where nothing is real.
        """
        order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)  # (B, L), real tokens first
        ids = input_ids.gather(1, order)
        counts = mask.sum(1)
        lengths = counts.clamp(min=1)  # packing refuses empty rows; what they give is blanked below
        packed = pack_padded_sequence(
            self.dropout(self.embed(ids)), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        packed_out, state = self.cells(packed)
        final = state if self.settings.cell == "gru" else state[0]  # (2 x depth, B, D/2)
        read, _ = pad_packed_sequence(packed_out, batch_first=True, total_length=ids.shape[1])  # (B, L, D)
        back = order.argsort(dim=1)
        tokens = read.gather(1, back[:, :, None].expand_as(read)) * mask[:, :, None].to(read.dtype)
        pooled = torch.cat([final[-2], final[-1]], dim=-1) * (counts > 0)[:, None].to(read.dtype)
        return Features(tokens, mask, pooled)
