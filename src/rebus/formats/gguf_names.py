"""GGUF's names of tensors and settings against Hugging Face's, one table an architecture, read both ways.

It knows no files. llama.cpp turns pairs of neighbours where Hugging Face's Llama turns halves of a head, so the rows of
Llama's queries and keys are reordered on the way; Qwen's are not. GPT-2's matrices are transposed, as its own are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from rebus.errors import WeightsError
from rebus.formats.config import Fields
from rebus.formats.names import NameMap
from rebus.nn.rotary import rope_scaling, rotary_tables

_L = "model.layers.{n}"
_LLAMA = (
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("blk.{n}.attn_norm.weight", f"{_L}.input_layernorm.weight"),
    ("blk.{n}.attn_q.{p}", f"{_L}.self_attn.q_proj.{{p}}"),
    ("blk.{n}.attn_k.{p}", f"{_L}.self_attn.k_proj.{{p}}"),
    ("blk.{n}.attn_v.{p}", f"{_L}.self_attn.v_proj.{{p}}"),
    ("blk.{n}.attn_output.{p}", f"{_L}.self_attn.o_proj.{{p}}"),
    ("blk.{n}.ffn_norm.weight", f"{_L}.post_attention_layernorm.weight"),
    ("blk.{n}.ffn_gate.{p}", f"{_L}.mlp.gate_proj.{{p}}"),
    ("blk.{n}.ffn_up.{p}", f"{_L}.mlp.up_proj.{{p}}"),
    ("blk.{n}.ffn_down.{p}", f"{_L}.mlp.down_proj.{{p}}"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
)
_QWEN3 = (
    *_LLAMA,
    ("blk.{n}.attn_q_norm.weight", f"{_L}.self_attn.q_norm.weight"),
    ("blk.{n}.attn_k_norm.weight", f"{_L}.self_attn.k_norm.weight"),
)
_H = "transformer.h.{n}"
_GPT2 = (
    ("token_embd.weight", "transformer.wte.weight"),
    ("position_embd.weight", "transformer.wpe.weight"),
    ("blk.{n}.attn_norm.{p}", f"{_H}.ln_1.{{p}}"),
    ("blk.{n}.attn_qkv.{p}", f"{_H}.attn.c_attn.{{p}}"),
    ("blk.{n}.attn_output.{p}", f"{_H}.attn.c_proj.{{p}}"),
    ("blk.{n}.ffn_norm.{p}", f"{_H}.ln_2.{{p}}"),
    ("blk.{n}.ffn_up.{p}", f"{_H}.mlp.c_fc.{{p}}"),
    ("blk.{n}.ffn_down.{p}", f"{_H}.mlp.c_proj.{{p}}"),
    ("output_norm.{p}", "transformer.ln_f.{p}"),
    ("output.weight", "lm_head.weight"),
)
MAPS = {
    "llama": NameMap("GGUF llama", _LLAMA, base="model."),
    "qwen2": NameMap("GGUF qwen2", _LLAMA, base="model."),
    "qwen3": NameMap("GGUF qwen3", _QWEN3, base="model."),
    "gpt2": NameMap("GGUF gpt2", _GPT2, base="transformer."),
}
CLASSES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gpt2": "GPT2LMHeadModel",
}
ROPE = "rope_freqs.weight"  # (head_dim / 2,): what Llama 3 divides its frequencies by
_FACTORS = (
    *("logit_scale", "residual_scale", "embedding_scale", "attention.scale", "attention.clamp_kqv"),
    *("attention.max_alibi_bias", "final_logit_softcapping", "attn_logit_softcapping", "rope.scaling.attn_factor"),
)
_TURNED = ("attn_qkv.weight", "attn_output.weight", "ffn_up.weight", "ffn_down.weight")
# What Llama 3's releases share; a file holds only the divisors, from which the rest is found.
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
_LENGTHS = tuple(2**power for power in range(13, 18)) + tuple(2**power for power in range(4, 13))


def tensor_from_gguf(name: str, tensor: Tensor, config: Mapping[str, Any]) -> Tensor:
    """A tensor under the GGUF name ``name`` as Hugging Face has it, for a ``config`` in its terms."""
    model = config["model_type"]
    if model == "gpt2" and name.endswith(_TURNED):
        return tensor.T.contiguous()
    heads = _paired(name, config)
    if heads:
        if tensor.shape[0] % (2 * heads):
            expected, do = f"rows of {heads} heads in pairs", "fetch the file again"
            raise WeightsError(f"'{name}'", expected, str(tuple(tensor.shape)), do)
        return tensor.reshape(heads, -1, 2, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)
    return tensor


def tensor_to_gguf(name: str, tensor: Tensor, config: Mapping[str, Any]) -> Tensor:
    """The other way round; ``name`` is the GGUF name."""
    if config["model_type"] == "gpt2" and name.endswith(_TURNED):
        return tensor.T.contiguous()
    heads = _paired(name, config)
    if heads:
        return tensor.reshape(heads, 2, -1, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)
    return tensor


def _paired(name: str, config: Mapping[str, Any]) -> int:
    """How many heads' rows are reordered in a tensor; 0: none."""
    if config["model_type"] != "llama":
        return 0
    if ".attn_q." in name:
        return int(config["num_attention_heads"])
    return int(config["num_key_value_heads"]) if ".attn_k." in name else 0


