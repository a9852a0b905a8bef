"""Checkpoints of other projects: a Hugging Face folder, a .gguf file, a PEFT adapter, or a repository on the hub.

Only safetensors and GGUF are read, and code that comes with a checkpoint is never run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from rebus import recipe
from rebus.checkpoints.fitting import check_layers, check_tower
from rebus.checkpoints.hf_heads import LinearHead, architecture_of, read_head
from rebus.checkpoints.save_load import filled_model, needs_end, processor_of
from rebus.errors import MissingPackageError, WeightsError, reachable
from rebus.formats.config import load_config
from rebus.formats.family import CheckpointFamily, CheckpointSpec, family, family_of, known_family
from rebus.formats.names import State, renamer
from rebus.formats.peft import is_adapter, merge_adapter, read_adapter
from rebus.formats.sentence_transformers import FILE as SENTENCES
from rebus.formats.sentence_transformers import SentenceModel, read_sentence_model
from rebus.formats.weights import load_shapes, load_weights
from rebus.models.towers.vit import resized_positions
from rebus.models.vlm import VisionLanguageModel
from rebus.recipe import Recipe, TaskSettings, Tower
from rebus.tasks import TASKS, Task, TextProcessor
from rebus.text.tokenizer import Tokenizer

Log = Callable[[str], None]
GGUF = ".gguf"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FETCHED = ["*.safetensors", "*.json", "*.jinja"]
_LEFT = ["*/*.safetensors", "*/*.jinja", "onnx/*", "openvino/*"]  # copies of the weights for other programs
_EMBEDDINGS = {"decoder": "embed_tokens.weight", "text": "words.weight"}


@dataclass(frozen=True)
class Checkpoint:
    """A model of another project.

    Attributes:
        place: the file or folder it lies in.
        config: config.json, or what a GGUF file says in its terms.
        family: which class reads it.
        spec: what it is.
        image: fields of the recipe's ``image``: size, fit, resample, edge, mean and std, as its own processor prepares
            images, or as is usual where it has none; {} where it sees none.
        tensors: reads its tensors, under Hugging Face's names.
        shapes: its tensors without their numbers, where they are not read through those of another checkpoint.
        load_tokenizer: reads its tokenizer; True: with Rebus' special tokens added where it lacks them.
        sentences: how it makes vectors of texts, where it is a folder of sentence-transformers.
    """

    place: Path
    config: dict[str, Any]
    family: CheckpointFamily
    spec: CheckpointSpec
    image: dict[str, Any]
    tensors: Callable[[], State] = field(repr=False)
    shapes: Callable[[], State] = field(repr=False)
    load_tokenizer: Callable[[bool], Tokenizer] = field(repr=False)
    sentences: SentenceModel | None = None

    @property
    def tower(self) -> Tower:
        """The settings of its text tower, else of its image tower."""
        tower = self.spec.text if self.spec.text is not None else self.spec.image
        assert tower is not None  # noqa: S101 - a family has one of the two
        return tower

    @property
    def part(self) -> str:
        """Where in a model that tower stands: ``decoder``, ``text`` or ``image``."""
        if self.spec.text is None:
            return "image"
        return "decoder" if self.spec.text.kind == "decoder" else "text"

    def state(self, settings: Tower | None = None, rows: int | None = None) -> State:
        """Its tensors under the names that they have in a model, the masked language model's head among them.

        Positions in images are resized (bicubic, as DINOv2 does) where the images' size is not the one that they were
        learned for.

        Args:
            settings: of the text tower that takes them; None: its own.
            rows: that the embeddings should have; further ones are the mean of those there are (Hewitt, 2021,
                "Initializing New Word Embeddings for Pretrained Language Models").

        Raises:
            WeightsError: files are missing or damaged, a name is not the family's, or the vocabulary in the
                configuration is not as large as the embeddings.
        """
        return self._named(self.tensors(), settings, rows)

    def head(self) -> LinearHead | str | None:
        """Its head that classifies, marks words or finds answers; or why that cannot be used; None: there is none."""
        return read_head(self.config, self.family, self.shapes())

    def check(self) -> None:
        """Hold its configuration against the shapes of its tensors. Raises WeightsError."""
        where, shapes = str(self.place), self.shapes()
        towers: dict[str, tuple[Tower, dict[str, Any]]] = {}
        if self.spec.text is not None:
            towers[self.part] = (self.spec.text, {"vocab_size": self.spec.rows})
        if self.spec.image is not None:
            towers["image"] = (self.spec.image, {"size": self.image["size"]})
        for tower, _ in towers.values():
            check_layers(where, tower, len(shapes))
        state = self._named(shapes, None, None)
        for part, (tower, context) in towers.items():
            check_tower(where, tower, state, f"{part}.", **context)

    def _named(self, tensors: State, settings: Tower | None, rows: int | None) -> State:
        spec = self.spec if settings is None else replace(self.spec, text=settings)
        state = self.family.from_hf(tensors, spec)
        if "image.position" in state and self.spec.image is not None:
            grid = self.image["size"] // self.spec.image.patch
            state["image.position"] = resized_positions(state["image.position"], grid)
        embeddings = f"{self.part}.{_EMBEDDINGS.get(self.part)}"
        if embeddings in state and len(state[embeddings]) != self.spec.rows:
            expected = f"'vocab_size' {len(state[embeddings])}, as many as the embeddings have rows"
            do = "use the config.json that came with the weights"
            raise WeightsError(str(self.place), expected, str(self.spec.rows), do)
        for name in (embeddings, "decoder.lm_head.weight", "heads.mlm.bias"):
            if name in state and rows is not None:
                state[name] = with_rows(state[name], rows)
        return state


def is_checkpoint(path: str | Path) -> bool:
    """Whether this names a checkpoint of another project, rather than a Run. Nothing is fetched."""
    place = Path(path)
    with reachable(place):
        if place.is_dir():
            if (place / "recipe.yaml").exists():
                return False
            named = (place / "config.json").is_file() or (place / SENTENCES).is_file()
            return is_adapter(place) or (named and not _is_rebus(place))
        return place.suffix == GGUF or is_hub_id(path)


def is_image_checkpoint(path: str | Path) -> bool:
    """Whether this is a folder with an image tower of a known family. Nothing is fetched."""
    place = Path(path)
    if (place / "recipe.yaml").exists():
        return False
    if not (place / "config.json").is_file():
        return is_adapter(place) and is_image_checkpoint(read_adapter(place).base)
    return image_family_of(load_config(place)) is not None


def is_hub_id(path: str | Path) -> bool:
    """Whether this looks like owner/name on the hub: nothing of that name is here, and no folder ``owner`` either."""
    name = str(path)
    return bool(_HUB_ID.fullmatch(name)) and not os.path.exists(name) and not os.path.exists(Path(name).parent)


def image_family_of(config: Mapping[str, Any]) -> CheckpointFamily | None:
    """The family of a checkpoint's image tower alone; None where it has none that can be taken alone."""
    known = known_family(config)
    if known is not None and known.image_family is not None:
        return family(known.image_family)
    return known if known is not None and known.owns == ("image.",) else None


