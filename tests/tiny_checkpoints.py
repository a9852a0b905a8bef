"""Tiny random models of Hugging Face's, one for each kind of text model that Rebus reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers import AddedToken, models, pre_tokenizers, processors
from torch import nn

from one_tower import one_tower
from rebus.formats.weights import check_state
from rebus.models.towers.decoder import Decoder

V = 50
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama tied": ("llama", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    "llama all heads": ("llama", {"num_key_value_heads": 4, "head_dim": 6}),
    "llama biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama attention biases": ("llama", {"attention_bias": True}),
    "llama 3 positions": ("llama", {"rope_parameters": LLAMA3}),
    "llama linear positions": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}},
    ),
    "qwen2": ("qwen2", {}),
    "qwen2 tied": ("qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("qwen3", {}),
    "qwen3 tied": ("qwen3", {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    "qwen3 biases": ("qwen3", {"attention_bias": True}),
    "gpt2": ("gpt2", {}),
    "gpt2 untied relu": ("gpt2", {"tie_word_embeddings": False, "activation_function": "relu", "n_inner": 40}),
}


def reference_decoder(name: str) -> nn.Module:
    """The named model of ``DECODERS``, in evaluation mode."""
    import transformers

    family, more = DECODERS[name]
    if family == "gpt2":
        given = {"n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 96}
    else:
        given = {
            "hidden_size": 24,
            "intermediate_size": 40,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,  # not 24 / 4
            "max_position_embeddings": 512,
            "tie_word_embeddings": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
        }
    make, model = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
        "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
        "gpt2": (transformers.GPT2Config, transformers.GPT2LMHeadModel),
    }[family]
    config = make(vocab_size=V, bos_token_id=1, eos_token_id=2, pad_token_id=0, **{**given, **more})
    config._attn_implementation = "eager"
    torch.manual_seed(1)
    made: nn.Module = model(config).eval()
    return loud(made)


def loud(model: nn.Module) -> nn.Module:
    """Larger weights than Hugging Face starts with, and norms that are not ones: small ones would hide mistakes."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model


def our_decoder(reference: nn.Module) -> Decoder:
    """The same model as a tower."""
    config = reference.config.to_dict()  # type: ignore[union-attr, operator]
    family = one_tower(config["model_type"])
    settings, rows = family.settings_from_hf(config)
    decoder = Decoder(settings, rows).eval()
    state = family.from_hf(reference.state_dict(), settings)
    check_state(decoder, state)
    decoder.load_state_dict(state)
    return decoder


CHAT = (
    "{% for m in messages %}{{ '<s> ' + m['role'] + ' ' + m['content'] + ' </s> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s> assistant ' }}{% endif %}"
)
WORDS = ["system", "user", "assistant", "the", "a", "cat", "dog", "is", "was", "red", "blue", "good", "bad", "not"]
WORDS += ["and", "on", "mat", "here", "there"]


def write_tokenizer(folder: Path, *, chat: bool = False, bert: bool = False) -> None:
    """A tokenizer of 24 whole words, fewer than the models' 50 rows."""
    names = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"] if bert else ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
    backend = tokenizers.Tokenizer(models.WordLevel({w: i for i, w in enumerate([*names, *WORDS])}, unk_token=names[3]))
    backend.add_special_tokens([AddedToken(name, special=True) for name in names])
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if bert:
        backend.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    keys = ("pad_token", "cls_token", "sep_token") if bert else ("pad_token", "bos_token", "eos_token")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **dict(zip(keys, names, strict=False)),
        "mask_token": names[4],
    }
    if chat:
        config["chat_template"] = CHAT
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def write_checkpoint(folder: Path, name: str = "llama", *, chat: bool = False) -> nn.Module:
    """One of ``DECODERS`` as transformers saves it, with a tokenizer."""
    model = reference_decoder(name)
    model.save_pretrained(folder)  # type: ignore[operator]
    write_tokenizer(folder, chat=chat)
    return model


def write_bert(folder: Path, *, head: bool = False) -> nn.Module:
    """A tiny BertModel or BertForMaskedLM as transformers saves it, with a tokenizer."""
    from transformers import BertConfig, BertForMaskedLM, BertModel

    config = BertConfig(
        vocab_size=V,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=32,
        pad_token_id=0,
    )
    torch.manual_seed(1)
    model = loud((BertForMaskedLM if head else BertModel)(config).eval())
    model.save_pretrained(folder)  # type: ignore[operator]
    write_tokenizer(folder, bert=True)
    return model
