"""A trained model as files that other programs open: one GGUF for llama.cpp, or a plain Hugging Face folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from rebus import atomic
from rebus.checkpoints.adapters import merged_state
from rebus.checkpoints.hf_dual import saved_dual
from rebus.checkpoints.hf_load import is_checkpoint, read_checkpoint
from rebus.checkpoints.hf_save import SingleTower, lone_tower
from rebus.checkpoints.hf_save_vision import seeing
from rebus.checkpoints.hf_vision import SingleImageTower, lone_image
from rebus.checkpoints.run_folder import Run
from rebus.checkpoints.save_load import load_model
from rebus.errors import RecipeError, RunError, WeightsError, reachable
from rebus.formats.families import quantising_notes
from rebus.formats.gguf import Precision, write_gguf
from rebus.formats.processors import FILE
from rebus.formats.weights import save_weights
from rebus.recipe import Tower
from rebus.text.tokenizer import Tokenizer

Format = Literal["gguf", "hf"]
_DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
_NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
_SHARD_MB = 5000


@dataclass
class Exported:
    """What was written.

    Attributes:
        path: the file or folder.
        format: gguf or hf.
        precision: of the matrices.
        parameters: numbers in it.
        notes: what a user should know, a sentence each.
    """

    path: Path
    format: Format
    precision: Precision
    parameters: int
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Source:
    """A text model in Hugging Face's terms."""

    name: str
    config: dict[str, Any]
    state: dict[str, Tensor]
    tower: Tower
    tokenizer: Tokenizer
    notes: tuple[str, ...] = ()
    single: SingleTower | None = None
    max_length: int = 0


def export(
    model: str | Path,
    out: str | Path,
    *,
    format: Format | None = None,
    precision: Precision | None = None,
) -> Exported:
    """Write a Run or a checkpoint for other programs; what is there already under ``out`` is replaced file by file.

    Args:
        model: a Run, a Hugging Face folder, a .gguf file or a hub id, of one text decoder (``hf``: or encoder), or a
            Run of one image tower of a known family (``hf`` alone).
        out: a .gguf file or a folder.
        format: None: gguf where ``out`` ends in .gguf, else hf.
        precision: f32, f16, bf16, or for gguf q8_0; None: f16 for gguf, f32 for hf.

    Raises:
        RunError: the Run is unfinished, or ``out`` cannot be written or is a Run.
        WeightsError: the model is not one tower of a known family, or llama.cpp cannot follow its tokenizer.
        RecipeError: ``hf`` with q8_0.
    """
    out = Path(out)
    format = format or ("gguf" if out.suffix == ".gguf" else "hf")
    precision = precision or ("f16" if format == "gguf" else "f32")
    with reachable(out):
        _check(out, format, precision)
    source = _source(model)
    if isinstance(source, SingleImageTower):
        return _export_image(source, out, format, precision)
    count = sum(tensor.numel() for tensor in source.state.values())
    if format == "gguf":
        write_gguf(out, source.config, source.state, source.tokenizer, precision=precision, name=source.name)
        notes = [*source.notes, *quantising_notes(source.tower), *_cutting_notes(source.tokenizer)]
        return Exported(out, format, precision, count, notes)
    source.tokenizer.save(out)
    if source.single is not None:
        source.single.describe_tokenizer(out, source.max_length)
        source.single.describe_pooling(out, source.max_length)
    tokens = ("bos_token_id", "eos_token_id", "pad_token_id")
    if source.tower.kind == "decoder":
        ends = {key: source.config[key] for key in tokens if source.config.get(key) is not None}
        atomic.write_json(out / "generation_config.json", ends)
    save_weights(out, source.state, max_shard_mb=_SHARD_MB, dtype=_DTYPES[precision])
    atomic.write_json(out / "config.json", source.config | dict.fromkeys(("torch_dtype", "dtype"), _NAMES[precision]))
    return Exported(out, format, precision, count, [*source.notes])


