"""Tiny CLIP and SigLIP folders: random weights, their tokenizers and processors, saved as their makers save them."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tiny_images import SHAPE, VIT, varied
from tiny_tokenizers import TEXTS, save

CLIP_WORDS = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def clip_tokenizer(folder: Path) -> Path:
    """Lower-cased, words end in </w>, between <|startoftext|> and <|endoftext|>, which have the highest ids."""
    backend = tokenizers.Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))  # noqa: S106
    steps = [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    backend.normalizer = normalizers.Sequence(steps)
    split = pre_tokenizers.Split(Regex(CLIP_WORDS), behavior="removed", invert=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    backend.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=letters, end_of_word_suffix="</w>", show_progress=False
    )
    backend.train_from_iterator([*TEXTS, " ".join(string.printable)], trainer)
    names = ["<|startoftext|>", "<|endoftext|>"]
    content = json.loads(backend.to_str())
    vocabulary = content["model"]["vocab"]
    vocabulary |= {name: len(vocabulary) + place for place, name in enumerate(names)}
    backend = tokenizers.Tokenizer.from_str(json.dumps(content))
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    bos, eos = ((name, backend.token_to_id(name)) for name in names)
    backend.post_processor = processors.RobertaProcessing(eos, bos, trim_offsets=False, add_prefix_space=False)
    config = {"bos_token": bos[0], "eos_token": eos[0], "pad_token": eos[0], "unk_token": eos[0]}
    return save(folder, backend, {**config, "model_max_length": 20})


def siglip_tokenizer(folder: Path) -> Path:
    """Pieces with U+2581 for spaces, lower-cased, ended and padded with </s>."""
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",  # noqa: S106
        show_progress=False,
    )
    backend.train_from_iterator(TEXTS, trainer)
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    config = {"eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>", "model_input_names": ["input_ids"]}
    return save(folder, backend, {**config, "model_max_length": 16})


def clip_folder(folder: Path, **more: Any) -> Any:
    """A CLIP with everything beside it; the model."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    clip_tokenizer(folder)
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = {**SHAPE, "hidden_size": 16, "vocab_size": backend.get_vocab_size(), "max_position_embeddings": 20}
    ids = {"eos_token_id": backend.token_to_id("<|endoftext|>"), "bos_token_id": 1, "pad_token_id": 1}
    config = CLIPConfig(text_config={**text, **ids, **more}, vision_config=VIT, projection_dim=12)
    model = varied(CLIPModel(config))
    model.save_pretrained(folder)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPImageProcessorPil(**size).save_pretrained(folder)
    return model


def siglip_folder(folder: Path) -> Any:
    """A SigLIP with everything beside it; the model."""
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

    siglip_tokenizer(folder)
    rows = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()
    text = {**SHAPE, "hidden_size": 16, "vocab_size": rows, "max_position_embeddings": 16, "projection_size": 24}
    ids = {"eos_token_id": 1, "bos_token_id": None, "pad_token_id": 1}
    model = varied(SiglipModel(SiglipConfig(text_config={**text, **ids}, vision_config=VIT)))
    model.save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return model
