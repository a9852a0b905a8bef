"""A decoder prepared for writing fast: the same numbers up to rounding, in a layout that suits one token at a time.

The fast path, all of it. What makes it fast, the most important first:

- On a CPU, writing a token is reading every weight once, so weights are laid out as oneDNN likes them ("packed"), which
  reads them about twice as fast as a plain linear layer does; they can be held in bfloat16, half the bytes.
- Queries, keys and values are one product, as are the two halves of SwiGLU; residuals are added by the product itself.
- Grouped queries attend as if they were several positions of one head, so that no key is repeated.
- Rotary positions and masks are computed once a token, not once a layer.

Linear layers are copied: what changes in them afterwards does not reach the copy. Layers that attend to a memory are
left to the decoder itself. Letters: B items, L tokens, D width, H heads, G key-value heads, K size of a head, V
vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rebus.generation.decoders.backend import supported
from rebus.generation.decoders.eager import EagerDecoder
from rebus.models.features import Features
from rebus.models.towers.decoder import Decoder, DecoderLayer
from rebus.nn.attention import causal_mask
from rebus.nn.cache import Cache, LayerCache
from rebus.nn.feedforward import ACTIVATIONS, SwiGLU
from rebus.nn.lora import folded
from rebus.nn.rotary import rotary_tables

PACKED_FOR = 8  # rows of the product that the packed layout is chosen for; measured best for 1 to 64 rows alike


MakeProduct = Callable[[Sequence[nn.Module], torch.dtype], "Product"]


class PackedDecoder(EagerDecoder):
    """A ``DecoderBackend`` made of a decoder's weights; no memory.

    Args:
        decoder: stays as it is, and must not change.
        product: makes one product of several linear layers; unless given, as PyTorch has it.

    Raises:
        TypeError: a part is of a class whose mathematics is not written out here.
    """

    attends = False

    def __init__(self, decoder: Decoder, product: MakeProduct | None = None) -> None:
        super().__init__(decoder)
        if not supported(decoder):
            raise TypeError("this decoder has parts that only their own forward computes: use EagerDecoder")
        product = product or Packed
        with torch.inference_mode():
            self._layers = [_Layer(cast(DecoderLayer, layer), self.dtype, product) for layer in decoder.layers]
            self._head = product([decoder.embed_tokens if decoder.lm_head is None else decoder.lm_head], self.dtype)

    def forward_embeds(
        self, x: Tensor, positions: Tensor, mask: Tensor | None, memory: Features | None, cache: Cache
    ) -> Tensor:
        """As ``Decoder.forward_embeds``, with a mask (B, 1, L, Lk) bool or none, and no memory."""
        items, length = x.shape[:2]
        decoder, rotary = self.decoder, None
        if decoder.embed_positions is not None:
            x = x + decoder.embed_positions(positions)
        else:
            cos, sin = rotary_tables(positions, decoder.head_dim, decoder.rope_theta, decoder.rope_scaling)
            signed = torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)
            rotary = signed[0].transpose(1, 2).to(self.dtype), signed[1].transpose(1, 2).to(self.dtype)  # (B, L, 1, K)
        bias = None
        if mask is None and length > 1:
            mask = causal_mask(length, cache.length + length, x.device)
        if mask is not None:
            bias = torch.zeros(mask.shape, dtype=x.dtype, device=x.device).masked_fill_(~mask, float("-inf"))
        flat = x.reshape(items * length, -1)
        for index, layer in enumerate(self._layers):
            flat = layer(flat, items, rotary, bias, cache[index])
        out: Tensor = decoder.norm(flat)
        return out.view(items, length, -1)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V)."""
        return self._head(hidden)


