"""What the engine asks of a decoder, and which decoders may be computed by other code than their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from rebus.models.features import Features
from rebus.models.towers.decoder import Decoder, DecoderLayer
from rebus.nn.attention import Attention
from rebus.nn.cache import Cache
from rebus.nn.feedforward import MLP, SwiGLU
from rebus.nn.lora import LoraLinear
from rebus.nn.norms import RMSNorm

Role = tuple[nn.Module | None, tuple[type[nn.Module], ...]]
LINEAR, NORM = (nn.Linear, LoraLinear), (RMSNorm, nn.LayerNorm)


class DecoderBackend(Protocol):
    """Runs a decoder. Letters: R texts, L tokens, D width, V vocabulary.

    Attributes:
        decoder: which.
        attends: whether it can read a memory.
        device, dtype: of ids and masks, and of the vectors.
        max_length: places there are, where it is ``bounded``: it has no positions beyond.
    """

    attends: bool
    decoder: Decoder
    max_length: int
    vocab_size: int
    bounded: bool
    device: torch.device
    dtype: torch.dtype

    def embed(self, input_ids: Tensor) -> Tensor:
        """(R, L) long -> (R, L, D)."""
        ...

    def forward_embeds(
        self, x: Tensor, positions: Tensor, mask: Tensor | None, memory: Features | None, cache: Cache
    ) -> Tensor:
        """(R, L, D) -> (R, L, D), keys and values put into the cache; mask (R, 1, L, Lk) bool, None: causal."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V)."""
        ...


def supported(decoder: Decoder) -> bool:
    """Whether a decoder's mathematics is what ``packed`` and ``compiled`` have written out: each part is of exactly
    the class that is known there. A subclass, a replaced forward or a hook may compute anything.
    """
    exact = all(module is None or (type(module) in types and _own_forward(module)) for module, types in _roles(decoder))
    return exact and all(_alike_norms(cast(DecoderLayer, layer)) for layer in decoder.layers)


def _roles(decoder: Decoder) -> Iterator[Role]:
    yield decoder, (Decoder,)
    yield decoder.embed_tokens, (nn.Embedding,)
    yield decoder.embed_positions, (nn.Embedding,)
    yield decoder.norm, NORM
    yield decoder.lm_head, LINEAR
    for layer in decoder.layers:
        yield layer, (DecoderLayer,)
        if not isinstance(layer, DecoderLayer):
            continue
        yield layer.input_layernorm, NORM
        yield layer.post_attention_layernorm, NORM
        yield layer.self_attn, (Attention,)
        yield layer.mlp, (MLP, SwiGLU)
        for name, part in [*layer.self_attn.named_children(), *layer.mlp.named_children()]:
            yield part, (RMSNorm,) if name in ("q_norm", "k_norm") else LINEAR


def _alike_norms(layer: DecoderLayer) -> bool:
    """Compiled code knows one kind of norm and one epsilon a layer."""
    norms: list[Any] = [layer.input_layernorm, layer.post_attention_layernorm]
    inner = [norm for norm in (layer.self_attn.q_norm, layer.self_attn.k_norm) if norm is not None]
    return type(norms[0]) is type(norms[1]) and len({norm.eps for norm in [*norms, *inner]}) == 1


def _own_forward(module: nn.Module) -> bool:
    hooks = (module._forward_hooks, module._forward_pre_hooks)
    affine = not isinstance(module, nn.LayerNorm) or (module.weight is not None and module.bias is not None)
    plain = not isinstance(module, nn.Embedding) or module.max_norm is None
    return "forward" not in vars(module) and not any(hooks) and affine and plain
