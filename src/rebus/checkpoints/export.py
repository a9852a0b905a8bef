"""A trained model as files that other programs open: one GGUF for llama.cpp, or a plain Hugging Face folder."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from rebus import atomic, recipe
from rebus.checkpoints.adapters import merged_state
from rebus.checkpoints.hf_load import is_checkpoint, read_checkpoint
from rebus.checkpoints.hf_save import SavedModel, saved_model, token_ids
from rebus.checkpoints.run_folder import Run
from rebus.checkpoints.save_load import load_model
from rebus.errors import RecipeError, RunError, WeightsError, reachable
from rebus.formats.config import TOKENS
from rebus.formats.gguf import Precision, write_gguf
from rebus.formats.processors import is_exact
from rebus.formats.weights import save_weights
from rebus.nn.feedforward import swiglu_hidden
from rebus.recipe import Tower
from rebus.text.tokenizer import Tokenizer

Format = Literal["gguf", "hf"]
_DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
_NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
_SHARD_MB = 5000
_K_QUANT = 256  # weights in a block of llama.cpp's k-quants


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
    """A model of one tower in Hugging Face's terms."""

    name: str
    config: dict[str, Any]
    state: dict[str, Tensor]
    tower: Tower
    tokenizer: Tokenizer | None
    notes: tuple[str, ...] = ()
    saved: SavedModel | None = None
    settings: recipe.Recipe = field(default_factory=recipe.Recipe)


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
    count = sum(tensor.numel() for tensor in source.state.values())
    if format == "gguf":
        if source.tokenizer is None:
            received = f"an image tower ({source.config['model_type']})"
            raise WeightsError(out, "a text decoder, for gguf", received, "write a folder: --format hf")
        write_gguf(out, source.config, source.state, source.tokenizer, precision=precision, name=source.name)
        notes = [*source.notes, *quantising_notes(source.tower), *_cutting_notes(source.tokenizer)]
        return Exported(out, format, precision, count, notes)
    if source.tokenizer is not None:
        source.tokenizer.save(out)
    save_weights(out, source.state, max_shard_mb=_SHARD_MB, dtype=_DTYPES[precision])
    if source.saved is not None:
        source.saved.write_beside(out, source.settings, source.tokenizer)
    if source.tower.kind == "decoder":
        ids = {key: source.config[key] for key in TOKENS if source.config.get(key) is not None}
        atomic.write_json(out / "generation_config.json", ids)
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


def _source(path: str | Path) -> _Source:
    return _checkpoint_source(path) if is_checkpoint(path) else _run_source(Run.open(path))


def _checkpoint_source(path: str | Path) -> _Source:
    checkpoint = read_checkpoint(path)
    spec, family = checkpoint.spec, checkpoint.family
    if spec.image is not None:
        raise _sees(checkpoint.place, str(checkpoint.config.get("model_type")))
    tokenizer = checkpoint.load_tokenizer(False)
    if not spec.rows:
        spec = replace(spec, text=checkpoint.tower.model_copy(update={"rows": tokenizer.vocab_size}))
    config = family.config(spec, **token_ids(tokenizer))
    own = checkpoint.config.get("architectures")
    state = checkpoint.tensors()
    if checkpoint.part == "decoder":  # there and back: leaves out tables that old files hold
        state = family.to_hf(family.from_hf(state, spec), spec)
    whole = config | ({"architectures": own} if own else {})
    return _Source(checkpoint.place.stem, whole, state, checkpoint.tower, tokenizer)


def _run_source(run: Run) -> _Source:
    model, settings, tasks, processor = load_model(run)
    saved = saved_model(model, settings, tasks, processor)
    if saved is None:
        do = "images and what joins them to words have no place in other programs' files; load it with rebus.load"
        kinds = f"image tower '{settings.model.image.kind}', text tower '{settings.model.text.kind}'"
        raise WeightsError(run.folder, "a model that is one text tower: a decoder or an encoder", kinds, do)
    text, image = saved.spec.text, saved.spec.image
    if text is not None and image is not None:
        raise _sees(run.folder, str(run.read_json("config.json").get("model_type")))
    tower = text or image
    assert tower is not None  # noqa: S101 - it is one of the two
    state, rest = saved.to_hf(merged_state(model))
    left = ["the fusion"] if model.fusion is not None else []
    left += [
        f"the head of {name}" for name in sorted({name.split(".")[1] for name in rest if name.startswith("heads.")})
    ]
    notes = [f"left out, since other programs have no place for it: {', '.join(left)}"] if left else []
    notes += [saved.family.note] if saved.family.note else []
    if image is not None and not is_exact(settings.image):
        how = f"image.fit '{settings.image.fit}'" if settings.image.fit == "pad" else "image.resample 'auto'"
        notes.append(f"{how} is in no processor of theirs: images are seen a little differently there")
    tokenizer = None if text is None else processor.tokenizer
    config = saved.config(processor.tokenizer)
    return _Source(run.folder.name, config, state, tower, tokenizer, tuple(notes), saved, settings)


def _sees(place: Path, layout: str) -> WeightsError:
    """For a model whose folder is what other programs open already."""
    do = f"give transformers or vLLM the folder as it is: it is in the layout of {layout}"
    return WeightsError(place, "a model of text alone", "one that sees images", do)


def quantising_notes(settings: Tower) -> list[str]:
    """What to know before a decoder is quantised by llama.cpp: sizes that its k-quants cannot cut into blocks."""
    hidden = settings.hidden or (
        swiglu_hidden(settings.width) if settings.feedforward == "swiglu" else 4 * settings.width
    )
    inside = settings.heads * (settings.head_dim or settings.width // settings.heads)
    sizes = {"width": settings.width, "heads x head_dim": inside, "hidden": hidden}
    odd = ", ".join(f"{name} {size}" for name, size in sizes.items() if size % _K_QUANT)
    note = f"{odd}: not a multiple of {_K_QUANT}; k-quants (Q4_K and the like) fall back to other types there"
    return [note] if odd else []


def _cutting_notes(tokenizer: Tokenizer) -> list[str]:
    if not tokenizer.normalises:
        return []
    return ["llama.cpp does not normalise text: give it plain letters for full-width ones, and single spaces"]
