"""A text tower that sees both ways, in the layout of BERT.

Source: Devlin et al. (2019), "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding".
``rebus.formats.bert`` renames the parameters of a Hugging Face BertModel to these.
Letters: B items, L tokens, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rebus import recipe
from rebus.errors import DataError
from rebus.models.features import Features, masked_mean
from rebus.models.towers.base import TOWERS, TextTower
from rebus.models.towers.decoder import last_token
from rebus.nn.block import EncoderLayer, start_weights

EPS = 1e-12  # of the norms, where the recipe says nothing


@TOWERS.register("encoder")
class Encoder(TextTower):
    """Word, position and segment embeddings, then layers: BERT's, or those of CLIP's and SigLIP's text towers.

    Args:
        settings: width, depth, heads, hidden (None: four times the width), activation, eps, segments, dropout;
            ``context`` positions, and ``pool``: ``mean`` of the real tokens, ``cls``, the first token through BERT's
            pooler, tanh(W x + b), or the ``last`` or ``first`` token, the ``max`` or a ``weighted`` mean of the real.
            ``norm_first``: layers norm what enters their parts, and there is a last norm; else they norm after each
            sum, and the embeddings are normed. ``causal``: a token sees none of those after it. ``filler``: texts are
            filled up to the context with this id, which is read as any other, and ``last`` is the last of all places.
        vocab_size: V, rows of the embeddings.
        max_length: positions there are vectors for, where ``settings.context`` does not say it.
        context: ignored.
    """

    follows = True
    fills_gaps = True  # reads both ways, so that it can guess hidden words

    def __init__(self, settings: recipe.Tower, vocab_size: int, *, max_length: int = 512, **context: Any) -> None:
        super().__init__(settings, vocab_size)
        width, eps = settings.width, settings.eps or EPS
        self.max_length = settings.context or max_length
        first, last = settings.pool in ("cls", "first"), "last" if settings.filler is None else "end"
        self.pooling = "first" if first else last if settings.pool == "last" else "mean"  # weighted, max: nearly
        self.words = nn.Embedding(vocab_size, width)
        self.positions = nn.Embedding(self.max_length, width)
        self.segments = nn.Embedding(settings.segments, width) if settings.segments else None
        self.norm = None if settings.norm_first else nn.LayerNorm(width, eps=eps)
        self.dropout = nn.Dropout(settings.dropout)
        self.layers = nn.ModuleList(
            EncoderLayer(
                width,
                settings.heads,
                settings.hidden or 4 * width,
                activation=settings.activation or "gelu",
                norm_first=settings.norm_first,
                eps=eps,
                dropout=settings.dropout,
            )
            for _ in range(settings.depth)
        )
        self.last_norm = nn.LayerNorm(width, eps=eps) if settings.norm_first else None
        self.pooler = nn.Linear(width, width) if settings.pool == "cls" else None
        start_weights(self)

    def forward(self, input_ids: Tensor, mask: Tensor, segment_ids: Tensor | None = None) -> Features:
        """(B, L) long ids, (B, L) bool and (B, L) long segments (None: all 0), the last for any beyond -> Features.

        Raises:
            DataError: a text is longer than the positions there are.
        """
        length, most = input_ids.shape[1], self.max_length
        if length > most and not bool(mask[:, most:].any()):  # what is too long is padding alone
            segments = None if segment_ids is None else segment_ids[:, :most]
            short = self.forward(input_ids[:, :most], mask[:, :most], segments)
            return Features(F.pad(short.tokens, (0, 0, 0, length - most)), mask, short.pooled)
        if length > most:
            do = "raise text.max_length or cut the text"
            raise DataError("a text", f"at most {most} tokens", str(length), do)
        visible: Tensor | None
        ids, visible = input_ids, mask[:, None, None, :]
        if self.settings.filler is not None:
            ids = ids.new_full((len(ids), most), self.settings.filler)
            ids[:, :length] = torch.where(mask, input_ids, self.settings.filler)
            visible = None
            segment_ids = None if segment_ids is None else F.pad(segment_ids, (0, most - length))
        steps = torch.arange(ids.shape[1], device=ids.device)
        x = self.words(ids) + self.positions(steps)
        if self.segments is not None:
            last = self.segments.num_embeddings - 1
            x = x + self.segments(torch.zeros_like(ids) if segment_ids is None else segment_ids.clamp(max=last))
        x = self.dropout(x if self.norm is None else self.norm(x))
        for layer in self.layers:
            x = layer(x, visible, causal=self.settings.causal)
        if self.last_norm is not None:
            x = self.last_norm(x)
        return Features(x[:, :length], mask, self._pooled(x, mask))

    def _pooled(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, places, D), (B, L) -> (B, D)."""
        if self.pooler is not None:
            return torch.tanh(self.pooler(x[:, 0]))
        tokens = x[:, : mask.shape[1]]
        if self.settings.pool == "mean":
            return masked_mean(tokens, mask)
        if self.settings.pool == "first":
            return x[:, 0]
        if self.settings.pool == "max":
            return tokens.masked_fill(~mask[..., None], torch.finfo(x.dtype).min).amax(dim=1)
        if self.settings.pool == "weighted":  # Muennighoff (2022), "SGPT: GPT Sentence Embeddings for Semantic Search"
            weight = mask * torch.arange(1, mask.shape[1] + 1, device=x.device)
            return (tokens * weight[..., None]).sum(1) / weight.sum(1, keepdim=True).clamp(min=1)
        return last_token(x, mask) if self.settings.filler is None else x[:, -1]
