"""A decoder prepared for writing fast: the same numbers up to rounding, in a layout that suits one token at a time.

The fast path, all of it. What makes it fast, the most important first:

- On a CPU, writing a token is reading every weight once, so weights are laid out as oneDNN likes them ("packed"), which
  reads them about twice as fast as a plain linear layer does; they can be held in bfloat16, half the bytes.
- Queries, keys and values are one product, as are the two halves of SwiGLU; residuals are added by the product itself.
- Grouped queries attend as if they were several positions of one head, so that no key is repeated.
- Tables of rotary positions are computed once; masks are made once a token, not once a layer.

It is a copy: what changes in the decoder afterwards does not reach it. Layers that attend to a memory are left to the
decoder itself. Letters: B items, L tokens, D width, H heads, G key-value heads, K size of a head, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rebus.generation.decoders.backend import supported
from rebus.models.features import Features
from rebus.models.towers.decoder import Decoder, DecoderLayer
from rebus.nn.attention import causal_mask
from rebus.nn.cache import Cache, LayerCache
from rebus.nn.feedforward import ACTIVATIONS, SwiGLU
from rebus.nn.lora import folded
from rebus.nn.norms import RMSNorm
from rebus.nn.rotary import rotary_tables

PACKED_FOR = 8  # rows of the product that the packed layout is chosen for; measured best for 1 to 64 rows alike


MakeProduct = Callable[[Sequence[nn.Module], torch.dtype], "Product"]


class PackedDecoder:
    """A ``DecoderBackend`` made of a decoder's weights.

    Args:
        decoder: stays as it is; float32 or bfloat16.
        product: makes one product of several linear layers; unless given, as PyTorch has it.

    Raises:
        TypeError: a part is of a class whose mathematics is not written out here.
    """

    def __init__(self, decoder: Decoder, product: MakeProduct | None = None) -> None:
        if not supported(decoder):
            raise TypeError("this decoder has parts that only their own forward computes: use EagerDecoder")
        weight = decoder.embed_tokens.weight
        self.device, self.dtype = weight.device, weight.dtype
        self.max_length, self.vocab_size = decoder.max_length, decoder.vocab_size
        self.bounded = decoder.embed_positions is not None
        self.decoder, self._tables = decoder, (torch.empty(0), torch.empty(0))
        product = product or Packed
        with torch.inference_mode():
            self._embeddings = weight.detach().to(self.dtype)
            places = decoder.embed_positions
            self._places = None if places is None else places.weight.detach().to(self.dtype)
            self._layers = [_Layer(cast(DecoderLayer, layer), self.dtype, product) for layer in decoder.layers]
            self._norm = _norm(decoder.norm, self.dtype)
            self._head = product([decoder.embed_tokens if decoder.lm_head is None else decoder.lm_head], self.dtype)

    def embed(self, input_ids: Tensor) -> Tensor:
        """(B, L) long -> (B, L, D)."""
        return F.embedding(input_ids, self._embeddings)

    def forward_embeds(
        self, x: Tensor, positions: Tensor, mask: Tensor | None, memory: Features | None, cache: Cache
    ) -> Tensor:
        """As ``Decoder.forward_embeds``, with a mask (B, 1, L, Lk) bool or none, and no memory."""
        assert memory is None  # noqa: S101 - the engine asks the decoder itself where there is one
        items, length = x.shape[:2]
        rotary = None
        if self._places is not None:
            x = x + F.embedding(positions, self._places)
        else:
            rotary = self._rotary(positions)
        if mask is None and length > 1:
            mask = causal_mask(length, cache.length + length, x.device)
        bias = None if mask is None else _as_bias(mask, x.dtype)
        flat = x.reshape(items * length, -1)
        for index, layer in enumerate(self._layers):
            flat = layer(flat, items, rotary, bias, cache[index])
        return self._norm(flat).view(items, length, -1)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V)."""
        return self._head(hidden)

    def _rotary(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines (B, L, 1, K), looked up in tables that grow as texts do."""
        if positions.numel() and (last := int(positions.max())) >= len(self._tables[0]):
            decoder = self.decoder
            every = torch.arange(max(2 * last, 256), device=self.device)[None]
            cos, sin = rotary_tables(every, decoder.head_dim, decoder.rope_theta, decoder.rope_scaling)
            self._tables = (
                torch.cat([cos, cos], dim=-1)[0, 0, :, None].to(self.dtype),
                torch.cat([-sin, sin], dim=-1)[0, 0, :, None].to(self.dtype),
            )
        return self._tables[0][positions], self._tables[1][positions]


class _Layer:
    """One decoder layer over rows: (N, D) -> (N, D)."""

    def __init__(self, layer: DecoderLayer, dtype: torch.dtype, product: MakeProduct) -> None:
        attention = layer.self_attn
        self.heads, self.kv_heads, self.head_dim = attention.heads, attention.kv_heads, attention.head_dim
        self.before = _norm(layer.input_layernorm, dtype)
        self.qkv = product([attention.q_proj, attention.k_proj, attention.v_proj], dtype)
        self.q_norm = None if attention.q_norm is None else _norm(attention.q_norm, dtype)
        self.k_norm = None if attention.k_norm is None else _norm(attention.k_norm, dtype)
        self.out = product([attention.o_proj], dtype)
        self.between = _norm(layer.post_attention_layernorm, dtype)
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


def _norm(module: nn.Module, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """The norm over the last dimension as a function; statistics are taken in float32."""
    if isinstance(module, nn.LayerNorm):
        shape, eps = module.normalized_shape, module.eps
        weight, bias = module.weight.detach().to(dtype), module.bias.detach().to(dtype)
        return lambda x: F.layer_norm(x, shape, weight, bias, eps)
    assert isinstance(module, RMSNorm)  # noqa: S101 - make_norm knows these two
    scale, count = module.weight.detach().to(dtype), module.weight.numel()
    exact = torch.promote_types(dtype, torch.float32)
    base = torch.full((), module.eps, dtype=exact, device=scale.device)

    def rms(x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=exact)
        root = torch.addcmul(base, length, length, value=1 / count).rsqrt_()
        return (x * root).to(dtype).mul_(scale)

    return rms


def _as_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A bool mask as numbers to be added to scores; rows that may see nothing see all, since nothing reads them."""
    if mask.dim() == 2:
        mask = mask[None, None]
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return bias.masked_fill_(~mask & mask.any(dim=-1, keepdim=True), float("-inf"))