def config_from_gguf(arch: str, read: Any, rows: int, names: set[str], factors: Tensor | None) -> dict[str, Any]:
    """A file's settings as config.json says them.

    Args:
        arch: a key of ``MAPS``.
        read: (key without the architecture, type, default or ``...`` where it must be there) -> value.
        rows: of the embeddings.
        names: of all tensors.
        factors: the tensor ``ROPE``, where there is one.

    Raises:
        WeightsError: the file asks for something that no such model of Hugging Face does.
    """
    width, heads = read("embedding_length", int, ...), read("attention.head_count", int, ...)
    tied = "output.weight" not in names
    common: dict[str, Any] = {
        "model_type": arch,
        "architectures": [CLASSES[arch]],
        "vocab_size": rows,
        "tie_word_embeddings": tied,
    }
    if arch == "gpt2":
        return {
            **common,
            "n_embd": width,
            "n_layer": read("block_count", int, ...),
            "n_head": heads,
            "n_inner": read("feed_forward_length", int, 4 * width),
            "n_positions": read("context_length", int, ...),
            "layer_norm_epsilon": _short(read("attention.layer_norm_epsilon", float, 1e-5)),
            "activation_function": "gelu_new",
        }
    theta = _short(read("rope.freq_base", float, 10000.0))
    size = read("attention.key_length", int, width // max(heads, 1))
    _refuse_others(read, size)
    scaling = _scaling(read, factors, size, theta)
    bias = "blk.0.attn_q.bias" in names
    more: dict[str, Any] = {"mlp_bias": "blk.0.ffn_up.bias" in names} if arch == "llama" else {}
    if arch == "llama" and bias and "blk.0.attn_output.bias" not in names:
        do = "this variant is not supported; use a model without biases on queries, keys and values alone"
        raise WeightsError("the GGUF file", "biases on all of attention or on none", "some", do)
    return {
        **common,
        "hidden_size": width,
        "intermediate_size": read("feed_forward_length", int, ...),
        "num_hidden_layers": read("block_count", int, ...),
        "num_attention_heads": heads,
        "num_key_value_heads": read("attention.head_count_kv", int, heads),
        "head_dim": size,
        "max_position_embeddings": read("context_length", int, 2048),
        "rms_norm_eps": _short(read("attention.layer_norm_rms_epsilon", float, ...)),
        "hidden_act": "silu",
        "attention_bias": bias and arch != "qwen2",
        "rope_theta": theta,
        "rope_scaling": scaling or None,
        "rope_parameters": {"rope_type": "default", **scaling, "rope_theta": theta},
        **more,
    }


def _refuse_others(read: Any, size: int) -> None:
    """Raise WeightsError for settings that change what is computed and have no counterpart here."""
    do = "this variant is not supported; use a model without it"
    for key in ("attention.value_length", "rope.dimension_count"):
        if read(key, int, size) != size:
            raise WeightsError(f"the GGUF file, '{key}'", f"{size}, the size of a head", str(read(key, int, size)), do)
    window, context = read("attention.sliding_window", int, 0), read("context_length", int, 2048)
    if 0 < window < context:
        expected = f"none, or at least the context, {context}"
        raise WeightsError("the GGUF file, 'attention.sliding_window'", expected, str(window), do)
    for key in _FACTORS:
        if read(key, float, 0.0):
            raise WeightsError(f"the GGUF file, '{key}'", "none", str(read(key, float, 0.0)), do)


def settings_to_gguf(config: Mapping[str, Any], rows: int) -> Iterator[tuple[str, str, Any]]:
    """(key without the architecture, uint32 or float32 or string, value) of a config.json.

    Raises:
        WeightsError: an activation that llama.cpp's GPT-2 does not compute.
    """
    if config["model_type"] == "gpt2":
        Fields(config, "gpt2").demand("activation_function", ("gelu_new", "gelu_pytorch_tanh"), "gelu_new")
        width, heads = config["n_embd"], config["n_head"]
        yield "context_length", "uint32", config["n_positions"]
        yield "block_count", "uint32", config["n_layer"]
        yield "feed_forward_length", "uint32", config.get("n_inner") or 4 * width
        yield "attention.layer_norm_epsilon", "float32", config.get("layer_norm_epsilon", 1e-5)
    else:
        width, heads = config["hidden_size"], config["num_attention_heads"]
        size = config.get("head_dim") or width // heads
        rope = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
        yield "context_length", "uint32", config["max_position_embeddings"]
        yield "block_count", "uint32", config["num_hidden_layers"]
        yield "feed_forward_length", "uint32", config["intermediate_size"]
        yield "attention.head_count_kv", "uint32", config.get("num_key_value_heads") or heads
        yield "attention.layer_norm_rms_epsilon", "float32", config["rms_norm_eps"]
        yield "attention.key_length", "uint32", size
        yield "attention.value_length", "uint32", size
        yield "rope.dimension_count", "uint32", size
        yield "rope.freq_base", "float32", rope.get("rope_theta", config.get("rope_theta", 10000.0))
        if rope.get("rope_type") == "linear":
            yield "rope.scaling.type", "string", "linear"
            yield "rope.scaling.factor", "float32", rope["factor"]
    yield "embedding_length", "uint32", width
    yield "attention.head_count", "uint32", heads
    yield "vocab_size", "uint32", rows


def rope_factors(config: Mapping[str, Any]) -> Tensor | None:
    """(head_dim / 2,) what Llama 3's scaling divides each frequency by; None: there is no such scaling."""
    if config["model_type"] == "gpt2":
        return None
    rope = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    if rope.get("rope_type", rope.get("type")) != "llama3":
        return None
    size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    theta = float(rope.get("rope_theta", config.get("rope_theta", 10000.0)))
    return _divisors(size, theta, rope)


def _scaling(read: Any, factors: Tensor | None, size: int, theta: float) -> dict[str, Any]:
    kind = read("rope.scaling.type", str, "linear")  # the default of llama.cpp, where there is a factor
    if kind not in ("none", "linear"):
        do = "this variant is not supported; use a model without it"
        raise WeightsError("the GGUF file, 'rope.scaling.type'", "none or linear", f"'{kind}'", do)
    if factors is not None:
        given = factors.float()
        for length in _LENGTHS:  # the longest waves are divided by the whole factor
            result = {"rope_type": "llama3", "factor": _short(float(given.max())), **_LLAMA3}
            result |= {"original_max_position_embeddings": length}
            if torch.allclose(_divisors(size, theta, result), given, rtol=1e-3):
                return result
        do = "use the model's safetensors instead"
        raise WeightsError(f"the GGUF file, '{ROPE}'", "the factors of a Llama 3", "others", do)
    factor = read("rope.scaling.factor", float, 0.0) or read("rope.scale_linear", float, 0.0)  # the second: older files
    return {"rope_type": "linear", "factor": _short(factor)} if kind == "linear" and factor not in (0, 1) else {}


def _divisors(size: int, theta: float, scaling: Mapping[str, Any]) -> Tensor:
    """(size / 2,) what a scaling divides each frequency by: angles at position 1 without it over angles with it."""
    first = torch.ones(1, 1)
    plain, scaled = (rotary_tables(first, size, theta, rope_scaling(item))[1].asin() for item in ({}, scaling))
    return (plain / scaled).flatten()


def _short(value: float) -> float:
    """A float32 as it was written: 1e-5, not 9.999999747378752e-06."""
    return float(f"{value:.7g}")