def _check(out: Path, format: Format, precision: Precision) -> None:
    """Refuse what cannot be written before anything is read."""
    if format == "hf" and precision == "q8_0":
        raise RecipeError("--type", "f32, f16 or bf16 for a Hugging Face folder", "q8_0", "choose one of these")
    if format == "gguf" and out.is_dir():
        raise RunError(out, "a file to write", "a folder", f"name a file, such as {out / 'model.gguf'}")
    if format == "hf" and out.is_file():
        raise RunError(out, "a folder to write", "a file", "name a folder, or say --format gguf")
    if format == "hf" and (out / "recipe.yaml").exists():
        raise RunError(
            out, "a new folder", "a Run, which already is in this layout if it is text alone", "name another"
        )


def _source(path: str | Path) -> _Source | SingleImageTower:
    if is_checkpoint(path):
        found = read_checkpoint(path)
        if found.vision is not None:
            raise _sees(found.place, str(found.config.get("model_type")))
        tokenizer = found.load_tokenizer(False)
        rows = found.tower.rows or tokenizer.vocab_size
        config = found.family.config_to_hf(found.tower, rows, **_ids(tokenizer))
        own = found.config.get("architectures")
        state = found.tensors()
        if found.part == "decoder":  # there and back: leaves out tables that old files hold
            state = found.family.to_hf(found.family.from_hf(state, found.tower))
        return _Source(
            found.place.stem, config | ({"architectures": own} if own else {}), state, found.tower, tokenizer
        )
    run = Run.open(path)
    model, settings, tasks, processor = load_model(run)
    alone = lone_tower(model, tasks.values())
    if alone is None and (seeing(model, settings) or saved_dual(model, settings, processor)) is not None:
        raise _sees(run.folder, str(run.read_json("config.json").get("model_type")))
    image = lone_image(model, settings, tasks, run.folder.name)
    if image is not None:
        return image
    if alone is None:
        do = "images and what joins them to words have no place in other programs' files; load it with rebus.load"
        kinds = f"image tower '{settings.model.image.kind}', text tower '{settings.model.text.kind}'"
        raise WeightsError(run.folder, "a model that is one text tower: a decoder or an encoder", kinds, do)
    state, heads = alone.state_to_hf(merged_state(model))
    tower = alone.tower.settings.model_copy(update={"kind": "decoder" if alone.part == "decoder" else "encoder"})
    config = alone.config(model, processor.tokenizer)
    names = sorted({name.split(".")[1] for name in heads})
    notes = [f"left out, since other programs have no place for them: the heads of {', '.join(names)}"] if names else []
    return _Source(
        run.folder.name, config, state, tower, processor.tokenizer, tuple(notes), alone, settings.text.max_length
    )


def _export_image(source: SingleImageTower, out: Path, format: Format, precision: Precision) -> Exported:
    """An image tower as a folder of its family, with its processor. Raises WeightsError for gguf."""
    if format == "gguf":
        do = "write a folder: --format hf"
        raise WeightsError(out, "a text decoder, for gguf", f"an image tower ({source.config['model_type']})", do)
    save_weights(out, source.state, max_shard_mb=_SHARD_MB, dtype=_DTYPES[precision])
    atomic.write_json(out / FILE, source.processor)
    atomic.write_json(out / "config.json", source.config | dict.fromkeys(("torch_dtype", "dtype"), _NAMES[precision]))
    count = sum(tensor.numel() for tensor in source.state.values())
    return Exported(out, format, precision, count, [*source.notes])


def _sees(place: Path, layout: str) -> WeightsError:
    """For a model whose folder is what other programs open already."""
    do = f"give transformers or vLLM the folder as it is: it is in the layout of {layout}"
    return WeightsError(place, "a model of text alone", "one that sees images", do)


def _ids(tokenizer: Tokenizer) -> dict[str, Any]:
    ends = list(tokenizer.eos_ids)
    eos = ends if len(ends) > 1 else ends[0]
    return {"bos_token_id": tokenizer.bos_id, "eos_token_id": eos, "pad_token_id": tokenizer.pad_id}


def _cutting_notes(tokenizer: Tokenizer) -> list[str]:
    if not tokenizer.normalises:
        return []
    return ["llama.cpp does not normalise text: give it plain letters for full-width ones, and single spaces"]