def read_checkpoint(
    path: str | Path, log: Log = lambda _: None, *, image_only: bool = False, below: tuple[Path, ...] = ()
) -> Checkpoint:
    """Look into a checkpoint; its tensors are read when they are asked for.

    Args:
        path: a Hugging Face folder, a .gguf file, a folder with a PEFT adapter, or a hub id.
        log: prints a line for people.
        image_only: read its image tower alone; else a model that reads or writes text.
        below: adapters that it is the base of.

    Raises:
        WeightsError: it is not there, damaged, or of a family that is not known.
        MissingPackageError: a .gguf file or a hub id, and the library for it is not installed.
    """
    place = Path(path)
    if place.suffix == GGUF and not place.is_dir() and not image_only:
        return _gguf(place)
    if is_hub_id(path):
        log(f"{path}: not a folder here, so looked for on the hub")
        place = Path(fetched(str(path)))
    if is_adapter(place) and not (place / "config.json").is_file():
        return _adapted(place, log, below, image_only)
    sentences = None if image_only else read_sentence_model(place)
    checkpoint = _folder(place, log, image_only) if sentences is None else _sentence_model(place, sentences, log)
    checkpoint.check()
    return checkpoint


def _folder(place: Path, log: Log, image_only: bool = False) -> Checkpoint:
    config, where = load_config(place), str(place / "config.json")
    known, own = family_of(config, where), image_family_of(config)
    if image_only and own is None:
        expected = "a checkpoint of a family with an image tower that can be taken alone"
        raise WeightsError(where, expected, f"'{known.name}'", "use another checkpoint")
    spec = known.image_settings(config, where) if image_only else known.settings(config, where)
    if spec.text is None and not image_only:
        do = f"train with its tower: rebus train TABLE --vision {place}"
        raise WeightsError(where, "a checkpoint that reads or writes text", f"'{known.name}', an image tower alone", do)
    image = {} if spec.image is None else known.image_fields(place, spec, log)
    if image_only and own is not None:
        known = own
    return Checkpoint(
        place,
        config,
        known,
        spec,
        image,
        lambda: load_weights(place),
        lambda: load_shapes(place),
        lambda extend: Tokenizer.load(place, extend=extend),
    )


