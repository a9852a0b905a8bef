"""A causal transformer in the layout of Llama, Qwen and GPT-2; the text tower and the writer of text.

It knows no images and no tokenizer: vectors and positions in, vectors out. Parameter names are those of
``LlamaModel`` and ``Qwen3Model`` (with ``lm_head`` beside); ``rebus.formats`` renames those of every family.
Letters: B items, L tokens, D width, V rows of the vocabulary, M memory tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rebus import recipe
from rebus.errors import DataError
from rebus.models.features import Features
from rebus.models.towers.base import TOWERS, TextTower
from rebus.nn.attention import Attention
from rebus.nn.block import start_weights
from rebus.nn.cache import Cache, LayerCache
from rebus.nn.feedforward import MLP, SwiGLU, swiglu_hidden
from rebus.nn.norms import RMSNorm, make_norm
from rebus.nn.rotary import Rotary, rope_scaling, rotary_tables

EPS = 1e-6  # of the norms, where the recipe says nothing


class DecoderLayer(nn.Module):
    """Self-attention, optionally gated cross-attention, then feed-forward; each after its norm, added to the stream."""

    def __init__(self, settings: recipe.Tower, *, memory_width: int | None = None) -> None:
        super().__init__()
        width, dropout, eps = settings.width, settings.dropout, settings.eps or EPS
        self.input_layernorm = make_norm(settings.norm, width, eps)
        self.self_attn = Attention(
            width,
            settings.heads,
            settings.kv_heads,
            settings.head_dim,
            qk_norm=settings.qk_norm,
            bias=settings.bias != "none",
            out_bias=settings.bias in ("attention", "all"),
            dropout=dropout,
            eps=eps,
        )
        self.post_attention_layernorm = make_norm(settings.norm, width, eps)
        self.mlp = _feedforward(settings)
        self.dropout = nn.Dropout(dropout)
        self.cross_attn: Attention | None = None
        if memory_width is not None:
            self.cross_layernorm = make_norm(settings.norm, width, eps)
            self.cross_attn = Attention(
                width,
                settings.heads,
                head_dim=settings.head_dim,
                qk_norm=settings.qk_norm,
                memory_width=memory_width,
                dropout=dropout,
                eps=eps,
            )
            self.cross_gate = nn.Parameter(torch.zeros(1))

    def forward(
        self,
        x: Tensor,
        *,
        rotary: Rotary | None,
        mask: Tensor | None,
        causal: bool,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        attended = self.self_attn(self.input_layernorm(x), mask=mask, causal=causal, rotary=rotary, cache=cache)
        x = x + self.dropout(attended)
        if self.cross_attn is not None and memory is not None:
            attended = self.cross_attn(self.cross_layernorm(x), memory=memory, mask=memory_mask, cache=cache)
            x = x + self.dropout(self.cross_gate.tanh() * attended)
        out: Tensor = x + self.dropout(self.mlp(self.post_attention_layernorm(x)))
        return out


@TOWERS.register("decoder")
class Decoder(TextTower):
    """Embeddings, layers, a last norm, and the way back to the vocabulary.

    Source of the gated cross-attention, whose gate tanh(0) lets nothing through at first: Alayrac et al. (2022),
    "Flamingo: a Visual Language Model for Few-Shot Learning" (here without its second feed-forward layer).

    Args:
        settings: every size and choice; GPT-2 is ``norm="layer", feedforward="mlp", positions="learned", bias="all"``.
        vocab_size: V, rows of the embeddings; a tokenizer may have fewer ids.
        max_length: longest row that is expected, where ``settings.context`` does not say it.
        cross: give layers gated cross-attention to a memory.
        memory_width: width of the memory's tokens; None: D.
        zero_init: start the projections that end attention and feed-forward at zero, so that each layer starts
            as the identity. On for training from scratch: it steadies and speeds the first steps.
        context: ignored.

    Raises:
        RecipeError: the settings do not go together.
    """

    writes = True
    follows = True
    pooling = "last"

    def __init__(
        self,
        settings: recipe.Tower,
        vocab_size: int,
        *,
        max_length: int = 2048,
        cross: bool = False,
        memory_width: int | None = None,
        zero_init: bool = True,
        **context: Any,
    ) -> None:
        super().__init__(settings, vocab_size)
        self.max_length = settings.context or max_length
        self.rope_theta, self.rope_scaling = settings.rope_theta, rope_scaling(settings.rope_scaling)
        self.embed_tokens = nn.Embedding(vocab_size, self.width)
        learned = settings.positions == "learned"
        self.embed_positions = nn.Embedding(self.max_length, self.width) if learned else None
        source = (memory_width or self.width) if cross else None
        self.memory_norm = RMSNorm(source, settings.eps or EPS) if source is not None else None
        self.layers = nn.ModuleList(DecoderLayer(settings, memory_width=source) for _ in range(settings.depth))
        self.norm = make_norm(settings.norm, self.width, settings.eps or EPS)
        self.lm_head = None if settings.tied else nn.Linear(self.width, vocab_size, bias=False)
        self.head_dim = settings.head_dim or self.width // settings.heads
        self._start(zero_init)

    def embed(self, input_ids: Tensor) -> Tensor:
        """(B, L) long -> (B, L, D)."""
        out: Tensor = self.embed_tokens(input_ids)
        return out

    def forward_embeds(
        self,
        x: Tensor,
        positions: Tensor,
        mask: Tensor | None = None,
        memory: Features | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Run the layers over vectors.

        Args:
            x: (B, L, D), embedded tokens of any modality.
            positions: (B, L) or (1, L) long, where in its text each token stands.
            mask: None: causal. (B, Lk) bool: which tokens are real, on top of causal. (B, L, Lk) or (B, H or 1, L, Lk)
                bool: the whole rule, nothing is added to it (a prefix seen both ways, blocks that share a prefix).
                Lk counts the tokens already in the cache.
            memory: what cross-attention layers read; None: they are skipped.
            cache: keys and values so far, extended in place. The memory is read at the first call and kept.

        Returns:
            (B, L, D) after the last norm.

        Raises:
            DataError: positions are learned, and a text is longer than the table of them.
        """
        rotary: Rotary | None = None
        if self.embed_positions is None:
            rotary = rotary_tables(positions, self.head_dim, self.rope_theta, self.rope_scaling)
        else:
            self._check_length(positions)
            x = x + self.embed_positions(positions).to(x.dtype)
        causal = mask is None or mask.dim() == 2
        if mask is not None:
            mask = mask[:, None, None, :] if mask.dim() == 2 else mask.unsqueeze(1) if mask.dim() == 3 else mask
        tokens, memory_mask = None, None
        if memory is not None and self.memory_norm is not None:
            tokens, memory_mask = self.memory_norm(memory.tokens), memory.mask[:, None, None, :]
        for index, layer in enumerate(self.layers):
            own = cache[index] if cache is not None else None
            x = layer(x, rotary=rotary, mask=mask, causal=causal, memory=tokens, memory_mask=memory_mask, cache=own)
        out: Tensor = self.norm(x)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V)."""
        out: Tensor = F.linear(hidden, self.embed_tokens.weight) if self.lm_head is None else self.lm_head(hidden)
        return out

    def forward(self, input_ids: Tensor, mask: Tensor, segment_ids: Tensor | None = None) -> Features:
        """As a text tower: (B, L) long ids and (B, L) bool -> Features; pooled is the last real token's vector."""
        hidden = self.forward_embeds(self.embed(input_ids), positions_of(mask), mask)
        return Features(hidden, mask, last_token(hidden, mask))

    def _check_length(self, positions: Tensor) -> None:
        last = int(positions.max()) + 1 if positions.numel() else 0
        if last > self.max_length:
            do = "shorten the text, or lower text.max_length or the number of new tokens"
            raise DataError("a text", f"at most {self.max_length} tokens, as the model has positions", str(last), do)

    def _start(self, zero_init: bool) -> None:
        start_weights(self)
        if self.lm_head is not None:
            nn.init.normal_(self.lm_head.weight, std=0.02)
        if not zero_init:
            return
        for name, weight in self.layers.named_parameters():
            # not the cross-attention's: with its gate at zero as well, neither would ever get a gradient
            if name.endswith(("self_attn.o_proj.weight", "mlp.fc2.weight", "mlp.down_proj.weight")):
                nn.init.zeros_(weight)
        for module in self.layers.modules():
            # Keys start as queries: a token then looks at tokens like itself, a word at the patch that shows it.
            if isinstance(module, Attention):
                start_keys_as_queries(module)