class _Layer:
    """One decoder layer over rows: (N, D) -> (N, D)."""

    def __init__(self, layer: DecoderLayer, dtype: torch.dtype, product: MakeProduct) -> None:
        attention = layer.self_attn
        self.heads, self.kv_heads, self.head_dim = attention.heads, attention.kv_heads, attention.head_dim
        self.before, self.between = layer.input_layernorm, layer.post_attention_layernorm
        self.qkv = product([attention.q_proj, attention.k_proj, attention.v_proj], dtype)
        self.q_norm, self.k_norm = attention.q_norm, attention.k_norm
        self.out = product([attention.o_proj], dtype)
        mlp = layer.mlp
        self.act: Callable[[Tensor], Tensor] | None = None
        if isinstance(mlp, SwiGLU):
            self.up, self.down = product([mlp.gate_proj, mlp.up_proj], dtype), product([mlp.down_proj], dtype)
        else:
            self.up, self.down = product([mlp.fc1], dtype), product([mlp.fc2], dtype)
            self.act = ACTIVATIONS[mlp.activation]

    def __call__(
        self, x: Tensor, items: int, rotary: tuple[Tensor, Tensor] | None, bias: Tensor | None, cache: LayerCache
    ) -> Tensor:
        x = self.out.add(self._attend(self.qkv(self.before(x)), items, rotary, bias, cache), x)
        inner = self.up(self.between(x))
        if self.act is None:
            gate, up = inner.chunk(2, dim=-1)
            inner = F.silu(gate).mul_(up)
        else:
            inner = self.act(inner)
        return self.down.add(inner, x)

    def _attend(
        self, qkv: Tensor, items: int, rotary: tuple[Tensor, Tensor] | None, bias: Tensor | None, cache: LayerCache
    ) -> Tensor:
        heads, groups, size = self.heads, self.kv_heads, self.head_dim
        parts = qkv.view(items, -1, heads + 2 * groups, size)  # (B, L, H + 2G, K)
        both, value = parts[:, :, : heads + groups], parts[:, :, heads + groups :]
        if self.q_norm is not None and self.k_norm is not None:
            both = torch.cat([self.q_norm(both[:, :, :heads]), self.k_norm(both[:, :, heads:])], dim=2)
        if rotary is not None:
            both = torch.addcmul(both * rotary[0], both.roll(size // 2, -1), rotary[1])
        query, key = both[:, :, :heads], both[:, :, heads:].transpose(1, 2)
        keys, values = cache.append(key, value.transpose(1, 2))  # (B, G, Lk, K)
        length, each = query.shape[1], heads // groups
        if length == 1:
            # the heads of a group as positions of one head: (B, G, H/G, K)
            mixed = F.scaled_dot_product_attention(query.view(items, groups, each, size), keys, values, attn_mask=bias)
            return mixed.reshape(items, heads * size)
        if each > 1:
            keys, values = keys.repeat_interleave(each, dim=1), values.repeat_interleave(each, dim=1)
        mixed = F.scaled_dot_product_attention(query.transpose(1, 2), keys, values, attn_mask=bias)
        return mixed.transpose(1, 2).reshape(items * length, heads * size)


class Product(Protocol):
    """Linear layers of one input, their outputs one after the other."""

    def __call__(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        ...

    def add(self, x: Tensor, to: Tensor) -> Tensor:
        """The product, added to ``to``."""
        ...


class Packed:
    """Several linear layers of one input as one product, packed where oneDNN is there for it.

    Args:
        layers: linear layers, or the embedding that is tied to what is predicted.
        dtype: of the copy.
    """

    def __init__(self, layers: Sequence[nn.Module], dtype: torch.dtype) -> None:
        weights, biases = zip(*(weight_and_bias(layer) for layer in layers), strict=True)
        weight = torch.cat(weights).to(dtype).contiguous()
        present = [bias for bias in biases if bias is not None]
        if present and len(present) < len(biases):
            present = [w.new_zeros(len(w)) if b is None else b for w, b in zip(weights, biases, strict=True)]
        self.bias = torch.cat(present).to(dtype) if present else None
        able = weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.bfloat16)
        self.packed = able and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, PACKED_FOR) if self.packed else weight

    def __call__(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        if not self.packed:
            return F.linear(x, self.weight, self.bias)
        out: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, self.weight, self.bias, "none", [], "")
        return out

    def add(self, x: Tensor, to: Tensor) -> Tensor:
        """The product, added to ``to``."""
        if not self.packed:
            return F.linear(x, self.weight, self.bias).add_(to)
        out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, to, self.weight, self.bias, "add")
        return out


def weight_and_bias(layer: nn.Module) -> tuple[Tensor, Tensor | None]:
    """(out, in) and (out,), adapters folded in."""
    if isinstance(layer, nn.Embedding):
        return layer.weight.detach(), None
    assert isinstance(layer, nn.Linear)  # noqa: S101 - a decoder has no others
    return folded(layer).detach(), None if layer.bias is None else layer.bias.detach()