def _sentence_model(place: Path, sentences: SentenceModel, log: Log) -> Checkpoint:
    """A transformer that sentence-transformers pools."""
    checkpoint = _folder(sentences.transformer, log)
    for note in sentences.notes:
        log(note)

    def load_tokenizer(extend: bool) -> Tokenizer:
        tokenizer = checkpoint.load_tokenizer(extend)
        if sentences.lower and tokenizer.normalise("A") != "a":
            do = "use a tokenizer.json that does so"
            raise WeightsError(place, "a tokenizer that writes texts in lower case", "one that does not", do)
        return tokenizer

    shape: dict[str, Any] = {"pool": sentences.pool(checkpoint.tower.kind)}
    if checkpoint.part == "decoder":  # one that makes vectors needs no output weights, and its files hold none
        shape["tied"] = True
    spec = replace(checkpoint.spec, text=checkpoint.tower.model_copy(update=shape))
    return replace(checkpoint, place=place, spec=spec, load_tokenizer=load_tokenizer, sentences=sentences)


def _adapted(folder: Path, log: Log, below: tuple[Path, ...], image_only: bool) -> Checkpoint:
    """An adapter's base with the adapter added to it; a tokenizer beside the adapter wins."""
    place = folder.resolve()
    if place in below:
        do = "write the model that it was trained on into base_model_name_or_path"
        raise WeightsError(folder, "an adapter whose base is another model", "itself among its bases", do)
    adapter = read_adapter(folder)
    base = read_checkpoint(adapter.base, log, image_only=image_only, below=(*below, place))
    spec, tied, rename = base.spec, base.part == "decoder" and base.tower.tied, renamer(base.family.file_names)
    if spec.text is not None:
        shape = {"tied": base.tower.tied and not adapter.changes_embeddings, "rows": adapter.rows or spec.rows}
        spec = replace(spec, text=base.tower.model_copy(update=shape))
    own = (folder / "tokenizer.json").is_file()
    return replace(
        base,
        place=folder,
        spec=spec,
        tensors=lambda: merge_adapter(base.tensors(), adapter, tied=tied, rename=rename),
        load_tokenizer=(lambda extend: Tokenizer.load(folder, extend=extend)) if own else base.load_tokenizer,
    )


