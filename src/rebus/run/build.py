"""Build, save and load a Run's model and tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from rebus import atomic, recipe
from rebus.errors import RunError
from rebus.formats.weights import check_state, load_weights
from rebus.models.vlm import VisionLanguageModel
from rebus.recipe import TaskSettings
from rebus.run.folder import Run
from rebus.tasks import TASKS, Codec, Task
from rebus.text.tokenizer import Tokenizer
from rebus.text.words import FILE as WORDS_FILE
from rebus.text.words import WordTokenizer


def make_codec(settings: recipe.Recipe, texts: list[str], words: Iterable[str] = ()) -> Codec:
    """The tokenizer, trained on the training rows' text or read from a file, and the text tower's own if it has one."""
    if settings.text.tokenizer is not None:
        tokenizer = Tokenizer.load(settings.text.tokenizer)
    else:
        tokenizer = Tokenizer.train(texts, settings.text.vocab_size, words)
    reader = None
    if settings.model.text.kind == "wordvectors":
        reader = WordTokenizer.train(texts, settings.text.vocab_size, settings.text.segment)
    return codec_of(settings, tokenizer, reader)


def codec_of(settings: recipe.Recipe, tokenizer: Tokenizer, reader: WordTokenizer | None) -> Codec:
    """Tokenizers with what the recipe says of them."""
    separate = settings.model.text.kind not in ("decoder", "none")
    return Codec(tokenizer, reader, settings.text.max_length, text_tower=separate)


def build_model(settings: recipe.Recipe, tasks: dict[str, Task], codec: Codec) -> VisionLanguageModel:
    """A model with fresh weights, drawn from the recipe's seed."""
    torch.manual_seed(settings.seed)
    heads = {name: task.head(codec) for name, task in tasks.items()}
    reader = codec.reader
    words = list(reader.words) if reader is not None else None
    # One pass over a picture may carry several questions, so a row is longer than one text.
    return VisionLanguageModel(
        settings.model,
        settings.picture,
        heads,
        vocab_size=codec.tokenizer.vocab_size,
        max_length=settings.text.max_length,
        words=words,
    )


def save_model(
    folder: Path, model: VisionLanguageModel, settings: recipe.Recipe, tasks: dict[str, Task], codec: Codec
) -> None:
    """Write tokenizer, preprocessor_config.json, weights and, last, config.json, which says that the rest is there."""
    save_codec(folder, codec)
    picture = settings.picture
    preprocessor = {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(picture.mean),
        "image_std": list(picture.std),
        "rescale_factor": 1 / 255,
        "size": {"height": picture.size, "width": picture.size},
        "fit": picture.fit,
    }
    atomic.write_json(folder / "preprocessor_config.json", preprocessor)
    state = {name: tensor.detach().float().cpu().contiguous() for name, tensor in model.state_dict().items()}
    atomic.write_with(folder / "model.safetensors", lambda beside: save_file(state, beside, metadata={"format": "pt"}))
    config = {
        "architectures": ["VisionLanguageModel"],
        "model_type": "rebus",
        "torch_dtype": "float32",
        "vocab_size": codec.tokenizer.vocab_size,
        "tasks": [
            {"settings": task.settings.model_dump(mode="json"), "state": task.state()} for task in tasks.values()
        ],
        "model": settings.model.model_dump(mode="json"),
    }
    atomic.write_json(folder / "config.json", config)


def save_codec(folder: Path, codec: Codec) -> None:
    """Write the tokenizers."""
    codec.tokenizer.save(folder)
    if codec.reader is not None:
        codec.reader.save(folder)


def saved_codec(run: Run) -> Codec:
    """The tokenizers of a Run, begun or finished. Raises RunError when one is missing or damaged."""
    reader = WordTokenizer.load(run.folder) if (run.folder / WORDS_FILE).exists() else None
    return codec_of(run.recipe, Tokenizer.load(run.folder), reader)


def load_model(run: Run) -> tuple[VisionLanguageModel, recipe.Recipe, dict[str, Task], Codec]:
    """What ``save_model`` wrote.

    Raises:
        RunError: a file is missing or damaged. WeightsError: the weights do not fit the recipe.
    """
    settings = run.recipe
    config = run.read_json("config.json")
    tasks = restore_tasks(config, run.config_path)
    codec = saved_codec(run)
    model = build_model(settings, tasks, codec)
    state = load_weights(run.folder)
    check_state(model, state)
    model.load_state_dict(state)
    model.eval()
    return model, settings, tasks, codec


def restore_tasks(config: dict[str, Any], path: Path) -> dict[str, Task]:
    """Tasks as they were fitted. Raises RunError when the configuration is damaged."""
    tasks: dict[str, Task] = {}
    try:
        for entry in config["tasks"]:
            task = TASKS.get(entry["settings"]["name"])(TaskSettings.model_validate(entry["settings"]))
            task.restore(entry["state"])
            tasks[task.name] = task
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise RunError(
            path, "tasks with settings and state", f"{error!r}", "restore config.json, or train again"
        ) from error
    return tasks
