"""The only attention there is: scaled dot-product, self or cross, grouped-query, with rotary positions and a cache.

It knows no layers, no tokens and no positions: tables of cosines and sines are handed in.
Letters: B items, L tokens (Lq asking, Lk answering), D width, H heads, G key-value heads, K size of a head.

To see what a model looked at, run it inside ``recording()``:

    with recording() as seen:
        model(batch)
    seen[0].weights  # (B, H, Lq, Lk) of the first attention that ran
    seen[0].module   # the Attention itself, to be looked up in model.named_modules()

Rows of weights add up to 1, or to 0 where nothing may be seen.

Outside it the fused kernel is used, which never writes the weights down.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rebus.errors import RecipeError
from rebus.nn import fused_cpu
from rebus.nn.cache import LayerCache
from rebus.nn.norms import RMSNorm
from rebus.nn.rotary import Rotary, apply_rotary


@dataclass(frozen=True)
class Recorded:
    """One call of one attention.

    Attributes:
        module: which attention; whatever else looks something up by weights may record itself with ``record``.
        weights: (B, H, Lq, Lk), still attached to the graph, so that gradients with respect to them can be taken.
        values: (B, H, Lk, K); ``weights @ values`` is what goes into the output projection.
        cross: whether keys and values came from a memory.
    """

    module: nn.Module
    weights: Tensor
    values: Tensor
    cross: bool


_recorder: ContextVar[list[Recorded] | None] = ContextVar("rebus_attention_recorder", default=None)


@contextmanager
def recording() -> Iterator[list[Recorded]]:
    """Compute attention weights explicitly and keep them, in the order in which attentions run.

    Slower and needs B x H x Lq x Lk numbers a call; same outputs up to rounding. Applies to the current thread or task.
    """
    records: list[Recorded] = []
    token = _recorder.set(records)
    try:
        yield records
    finally:
        _recorder.reset(token)


def record(module: nn.Module, weights: Tensor, values: Tensor, *, cross: bool) -> None:
    """Keep one call's weights, where somebody is recording; free otherwise. See ``Recorded``."""
    records = _recorder.get()
    if records is not None:
        records.append(Recorded(module, weights, values, cross))