def _gguf(file: Path) -> Checkpoint:
    from rebus.formats.gguf import read_gguf

    model = read_gguf(file)
    known = family_of(model.config, str(file))

    def load_tokenizer(extend: bool) -> Tokenizer:
        if not extend:
            return model.tokenizer
        with TemporaryDirectory() as folder:
            model.tokenizer.save(folder)
            return Tokenizer.load(folder, extend=True)

    spec = known.settings(model.config, str(file))
    checkpoint = Checkpoint(
        file, model.config, known, spec, {}, lambda: model.state, lambda: model.shapes, load_tokenizer
    )
    checkpoint.check()
    return checkpoint


def recipe_of(path: str | Path | Checkpoint, log: Log = lambda _: None) -> Recipe:
    """A recipe whose towers are the checkpoint's, and which has nothing else. Raises as ``read_checkpoint``."""
    checkpoint = path if isinstance(path, Checkpoint) else read_checkpoint(path, log)
    spec, settings = checkpoint.spec, Recipe()
    length = max(4, checkpoint.tower.context or settings.text.max_length)
    if checkpoint.sentences is not None and checkpoint.sentences.max_length is not None:
        length = max(4, min(checkpoint.sentences.max_length, length))
    model: dict[str, Any] = {"text": checkpoint.tower, "image.kind": "none", "fusion.kind": "none"}
    if spec.image is not None:
        settings = settings.replace(image=recipe.Image.model_validate(checkpoint.image))
        del model["image.kind"]
        model["image"] = spec.image
    if spec.fusion is not None:
        del model["fusion.kind"]
        model["fusion"] = spec.fusion
    if spec.embed is not None:
        model |= {"embed": spec.embed, "maps": spec.maps}
    return settings.replace({"model": settings.model.replace(model), "text.max_length": length})


def open_checkpoint(
    path: str | Path, log: Log = lambda _: None, dtype: torch.dtype | None = None
) -> tuple[VisionLanguageModel, Recipe, dict[str, Task], TextProcessor]:
    """A checkpoint as a model that is ready to answer: it converses where it has a chat template, else goes on a text.

    An encoder does what its head does: it guesses masked words, classifies, marks words or finds answers; without a
    known head it gives sentence vectors. CLIP and SigLIP give images and texts vectors of one space.

    Args:
        path: see ``read_checkpoint``.
        log: prints a line for people.
        dtype: of the weights in memory; None: float32.

    Raises:
        WeightsError, MissingPackageError: as ``read_checkpoint``. RunError: its tokenizer cannot be read.
    """
    checkpoint = read_checkpoint(path, log)
    settings, spec = recipe_of(checkpoint), checkpoint.spec
    processor = processor_of(settings, checkpoint.load_tokenizer(False), None)
    _check_tokenizer(checkpoint, processor, path)
    tokenizer, changes = processor.tokenizer, {"model.text.rows": max(spec.rows, processor.tokenizer.vocab_size)}
    if settings.model.text.filler is not None:
        changes["model.text.filler"] = tokenizer.pad_id
    if tokenizer.vocab_size > spec.rows:
        more = tokenizer.vocab_size - spec.rows
        log(f"{path}: the tokenizer has {more} ids that the embeddings have no rows for; these get the mean of all")
    head = None if checkpoint.sentences is not None else checkpoint.head()
    if isinstance(head, str):
        architecture = architecture_of(checkpoint.config, checkpoint.family)
        log(f"{path}: its head, {architecture}, is not used: {head}")
        head = None
    settings = settings.replace(changes)
    if head is not None:
        settings = settings.replace({"model.text.pool": head.pool, "model.head": "linear"})
    state = checkpoint.state(settings.model.text, settings.model.text.rows)
    if head is not None:
        state |= head.from_hf(checkpoint.tensors())
        tasks = {head.task.name: head.task}
    else:
        entry = _task(checkpoint, state, tokenizer)
        tasks = {entry.name: TASKS.get(entry.name)(entry)}
    settings = settings.replace(tasks=[task.settings for task in tasks.values()])
    used = {name: item for name, item in state.items() if not name.startswith("heads.") or name.split(".")[1] in tasks}
    return filled_model(settings, tasks, processor, lambda: used, dtype), settings, tasks, processor


