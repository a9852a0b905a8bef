"""A table of squares and towers of several kinds to caption them with, all tiny. No test is in here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from rebus import api
from rebus.training.train import Assembled, assemble
from tiny_checkpoints import write_bert, write_checkpoint

SMALL = {"image.size": 32, "train.batch_size": 8, "train.precision": "fp32", "data.split.column": "split"}
TOWERS = {
    "model.image.width": 16,
    "model.image.depth": 1,
    "model.image.heads": 2,
    "model.image.patch": 8,
    "model.text.width": 16,
    "model.text.depth": 1,
    "model.text.heads": 2,
    "text.vocab_size": 300,
}
CAPTION = [{"name": "caption", "max_new_tokens": 8}]


def write_table(folder: Path) -> Path:
    """Squares of two colours and two sizes, told in words that the tiny tokenizer knows."""
    rows = []
    for number in range(36):
        colour, big = ("red", "blue")[number % 2], number // 2 % 2
        array = np.full((32, 32, 3), 90, dtype=np.uint8)
        side = 20 if big else 8
        left, top = np.random.default_rng(number).integers(0, 32 - side, 2)
        array[top : top + side, left : left + side] = (220, 30, 30) if colour == "red" else (40, 60, 220)
        Image.fromarray(array).save(folder / f"{number}.png")
        caption = f"the {'cat' if big else 'dog'} is {colour} and {'good' if big else 'bad'}"
        split = "train" if number < 20 else "valid" if number < 28 else "test"
        rows.append({"image": f"{number}.png", "caption": caption, "split": split, "colour": colour})
    (folder / "table.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder / "table.jsonl"


def write_towers(folder: Path, table: Path) -> Path:
    """Towers of several kinds."""
    from transformers import SiglipVisionConfig, SiglipVisionModel

    write_checkpoint(folder / "llama", "llama tied", chat=True)
    write_checkpoint(folder / "mute", "llama")
    write_bert(folder / "bert")
    torch.manual_seed(2)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    SiglipVisionModel(SiglipVisionConfig(image_size=32, patch_size=8, **sizes)).save_pretrained(folder / "siglip")
    settings = {**SMALL, **TOWERS, "train.steps": 2}
    api.train(
        table,
        task="classify",
        out=folder / "seeing",
        quiet=True,
        settings={
            **settings,
            "model.image.kind": "vit",
            "image.size": 40,
            "tasks": [{"name": "classify", "columns": {"image": "image", "label": "colour"}}],
        },
    )
    words = table.parent / "words.csv"
    words.write_text("text,label\n" + "\n".join(f"number {n},{'ab'[n % 2]}" for n in range(40)), encoding="utf-8")
    api.train(
        words,
        task="generate",
        out=folder / "writing",
        quiet=True,
        settings={
            **{key: value for key, value in settings.items() if key != "data.split.column"},
            "tasks": [{"name": "generate", "columns": {"prompt": "text", "output": "label"}}],
            "data.kinds": {"label": "text"},
        },
    )
    return folder


def recipe_for(table: Path, vision: Path | None, text: Path | str | None, **changes: Any) -> Any:
    settings = {**SMALL, "tasks": CAPTION, "train.steps": 20, **{k.replace("__", "."): v for k, v in changes.items()}}
    return api.make_recipe(table, None, None, settings, vision=vision, text=text)


def ready(table: Path, vision: Path | None, text: Path | str | None, **changes: Any) -> Assembled:
    return assemble(recipe_for(table, vision, text, **changes), lambda _: None)


def state_of(module: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], under: str = "") -> bool:
    names = [name for name in one if name.startswith(under)]
    return bool(names) and all(torch.equal(one[name], other[name]) for name in names)
