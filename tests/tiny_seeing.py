"""Tiny random Idefics3, SmolVLM and Llava models of transformers, with a tokenizer that has image marks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from torch import nn

from rebus.text.images import ALL
from tiny_checkpoints import loud
from tiny_tokenizers import TEXTS

SIDE, PATCH, FACTOR = 48, 8, 2  # 6 x 6 patches, 3 x 3 tokens
SMOLVLM = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
LLAVA = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% if message['role'] != 'assistant' %}{{ content['text'] + ' '}}{% else %}{{ content['text'] + eos_token }}"
    "{% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
TEXT = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": PATCH,
}


def write_tokenizer(folder: Path, kind: str) -> tokenizers.Tokenizer:
    """A byte-level tokenizer with the family's marks and template; gives the library's object."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    names = ["<pad>", "<|im_start|>", "</s>", *(ALL if kind != "llava" else ALL[:1])]
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=[AddedToken(name, special=True, normalized=False) for name in names],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(TEXTS, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    end = "</s>" if kind == "llava" else "<end_of_utterance>"
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": end,
        "pad_token": "<pad>",
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").write_text(LLAVA if kind == "llava" else SMOLVLM)
    return backend


def reference(kind: str, backend: tokenizers.Tokenizer, **more: Any) -> nn.Module:
    """A random model: ``idefics3``, ``smolvlm``, ``llava clip`` or ``llava siglip``."""
    import transformers as t

    size = backend.get_vocab_size()
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": backend.token_to_id("</s>")}
    text = {**TEXT, "vocab_size": size, "model_type": "llama", **ids, **more.pop("text_config", {})}
    image = backend.token_to_id("<image>")
    torch.manual_seed(1)
    if kind.startswith("llava"):
        vision = {**VISION, "model_type": f"{kind.split()[1]}_vision_model"}
        made = {"vision_feature_select_strategy": "default" if "clip" in kind else "full"}
        config = t.LlavaConfig(vision_config=vision, text_config=text, image_token_index=image, **{**made, **more})
        model: nn.Module = t.LlavaForConditionalGeneration(config)
    else:
        make, build = {
            "idefics3": (t.Idefics3Config, t.Idefics3ForConditionalGeneration),
            "smolvlm": (t.SmolVLMConfig, t.SmolVLMForConditionalGeneration),
        }[kind]
        vision = {**VISION, "model_type": f"{kind}_vision", **more.pop("vision_config", {})}
        model = build(
            make(vision_config=vision, text_config=text, image_token_id=image, **{"scale_factor": FACTOR, **more})
        )
    return loud(model.eval())


def write_seeing(folder: Path, kind: str, *, splitting: bool = False, **more: Any) -> nn.Module:
    """Write a checkpoint as its makers do; gives the model."""
    family = kind.split()[0]
    backend = write_tokenizer(folder, family)
    model = reference(kind, backend, **more)
    model.save_pretrained(folder)  # type: ignore[operator]
    if family == "llava":
        square = {"height": SIDE, "width": SIDE}
        told: dict[str, Any] = {
            "image_processor_type": "CLIPImageProcessor",
            "size": {"shortest_edge": SIDE},
            "crop_size": square,
            "image_mean": [0.4, 0.5, 0.6],
            "image_std": [0.2, 0.3, 0.4],
            "resample": 3,
        }
        processor = {
            "processor_class": "LlavaProcessor",
            "patch_size": PATCH,
            "vision_feature_select_strategy": "default" if "clip" in kind else "full",
            "num_additional_image_tokens": int("clip" in kind),
        }
    else:
        told = {
            "image_processor_type": "Idefics3ImageProcessor",
            "do_image_splitting": splitting,
            "size": {"longest_edge": SIDE},
            "max_image_size": {"longest_edge": SIDE},
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "resample": 1,
        }
        processor = {"processor_class": "Idefics3Processor", "image_seq_len": (SIDE // PATCH // FACTOR) ** 2}
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    (folder / "processor_config.json").write_text(json.dumps(processor))
    return model
