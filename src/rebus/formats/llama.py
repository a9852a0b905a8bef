"""Llama checkpoints and the decoder: parameter names and configuration, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rebus.errors import RecipeError, WeightsError
from rebus.formats.config import decimal, demand, flag, mapping, number, shared_entries, tower_of
from rebus.formats.names import NameMap, State
from rebus.nn.feedforward import swiglu_hidden
from rebus.nn.rotary import rope_scaling
from rebus.recipe import Tower

ROWS = (
    ("embed_tokens.weight", "model.embed_tokens.weight"),
    ("layers.{n}.input_layernorm.weight", "model.layers.{n}.input_layernorm.weight"),
    ("layers.{n}.self_attn.q_proj.{p}", "model.layers.{n}.self_attn.q_proj.{p}"),
    ("layers.{n}.self_attn.k_proj.{p}", "model.layers.{n}.self_attn.k_proj.{p}"),
    ("layers.{n}.self_attn.v_proj.{p}", "model.layers.{n}.self_attn.v_proj.{p}"),
    ("layers.{n}.self_attn.o_proj.{p}", "model.layers.{n}.self_attn.o_proj.{p}"),
    ("layers.{n}.post_attention_layernorm.weight", "model.layers.{n}.post_attention_layernorm.weight"),
    ("layers.{n}.mlp.gate_proj.{p}", "model.layers.{n}.mlp.gate_proj.{p}"),
    ("layers.{n}.mlp.up_proj.{p}", "model.layers.{n}.mlp.up_proj.{p}"),
    ("layers.{n}.mlp.down_proj.{p}", "model.layers.{n}.mlp.down_proj.{p}"),
    ("norm.weight", "model.norm.weight"),
    ("lm_head.weight", "lm_head.weight"),
)
NAMES = NameMap("llama", ROWS, base="model.", ignored=r"rotary_emb\.inv_freq$")
CONTEXT = 2048  # tokens, where a configuration does not say
_EPS, _THETA = 1e-6, 10000.0


def to_hf(state: Mapping[str, Tensor]) -> State:
    """A decoder's parameters under Hugging Face's names.

    Raises:
        WeightsError: the decoder has layers that Llama has not (query and key norms, cross-attention).
    """
    return NAMES.to_hf(state)


def from_hf(state: Mapping[str, Tensor], settings: Tower) -> State:
    """A checkpoint's parameters under the decoder's names.

    Args:
        state: of a LlamaForCausalLM or LlamaModel.
        settings: the decoder's; where output weights are tied, a copy of the embeddings is left out.

    Raises:
        WeightsError: a name that Llama has not.
    """
    return untied(NAMES.from_hf(state), settings)


def config_to_hf(settings: Tower, vocab_size: int, **context: Any) -> dict[str, Any]:
    """The config.json of a decoder.

    Args:
        settings: the decoder's.
        vocab_size: rows of its embeddings.
        context: max_length (where the settings have no context), dtype, and bos_token_id, eos_token_id and
            pad_token_id of the tokenizer.
    """
    own = {"attention_bias": settings.bias in ("attention", "all"), "mlp_bias": settings.bias == "all"}
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        **shared_config(settings, vocab_size, context),
        **own,
    }


def settings_from_hf(config: Mapping[str, Any]) -> tuple[Tower, int]:
    """The decoder's settings, and the rows of its embeddings.

    Raises:
        WeightsError: the configuration asks for something that the decoder does not do.
    """
    demand(config, "llama", "model_type", ("llama",))
    attention = demand(config, "llama", "attention_bias", (False, True), False)
    mlp = demand(config, "llama", "mlp_bias", (attention, False), False)
    bias = "all" if mlp else "attention" if attention else "none"
    return shared_settings(config, "llama", qk_norm=False, bias=bias)


def untied(state: State, settings: Tower) -> State:
    """Without the copy of the embeddings that some tied checkpoints hold."""
    return {name: tensor for name, tensor in state.items() if not (settings.tied and name == "lm_head.weight")}


def shared_config(settings: Tower, vocab_size: int, context: Mapping[str, Any]) -> dict[str, Any]:
    """What Llama's and Qwen's configurations have in common."""
    scaling = dict(rope_scaling(settings.rope_scaling))
    if "original_max_position_embeddings" in scaling:
        scaling["original_max_position_embeddings"] = int(scaling["original_max_position_embeddings"])
    return {
        "hidden_size": settings.width,
        "intermediate_size": settings.hidden or swiglu_hidden(settings.width),
        "num_hidden_layers": settings.depth,
        "num_attention_heads": settings.heads,
        "num_key_value_heads": settings.kv_heads or settings.heads,
        "head_dim": settings.head_dim or settings.width // settings.heads,
        "vocab_size": vocab_size,
        "max_position_embeddings": settings.context or context.get("max_length", CONTEXT),
        "rope_theta": settings.rope_theta,  # this and the next: read by libraries from before rope_parameters
        "rope_scaling": scaling or None,
        "rope_parameters": {"rope_type": "default", **scaling, "rope_theta": settings.rope_theta},
        "rms_norm_eps": settings.eps or _EPS,
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "tie_word_embeddings": settings.tied,
        **shared_entries(context),
    }


def shared_settings(
    config: Mapping[str, Any], family: str, *, qk_norm: bool, bias: str, head_dim: int | None = None
) -> tuple[Tower, int]:
    """The other way round; ``head_dim`` is the family's own where the configuration has none."""
    demand(config, family, "hidden_act", ("silu", "swish"), "silu")
    width, heads = number(config, family, "hidden_size"), number(config, family, "num_attention_heads")
    rope = mapping(config, family, "rope_scaling") | mapping(config, family, "rope_parameters")
    for place in (config, rope):
        demand(place, family, "partial_rotary_factor", (None, 1, 1.0))
    theta = decimal(rope, family, "rope_theta", decimal(config, family, "rope_theta", _THETA))
    size = number(config, family, "head_dim", head_dim or max(1, width // heads))
    settings = tower_of(
        family,
        **{
            "kind": "decoder",
            "width": width,
            "depth": number(config, family, "num_hidden_layers"),
            "heads": heads,
            "kv_heads": number(config, family, "num_key_value_heads", heads),
            "hidden": number(config, family, "intermediate_size"),
            "head_dim": None if size * heads == width else size,
            "qk_norm": qk_norm,
            "bias": bias,
            "tied": flag(config, family, "tie_word_embeddings", False),
            "rope_theta": theta,
            "rope_scaling": _scaling(rope, family),
            "eps": decimal(config, family, "rms_norm_eps", _EPS),
            "context": number(config, family, "max_position_embeddings", CONTEXT),
        },
    )
    return settings, number(config, family, "vocab_size")


def _scaling(rope: Mapping[str, Any], family: str) -> dict[str, Any] | None:
    try:
        return dict(rope_scaling(rope)) or None
    except RecipeError as error:
        do = "this variant is not supported; use a checkpoint without it"
        raise WeightsError(f"the {family} configuration, {error.where}", error.expected, error.found, do) from error
