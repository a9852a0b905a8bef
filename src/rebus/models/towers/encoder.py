"""A text tower that sees both ways, in the layout of BERT.

Source: Devlin et al. (2019), "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding".
``rebus.formats.bert`` renames the parameters of a Hugging Face BertModel to these.
Letters: B items, L tokens, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rebus.errors import DataError
from rebus.models.features import Features, masked_mean
from rebus.models.towers import TOWERS
from rebus.nn.block import EncoderLayer, start_weights
from rebus.recipe import Tower

EPS = 1e-12  # of the norms, where the recipe says nothing


@TOWERS.register("encoder")
class Encoder(nn.Module):
    """Word, position and segment embeddings, then layers that norm after each sum.

    Args:
        settings: width, depth, heads, hidden (None: four times the width), activation, eps, segments, dropout;
            ``context`` positions, and ``pool``: ``mean`` of the real tokens, or ``cls``, the first token through
            BERT's pooler, tanh(W x + b).
        vocab_size: V, rows of the embeddings.
        max_length: positions there are vectors for, where ``settings.context`` does not say it.
        ignored: every tower is built with the same words.
    """

    def __init__(self, settings: Tower, vocab_size: int, *, max_length: int = 512, **ignored: Any) -> None:
        super().__init__()
        width, eps = settings.width, settings.eps or EPS
        self.settings, self.width, self.vocab_size = settings, width, vocab_size
        self.max_length = settings.context or max_length
        self.words = nn.Embedding(vocab_size, width)
        self.positions = nn.Embedding(self.max_length, width)
        self.segments = nn.Embedding(settings.segments, width)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.dropout = nn.Dropout(settings.dropout)
        self.layers = nn.ModuleList(
            EncoderLayer(
                width,
                settings.heads,
                settings.hidden or 4 * width,
                activation=settings.activation or "gelu",
                norm_first=False,
                eps=eps,
                dropout=settings.dropout,
            )
            for _ in range(settings.depth)
        )
        self.pooler = nn.Linear(width, width) if settings.pool == "cls" else None
        start_weights(self)

    def forward(self, input_ids: Tensor, mask: Tensor, segment_ids: Tensor | None = None) -> Features:
        """(B, L) long ids, (B, L) bool and (B, L) long segments (None: all 0) -> Features.

        Raises:
            DataError: a text is longer than the positions there are.
        """
        length = input_ids.shape[1]
        if length > self.max_length:
            do = "raise text.max_length or cut the text"
            raise DataError("a text", f"at most {self.max_length} tokens", str(length), do)
        steps = torch.arange(length, device=input_ids.device)
        segments = self.segments(torch.zeros_like(input_ids) if segment_ids is None else segment_ids)
        x = self.dropout(self.norm(self.words(input_ids) + self.positions(steps) + segments))
        for layer in self.layers:
            x = layer(x, mask[:, None, None, :])
        pooled = masked_mean(x, mask) if self.pooler is None else self.pooler(x[:, 0]).tanh()
        return Features(x, mask, pooled)