def _feedforward(settings: recipe.Tower) -> MLP | SwiGLU:
    bias = settings.bias == "all"
    if settings.feedforward == "mlp":
        hidden = settings.hidden or 4 * settings.width
        return MLP(settings.width, hidden, settings.activation or "gelu_tanh", bias)
    return SwiGLU(settings.width, settings.hidden or swiglu_hidden(settings.width), bias)


@torch.no_grad()
def start_keys_as_queries(attention: Attention) -> None:
    """Copy the query projection into the key projection; with grouped queries, that of each group's first head."""
    if attention.k_proj.in_features != attention.q_proj.in_features:
        return  # a memory of another width has no words to compare with
    each = attention.heads // attention.kv_heads
    query = attention.q_proj.weight.view(attention.heads, attention.head_dim, -1)
    attention.k_proj.weight.copy_(query[::each].flatten(0, 1))


def positions_of(mask: Tensor) -> Tensor:
    """(B, L) bool -> (B, L) long: real tokens are counted from 0, wherever the padding is."""
    return (mask.long().cumsum(dim=1) - 1).clamp(min=0)


def last_token(hidden: Tensor, mask: Tensor) -> Tensor:
    """(B, L, D), (B, L) -> (B, D): the vector of each item's last real token; zeros where it has none."""
    steps = torch.arange(mask.shape[1], device=mask.device)
    last = (steps * mask).amax(dim=1)  # (B,)
    picked = hidden[torch.arange(len(last), device=last.device), last]
    return picked * mask.any(dim=1, keepdim=True).to(picked.dtype)
