"""GPT-2 checkpoints and the decoder: parameter names and configuration, both ways.

GPT-2 keeps its matrices the other way round, (in, out), and queries, keys and values in one: turned and cut here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rebus.formats.config import ACTIVATIONS, activation_to_hf, decimal, demand, flag, number, shared_entries, tower_of
from rebus.formats.llama import untied
from rebus.formats.names import NameMap, State
from rebus.recipe import Tower

_LAYER = "transformer.h.{n}"
ROWS = (
    ("embed_tokens.weight", "transformer.wte.weight"),
    ("embed_positions.weight", "transformer.wpe.weight"),
    ("layers.{n}.input_layernorm.{p}", f"{_LAYER}.ln_1.{{p}}"),
    # one tensor there, three here: packed and unpacked below
    ("layers.{n}.self_attn.in_proj.{p}", f"{_LAYER}.attn.c_attn.{{p}}"),
    ("layers.{n}.self_attn.o_proj.{p}", f"{_LAYER}.attn.c_proj.{{p}}"),
    ("layers.{n}.post_attention_layernorm.{p}", f"{_LAYER}.ln_2.{{p}}"),
    ("layers.{n}.mlp.fc1.{p}", f"{_LAYER}.mlp.c_fc.{{p}}"),
    ("layers.{n}.mlp.fc2.{p}", f"{_LAYER}.mlp.c_proj.{{p}}"),
    ("norm.{p}", "transformer.ln_f.{p}"),
    ("lm_head.weight", "lm_head.weight"),
)
# files of older libraries also hold the causal mask
NAMES = NameMap("gpt2", ROWS, base="transformer.", ignored=r"\.attn\.(masked_)?bias$")
_PARTS = ("q_proj", "k_proj", "v_proj")
_TURNED = (".in_proj.weight", ".o_proj.weight", ".fc1.weight", ".fc2.weight")


def to_hf(state: Mapping[str, Tensor]) -> State:
    """A decoder's parameters under Hugging Face's names. Raises WeightsError for layers that GPT-2 has not."""
    packed: State = {}
    for name, tensor in state.items():
        if ".self_attn.q_proj." in name:
            parts = [state[name.replace("q_proj", part)] for part in _PARTS]
            packed[name.replace("q_proj", "in_proj")] = torch.cat(parts)
        elif ".self_attn.k_proj." not in name and ".self_attn.v_proj." not in name:
            packed[name] = tensor
    return NAMES.to_hf({name: _turned(name, tensor) for name, tensor in packed.items()})


def from_hf(state: Mapping[str, Tensor], settings: Tower) -> State:
    """A checkpoint's parameters under the decoder's names.

    Args:
        state: of a GPT2LMHeadModel or GPT2Model.
        settings: the decoder's; where output weights are tied, a copy of the embeddings is left out.

    Raises:
        WeightsError: a name that GPT-2 has not.
    """
    named: State = {}
    for name, tensor in untied(NAMES.from_hf(state), settings).items():
        turned = _turned(name, tensor)
        if ".in_proj." in name and len(turned) % 3 == 0:
            for part, piece in zip(_PARTS, turned.chunk(3), strict=True):
                named[name.replace("in_proj", part)] = piece.clone()
        else:
            named[name] = turned
    return named


def config_to_hf(settings: Tower, vocab_size: int, **context: Any) -> dict[str, Any]:
    """The config.json of a decoder; see ``rebus.formats.llama.config_to_hf``."""
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), settings.dropout)
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_embd": settings.width,
        "n_layer": settings.depth,
        "n_head": settings.heads,
        "n_inner": settings.hidden or 4 * settings.width,
        "n_positions": settings.context or context.get("max_length", 1024),
        "n_ctx": settings.context or context.get("max_length", 1024),  # read by older libraries
        "vocab_size": vocab_size,
        "activation_function": activation_to_hf(settings.activation or "gelu_tanh"),
        "layer_norm_epsilon": settings.eps or 1e-6,
        "tie_word_embeddings": settings.tied,
        "scale_attn_weights": True,
        **dropout,
        **shared_entries(context),
    }


def settings_from_hf(config: Mapping[str, Any]) -> tuple[Tower, int]:
    """The decoder's settings, and the rows of its embeddings.

    Raises:
        WeightsError: the configuration asks for something that the decoder does not do.
    """
    demand(config, "gpt2", "model_type", ("gpt2",))
    demand(config, "gpt2", "scale_attn_weights", (True,), True)
    demand(config, "gpt2", "scale_attn_by_inverse_layer_idx", (False,), False)
    demand(config, "gpt2", "add_cross_attention", (False,), False)
    activation = demand(config, "gpt2", "activation_function", tuple(ACTIVATIONS), "gelu_new")
    width, heads = number(config, "gpt2", "n_embd", 768), number(config, "gpt2", "n_head", 12)
    settings = tower_of(
        "gpt2",
        kind="decoder",
        width=width,
        depth=number(config, "gpt2", "n_layer", 12),
        heads=heads,
        kv_heads=heads,
        hidden=number(config, "gpt2", "n_inner", 4 * width),
        qk_norm=False,
        tied=flag(config, "gpt2", "tie_word_embeddings", True),
        eps=decimal(config, "gpt2", "layer_norm_epsilon", 1e-5),
        bias="all",
        norm="layer",
        feedforward="mlp",
        activation=ACTIVATIONS[activation],
        positions="learned",
        context=number(config, "gpt2", "n_positions", 1024),
    )
    return settings, number(config, "gpt2", "vocab_size", 50257)


def _turned(name: str, tensor: Tensor) -> Tensor:
    return tensor.T.contiguous() if name.endswith(_TURNED) and tensor.dim() == 2 else tensor