class Attention(nn.Module):
    """Multi-head scaled dot-product attention.

    Sources: Vaswani et al. (2017), "Attention Is All You Need"; grouped queries: Ainslie et al. (2023), "GQA";
    query and key norms: Henry et al. (2020), "Query-Key Normalization for Transformers" (here RMS norms, as Qwen3 has).

    Args:
        width: D, of the asking tokens and of the result.
        heads: H.
        kv_heads: G, divides H; None: H.
        head_dim: K; None: D / H.
        qk_norm: normalise each head's queries and keys (before the rotation).
        bias: whether the projections have biases.
        out_bias: whether the output projection has one; None: as the others.
        memory_width: width of the memory for cross-attention; None: D.
        dropout: chance of dropping a weight in training.
        eps: of the query and key norms.

    Raises:
        RecipeError: the width is not a multiple of the heads, or the heads of the key-value heads.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        kv_heads: int | None = None,
        head_dim: int | None = None,
        *,
        qk_norm: bool = False,
        bias: bool = False,
        out_bias: bool | None = None,
        memory_width: int | None = None,
        dropout: float = 0.0,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        kv_heads = kv_heads or heads
        if head_dim is None and width % heads:
            expected = "a width that is a multiple of the heads"
            raise RecipeError("attention", expected, f"width {width}, {heads} heads", "change one of them")
        if heads % kv_heads:
            expected = "heads that are a multiple of kv_heads"
            raise RecipeError("attention", expected, f"{heads} heads, {kv_heads} kv_heads", "change one of them")
        head_dim = head_dim or width // heads
        source = memory_width or width
        self.heads, self.kv_heads, self.head_dim, self.dropout = heads, kv_heads, head_dim, dropout
        self.q_proj = nn.Linear(width, heads * head_dim, bias=bias)
        self.k_proj = nn.Linear(source, kv_heads * head_dim, bias=bias)
        self.v_proj = nn.Linear(source, kv_heads * head_dim, bias=bias)
        self.o_proj = nn.Linear(heads * head_dim, width, bias=bias if out_bias is None else out_bias)
        self.q_norm = RMSNorm(head_dim, eps) if qk_norm else None
        self.k_norm = RMSNorm(head_dim, eps) if qk_norm else None

    def forward(
        self,
        x: Tensor,
        *,
        memory: Tensor | None = None,
        mask: Tensor | None = None,
        causal: bool = False,
        rotary: Rotary | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """Let each token of ``x`` look at the tokens of ``memory``, or at those of ``x``.

        Args:
            x: (B, Lq, D).
            memory: (B, Lm, memory_width) for cross-attention; None: self-attention.
            mask: bool, True where a token may be attended to; broadcasts to (B, H, Lq, Lk).
            causal: also forbid the future; the last asking token is aligned with the last answering one.
            rotary: from ``rotary_tables`` for the positions of ``x``; not used on a memory.
            cache: earlier keys and values, extended in place; Lk counts them too. With a memory: the memory's
                keys and values are computed at the first call and kept.

        Returns:
            (B, Lq, D); a token that may attend to nothing gets zeros (before the output projection's bias).
        """
        x = fused_cpu.at_precision(x)
        query = self._turned(self.q_proj(x), self.heads, self.q_norm, rotary if memory is None else None)
        if memory is None:
            key, value = self._keys_values(x, rotary)  # (B, G, L, K)
            if cache is not None:
                key, value = cache.append(key, value)
        elif cache is None:
            key, value = self._keys_values(memory, None)
        else:
            pair = cache.memory
            if pair is None:
                cache.memory = pair = self._keys_values(memory, None)
            key, value = pair
        mixed = self._mix(query, key, value, mask, causal, cross=memory is not None)  # (B, H, Lq, K)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor, heads: int) -> Tensor:
        return x.view(*x.shape[:2], heads, self.head_dim).transpose(1, 2)

    def _keys_values(self, x: Tensor, rotary: Rotary | None) -> tuple[Tensor, Tensor]:
        x = fused_cpu.at_precision(x)
        key = self._turned(self.k_proj(x), self.kv_heads, self.k_norm, rotary)
        return key, self._split(self.v_proj(x), self.kv_heads)

    def _turned(self, x: Tensor, heads: int, norm: RMSNorm | None, rotary: Rotary | None) -> Tensor:
        """(B, L, heads x K) -> (B, heads, L, K), normalised and turned where that is asked for."""
        if norm is not None and rotary is not None and fused_cpu.applies(x):
            return fused_cpu.norm_and_turn(x.view(*x.shape[:2], heads, self.head_dim), norm.weight, norm.eps, *rotary)
        split = self._split(x, heads)
        if norm is not None:
            split = norm(split)
        return split if rotary is None else apply_rotary(split, rotary)

    def _mix(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, *, cross: bool
    ) -> Tensor:
        if self.kv_heads != self.heads:
            key = key.repeat_interleave(self.heads // self.kv_heads, dim=1)
            value = value.repeat_interleave(self.heads // self.kv_heads, dim=1)
        lq, lk = query.shape[2], key.shape[2]
        dropout = self.dropout if self.training else 0.0
        records = _recorder.get()
        if causal and lq > 1 and (mask is not None or lq != lk or records is not None):
            past = causal_mask(lq, lk, query.device)
            mask, causal = (past if mask is None else mask & past), False
        causal = causal and lq > 1  # a single newest token sees everything
        if records is None:
            return _fused(query, key, value, mask, dropout, causal)
        weights = attention_weights(query, key, mask)
        records.append(Recorded(self, weights, value, cross))
        mixed: Tensor = F.dropout(weights, dropout) @ value
        return mixed


def _fused(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, causal: bool) -> Tensor:
    if query.device.type == "cpu" and query.dtype != torch.float32:
        if causal and dropout == 0.0 and fused_cpu.applies(query) and query.shape[2] <= fused_cpu.LONGEST:
            return fused_cpu.causal_attention(query, key, value)
        # The CPU kernel's backward pass in bfloat16 takes 1.4 to 5 times as long as in float32 (32 to 256 tokens).
        with torch.autocast("cpu", enabled=False):
            wide = F.scaled_dot_product_attention(
                query.float(), key.float(), value.float(), attn_mask=mask, dropout_p=dropout, is_causal=causal
            )
            return wide.to(query.dtype)
    if query.device.type == "cpu" or mask is None:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=causal)
    return fused_with_empty_rows(query, key, value, mask, dropout)


def fused_with_empty_rows(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, dropout: float = 0.0) -> Tensor:
    """Fused attention for kernels that make no promise about rows that may see nothing: these see all, then are zeroed.

    The CPU kernels give zeros by themselves, which a test holds them to.
    """
    empty = ~mask.any(dim=-1, keepdim=True)
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask | empty, dropout_p=dropout)
    return mixed.masked_fill(empty, 0.0)


def causal_mask(lq: int, lk: int, device: torch.device | None = None) -> Tensor:
    """(Lq, Lk) bool, True where asking token i may see answering token j; the last of both coincide."""
    return torch.ones(lq, lk, dtype=torch.bool, device=device).tril(lk - lq)


def attention_weights(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(K)) as (B, H, Lq, Lk); rows that may see nothing are zero."""
    scores = (query @ key.transpose(-1, -2)).float() / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0.0)
    return weights.to(query.dtype)
