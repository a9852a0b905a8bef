"""Llama checkpoints and the decoder: parameter names and configuration, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rebus.formats.config import demand, number
from rebus.formats.names import NameMap, State
from rebus.nn.feedforward import swiglu_hidden
from rebus.recipe import Tower

ROWS = (
    ("embed_tokens.weight", "model.embed_tokens.weight"),
    ("layers.{n}.input_layernorm.weight", "model.layers.{n}.input_layernorm.weight"),
    ("layers.{n}.self_attn.q_proj.{p}", "model.layers.{n}.self_attn.q_proj.{p}"),
    ("layers.{n}.self_attn.k_proj.{p}", "model.layers.{n}.self_attn.k_proj.{p}"),
    ("layers.{n}.self_attn.v_proj.{p}", "model.layers.{n}.self_attn.v_proj.{p}"),
    ("layers.{n}.self_attn.o_proj.{p}", "model.layers.{n}.self_attn.o_proj.{p}"),
    ("layers.{n}.post_attention_layernorm.weight", "model.layers.{n}.post_attention_layernorm.weight"),
    ("layers.{n}.mlp.gate_proj.weight", "model.layers.{n}.mlp.gate_proj.weight"),
    ("layers.{n}.mlp.up_proj.weight", "model.layers.{n}.mlp.up_proj.weight"),
    ("layers.{n}.mlp.down_proj.weight", "model.layers.{n}.mlp.down_proj.weight"),
    ("norm.weight", "model.norm.weight"),
    ("lm_head.weight", "lm_head.weight"),
)
NAMES = NameMap("llama", ROWS, base="model.", ignored=r"rotary_emb\.inv_freq$")


def to_hf(state: Mapping[str, Tensor]) -> State:
    """A decoder's parameters under Hugging Face's names.

    Raises:
        WeightsError: the decoder has layers that Llama has not (query and key norms, cross-attention).
    """
    return NAMES.to_hf(state)


def from_hf(state: Mapping[str, Tensor], tied: bool = False) -> State:
    """A checkpoint's parameters under the decoder's names.

    Args:
        state: of a LlamaForCausalLM or LlamaModel.
        tied: the output weights are the embeddings; a copy in the checkpoint is left out.

    Raises:
        WeightsError: a name that Llama has not.
    """
    return untied(NAMES.from_hf(state), tied)


def config_to_hf(settings: Tower, **context: Any) -> dict[str, Any]:
    """The config.json of a decoder.

    Args:
        settings: the decoder's.
        context: what else it was built with: vocab_size, max_length, rope_theta, eps, head_dim, bias; and
            bos_token_id, eos_token_id, pad_token_id of the tokenizer.
    """
    common = shared_config(settings, context)
    return {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "mlp_bias": False, **common}


def settings_from_hf(config: Mapping[str, Any]) -> tuple[Tower, dict[str, Any]]:
    """The decoder's settings, and the keyword arguments that it is built with beside them.

    Raises:
        WeightsError: the configuration asks for something that the decoder does not do.
    """
    demand(config, "llama", "model_type", ("llama",))
    demand(config, "llama", "mlp_bias", (False,), False)
    return shared_settings(config, "llama", qk_norm=False)


def untied(state: State, tied: bool) -> State:
    """Without the copy of the embeddings that some tied checkpoints hold."""
    return {name: tensor for name, tensor in state.items() if not (tied and name == "lm_head.weight")}


def shared_config(settings: Tower, context: Mapping[str, Any]) -> dict[str, Any]:
    """What Llama's and Qwen3's configurations have in common."""
    theta = float(context.get("rope_theta", 10000.0))
    tokens = {key: context[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id") if key in context}
    return {
        "hidden_size": settings.width,
        "intermediate_size": settings.hidden or swiglu_hidden(settings.width),
        "num_hidden_layers": settings.depth,
        "num_attention_heads": settings.heads,
        "num_key_value_heads": settings.kv_heads or settings.heads,
        "head_dim": context.get("head_dim") or settings.width // settings.heads,
        "vocab_size": context["vocab_size"],
        "max_position_embeddings": context.get("max_length", 2048),
        "rope_theta": theta,  # read by older libraries
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "rms_norm_eps": context.get("eps", 1e-6),
        "attention_bias": bool(context.get("bias", False)),
        "hidden_act": "silu",
        "tie_word_embeddings": settings.tied,
        **tokens,
    }


def shared_settings(config: Mapping[str, Any], family: str, *, qk_norm: bool) -> tuple[Tower, dict[str, Any]]:
    """The other way round."""
    demand(config, family, "hidden_act", ("silu", "swish"), "silu")
    rope = dict(config.get("rope_scaling") or {}) | dict(config.get("rope_parameters") or {})
    demand({"rope_type": rope.get("rope_type", rope.get("type", "default"))}, family, "rope_type", ("default",))
    width, heads = number(config, family, "hidden_size"), number(config, family, "num_attention_heads")
    settings = Tower(
        kind="decoder",
        width=width,
        depth=number(config, family, "num_hidden_layers"),
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        hidden=number(config, family, "intermediate_size"),
        qk_norm=qk_norm,
        tied=bool(config.get("tie_word_embeddings", False)),
    )
    context = {
        "vocab_size": number(config, family, "vocab_size"),
        "max_length": config.get("max_position_embeddings", 2048),
        "rope_theta": float(rope.get("rope_theta", config.get("rope_theta", 10000.0))),
        "head_dim": config.get("head_dim") or width // heads,
        "eps": config.get("rms_norm_eps", 1e-6),
        "bias": bool(config.get("attention_bias", False)),
    }
    return settings, context