def with_rows(tensor: Tensor, rows: int) -> Tensor:
    """(V, ...) -> (rows, ...) where that is more: each new row is the mean of all there are."""
    more = rows - tensor.shape[0]
    if more <= 0:
        return tensor
    mean = tensor.float().mean(dim=0, keepdim=True).to(tensor.dtype)
    return torch.cat([tensor, mean.expand(more, *tensor.shape[1:])])


def _check_tokenizer(checkpoint: Checkpoint, processor: TextProcessor, path: str | Path) -> None:
    """Raise WeightsError where the tokenizer's ids are not those that the configuration names."""
    spec, tokenizer = checkpoint.spec, processor.tokenizer
    if spec.image_id is not None and processor.image_id != spec.image_id:
        expected = f"{spec.image_id}, as config.json says, for '{tokenizer.image_mark}'"
        do = "use the tokenizer that came with the weights"
        raise WeightsError(f"{path}, the tokenizer", expected, str(processor.image_id), do)
    if spec.embed is None or not needs_end(checkpoint.tower):
        return
    ends = tokenizer.frame[1]
    if not ends or (spec.end is not None and spec.end not in ends):
        expected = "a token that ends every text" + ("" if spec.end is None else f", {spec.end} as config.json says")
        received = "none" if not ends else str(ends[-1])
        do = "use the tokenizer.json of these weights"
        raise WeightsError(f"{checkpoint.place}, the tokenizer", expected, received, do)


def _task(checkpoint: Checkpoint, state: State, tokenizer: Tokenizer) -> TaskSettings:
    spec = checkpoint.spec
    if spec.embed is not None:
        return TaskSettings(name="retrieve", columns={"image": "image", "text": "text"}, loss=spec.loss)
    image = {"image": "image"} if spec.image is not None else {}
    if checkpoint.part == "decoder" and checkpoint.sentences is None:
        if tokenizer.has_chat:
            return TaskSettings(name="converse", columns={"messages": "messages", **image})
        if image:
            columns = {"question": "question", **image, "answer": "answer"}
            return TaskSettings(name="answer", columns=columns, layout="plain")
        return TaskSettings(name="lm", columns={"text": "text"})
    masked = checkpoint.sentences is None and tokenizer.mask_id is not None
    if masked and any(name.startswith("heads.mlm.") for name in state):
        return TaskSettings(name="mlm", columns={"text": "text"})
    return TaskSettings(name="similar", columns={"anchor": "text", "positive": "other"})


def _is_rebus(folder: Path) -> bool:
    try:
        return load_config(folder).get("model_type") == "rebus"
    except WeightsError:
        return False  # told by whoever opens it


@lru_cache(maxsize=4)
def fetched(name: str) -> str:
    """A repository of the hub as a folder here: weights, configuration and tokenizer alone."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        what = f"fetching '{name}' from the hub (there is no such folder here)"
        raise MissingPackageError("huggingface-hub", "hub", what) from error
    expected = "a folder here, or a repository of the hub"
    try:
        return str(snapshot_download(name, allow_patterns=_FETCHED, ignore_patterns=_LEFT))
    except LocalEntryNotFoundError as error:
        do = "check the spelling of the path; or go online once, or fetch the folder by hand and name it"
        raise WeightsError(name, expected, "neither, being offline", do) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        message = " ".join(str(error).split())[:200]
        do = "check the spelling; for a gated repository log in with: hf auth login"
        raise WeightsError(name, expected, f"'{message}'", do) from error
