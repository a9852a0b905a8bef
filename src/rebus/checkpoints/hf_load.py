"""Checkpoints of other projects: a Hugging Face folder, a .gguf file, a PEFT adapter, or a repository on the hub.

Those that see images as well are described in ``rebus.checkpoints.hf_load_vision``.

Only safetensors and GGUF are read, and code that comes with a checkpoint is never run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from rebus.checkpoints.fitting import check_layers, check_tower
from rebus.checkpoints.hf_dual import LAYOUTS as DUALS
from rebus.checkpoints.hf_dual import BothSides, both_sides
from rebus.checkpoints.hf_load_heads import ForeignHead, architecture_of, foreign_head
from rebus.checkpoints.hf_load_vision import VisionSpec, vision_of
from rebus.checkpoints.hf_save_vision import LAYOUTS
from rebus.checkpoints.save_load import filled_model, processor_of
from rebus.errors import MissingPackageError, WeightsError, reachable
from rebus.formats import bert
from rebus.formats.config import load_config, model_type
from rebus.formats.families import Family, check_rows, family_of
from rebus.formats.module_names import renaming_of
from rebus.formats.names import State
from rebus.formats.peft import is_adapter, merge_adapter, read_adapter
from rebus.formats.sentence_transformers import FILE as SENTENCES
from rebus.formats.sentence_transformers import SentenceModel, read_sentence_model
from rebus.formats.weights import load_shapes, load_weights
from rebus.models.vlm import VisionLanguageModel
from rebus.recipe import Recipe, TaskSettings, Tower
from rebus.tasks import TASKS, Task, TextProcessor
from rebus.text.tokenizer import Tokenizer

GGUF = ".gguf"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FETCHED = ["*.safetensors", "*.json", "*.jinja"]
_LEFT = ["*/*.safetensors", "*/*.jinja", "onnx/*", "openvino/*"]  # copies of the weights for other programs
_EMBEDDINGS = ("embed_tokens.weight", "words.weight", "lm_head.weight")


@dataclass(frozen=True)
class Checkpoint:
    """A text model of another project.

    Attributes:
        place: the file or folder it lies in.
        config: config.json, or what a GGUF file says in its terms.
        family: which adapter reads it.
        tower: the settings of the tower that it becomes, ``rows`` of its embeddings included.
        tensors: reads its tensors, under Hugging Face's names.
        shapes: its tensors without their numbers, where they are not read through those of another checkpoint.
        load_tokenizer: reads its tokenizer; True: with Rebus' special tokens added where it lacks them.
        vision: what it is beside its text, where it sees images.
        sentences: how it makes vectors of texts, where it is a folder of sentence-transformers.
    """

    place: Path
    config: dict[str, Any]
    family: Family
    tower: Tower
    tensors: Callable[[], State] = field(repr=False)
    load_tokenizer: Callable[[bool], Tokenizer] = field(repr=False)
    shapes: Callable[[], State] = field(repr=False)
    vision: VisionSpec | BothSides | None = None
    sentences: SentenceModel | None = None

    @property
    def part(self) -> str:
        """Where in a model its tower stands."""
        return "decoder" if self.family.tower == "decoder" else "text"

    def state(self, settings: Tower | None = None, rows: int | None = None) -> State:
        """Its tensors under the names that they have in a model, the masked language model's head among them.

        Args:
            settings: of the tower that takes them; None: its own.
            rows: that the embeddings should have; further ones are the mean of those there are (Hewitt, 2021,
                "Initializing New Word Embeddings for Pretrained Language Models").

        Raises:
            WeightsError: files are missing or damaged, a name is not the family's, or the vocabulary in the
                configuration is not as large as the embeddings.
        """
        return self._named(self.tensors(), settings, rows)

    def head(self) -> ForeignHead | str | None:
        """Its head that classifies, marks words or finds answers; or why that cannot be used; None: there is none."""
        return foreign_head(self.config, self.shapes())

    def check(self) -> None:
        """Hold its configuration against the shapes of its tensors. Raises WeightsError."""
        where, shapes = str(self.place), self.shapes()
        towers = {self.part: (self.tower, {"vocab_size": self.tower.rows})}
        if self.vision is not None:
            towers["image"] = (self.vision.found.tower, {"size": self.vision.image.size})
        for tower, _ in towers.values():
            check_layers(where, tower, len(shapes))
        state = self._named(shapes, None, None)
        for part, (tower, context) in towers.items():
            check_tower(where, tower, state, f"{part}.", **context)

    def _named(self, found: State, settings: Tower | None, rows: int | None) -> State:
        seen: State = {}
        if self.vision is not None:
            whole = self.vision.state(found)
            prefix = f"{self.part}."
            tower = {name.removeprefix(prefix): one for name, one in whole.items() if name.startswith(prefix)}
            seen = {name: tensor for name, tensor in whole.items() if not name.startswith(prefix)}
        else:
            tower = self.family.from_hf(found, settings or self.tower)
        check_rows(tower, self.family, self.tower.rows or 0, str(self.place))
        for name in _EMBEDDINGS:
            if name in tower and rows is not None:
                tower[name] = with_rows(tower[name], rows)
        state = {**seen, **{f"{self.part}.{name}": tensor for name, tensor in tower.items()}}
        if self.family.name == "bert":
            head = {f"heads.mlm.{name}": tensor for name, tensor in bert.head_from_hf(found).items()}
            if "heads.mlm.bias" in head and rows is not None:
                head["heads.mlm.bias"] = with_rows(head["heads.mlm.bias"], rows)
            state |= head
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


def is_hub_id(path: str | Path) -> bool:
    """Whether this looks like owner/name on the hub: nothing of that name is here, and no folder ``owner`` either."""
    name = str(path)
    return bool(_HUB_ID.fullmatch(name)) and not os.path.exists(name) and not os.path.exists(Path(name).parent)


def read_checkpoint(
    path: str | Path, log: Callable[[str], None] = lambda _: None, *, below: tuple[Path, ...] = ()
) -> Checkpoint:
    """Look into a checkpoint; its tensors are read when they are asked for.

    Args:
        path: a Hugging Face folder, a .gguf file, a folder with a PEFT adapter, or a hub id.
        log: prints a line for people.
        below: adapters that it is the base of.

    Raises:
        WeightsError: it is not there, damaged, or of a family that is not known.
        MissingPackageError: a .gguf file or a hub id, and the library for it is not installed.
    """
    place = Path(path)
    if place.suffix == GGUF and not place.is_dir():
        return _gguf(place)
    if is_hub_id(path):
        log(f"{path}: not a folder here, so looked for on the hub")
        place = Path(fetched(str(path)))
    if is_adapter(place) and not (place / "config.json").is_file():
        return _adapted(place, log, below)
    sentences = read_sentence_model(place)
    found = _plain(place, log) if sentences is None else _sentence_model(place, sentences, log)
    found.check()
    return found


def _sentence_model(place: Path, sentences: SentenceModel, log: Callable[[str], None]) -> Checkpoint:
    """A transformer that sentence-transformers pools."""
    found = _plain(sentences.transformer, log)
    for note in sentences.notes:
        log(note)
    pool = sentences.pool(found.tower.kind)

    def tokenizer(extend: bool) -> Tokenizer:
        made = found.load_tokenizer(extend)
        if sentences.lower and made.normalise("A") != "a":
            do = "use a tokenizer.json that does so"
            raise WeightsError(place, "a tokenizer that writes texts in lower case", "one that does not", do)
        return made

    # a decoder that makes vectors needs no output weights, and its files hold none
    shape = {"pool": pool, "tied": True} if found.part == "decoder" else {"pool": pool}
    tower = found.tower.model_copy(update=shape)
    return replace(found, place=place, tower=tower, load_tokenizer=tokenizer, sentences=sentences)


def _plain(place: Path, log: Callable[[str], None]) -> Checkpoint:
    config = load_config(place)
    vision: VisionSpec | BothSides | None = None
    if model_type(config) in DUALS:
        vision = both_sides(place, config, log)
    elif model_type(config) in LAYOUTS:
        vision = vision_of(place, config, log)
    if vision is None:
        family, tower = _described(config, str(place / "config.json"))
    else:
        family = vision.family if isinstance(vision, BothSides) else vision.found.family
        tower = vision.found.text.model_copy(update={"rows": vision.found.rows})
    return Checkpoint(
        place,
        config,
        family,
        tower,
        lambda: load_weights(place),
        lambda extend: Tokenizer.load(place, extend=extend),
        lambda: load_shapes(place),
        vision,
    )


def recipe_of(path: str | Path | Checkpoint, log: Callable[[str], None] = lambda _: None) -> Recipe:
    """A recipe whose text tower is the checkpoint's, and which has nothing else. Raises as ``read_checkpoint``."""
    found = path if isinstance(path, Checkpoint) else read_checkpoint(path, log)
    length = max(4, found.tower.context or Recipe().text.max_length)
    if found.sentences is not None and found.sentences.max_length is not None:
        length = max(4, min(found.sentences.max_length, length))
    alone = {"model.image.kind": "none", "model.fusion.kind": "none"}
    settings = Recipe().replace({**alone, "model.text": found.tower, "text.max_length": length})
    return settings if found.vision is None else found.vision.settle(settings)


def open_checkpoint(
    path: str | Path, log: Callable[[str], None] = lambda _: None, dtype: torch.dtype | None = None
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
    found = read_checkpoint(path, log)
    settings = recipe_of(found)
    processor = processor_of(settings, found.load_tokenizer(False), None)
    tokenizer = processor.tokenizer
    if isinstance(found.vision, BothSides):
        found.vision.check(tokenizer, found.place)
        settings = settings.replace({"model.text": found.vision.fill(settings.model.text, tokenizer)})
    elif found.vision is not None and processor.image_id != found.vision.found.image_id:
        expected = f"{found.vision.found.image_id}, as config.json says, for '{tokenizer.image_mark}'"
        do = "use the tokenizer that came with the weights"
        raise WeightsError(f"{path}, the tokenizer", expected, str(processor.image_id), do)
    rows = found.tower.rows or 0
    if tokenizer.vocab_size > rows:
        more = tokenizer.vocab_size - rows
        log(f"{path}: the tokenizer has {more} ids that the embeddings have no rows for; these get the mean of all")
    settings = settings.replace({"model.text.rows": max(rows, tokenizer.vocab_size)})
    head = None if found.sentences is not None else found.head()
    if isinstance(head, str):
        log(f"{path}: its head, {architecture_of(found.config)}, is not used: {head}")
    if isinstance(head, ForeignHead):
        settings = settings.replace({"model.text.pool": head.pool, "model.head": "linear"})
    state = found.state(settings.model.text, settings.model.text.rows)
    if isinstance(head, ForeignHead):
        state |= head.state(found.tensors(), str(architecture_of(found.config)))
        settings = settings.replace(tasks=[head.task.settings])
        tasks = {head.task.name: head.task}
    else:
        settings = settings.replace(tasks=[_task(found, state, tokenizer)])
        tasks = {entry.name: TASKS.get(entry.name)(entry) for entry in settings.tasks}
    used = {name: one for name, one in state.items() if not name.startswith("heads.") or name.split(".")[1] in tasks}
    return filled_model(settings, tasks, processor, lambda: used, dtype), settings, tasks, processor


def with_rows(tensor: Tensor, rows: int) -> Tensor:
    """(V, ...) -> (rows, ...) where that is more: each new row is the mean of all there are."""
    more = rows - tensor.shape[0]
    if more <= 0:
        return tensor
    mean = tensor.float().mean(dim=0, keepdim=True).to(tensor.dtype)
    return torch.cat([tensor, mean.expand(more, *tensor.shape[1:])])


def _task(found: Checkpoint, state: State, tokenizer: Tokenizer) -> TaskSettings:
    if isinstance(found.vision, BothSides):
        return found.vision.task()
    if found.vision is not None:
        if tokenizer.has_chat:
            return TaskSettings(name="converse", columns={"messages": "messages", "image": "image"})
        asked = {"question": "question", "image": "image", "answer": "answer"}
        return TaskSettings(name="answer", columns=asked, layout="plain")
    if found.sentences is not None:
        return TaskSettings(name="similar", columns={"anchor": "text", "positive": "other"})
    if found.part == "decoder":
        if tokenizer.has_chat:
            return TaskSettings(name="converse", columns={"messages": "messages"})
        return TaskSettings(name="lm", columns={"text": "text"})
    if any(name.startswith("heads.mlm.") for name in state) and tokenizer.mask_id is not None:
        return TaskSettings(name="mlm", columns={"text": "text"})
    return TaskSettings(name="similar", columns={"anchor": "text", "positive": "other"})


def _described(config: dict[str, Any], where: str) -> tuple[Family, Tower]:
    family = family_of(config, where)
    tower, rows = family.settings_from_hf(config)
    return family, tower.replace(rows=rows)


def _adapted(folder: Path, log: Callable[[str], None], below: tuple[Path, ...]) -> Checkpoint:
    """An adapter's base with the adapter added to it; a tokenizer beside the adapter wins."""
    place = folder.resolve()
    if place in below:
        do = "write the model that it was trained on into base_model_name_or_path"
        raise WeightsError(folder, "an adapter whose base is another model", "itself among its bases", do)
    adapter = read_adapter(folder)
    base = read_checkpoint(adapter.base, log, below=(*below, place))
    own = (folder / "tokenizer.json").is_file()
    tied, vision = base.tower.tied and base.part == "decoder", base.vision
    shape = {"tied": base.tower.tied and not adapter.changes_embeddings, "rows": adapter.rows or base.tower.rows}
    if isinstance(vision, VisionSpec):
        text = vision.found.text.model_copy(update={"tied": shape["tied"]})
        vision = replace(vision, found=replace(vision.found, text=text, rows=adapter.rows or vision.found.rows))
    return replace(
        base,
        place=folder,
        tower=base.tower.model_copy(update=shape),
        vision=vision,
        tensors=lambda: merge_adapter(base.tensors(), adapter, tied=tied, rename=renaming_of(model_type(base.config))),
        load_tokenizer=(lambda extend: Tokenizer.load(folder, extend=extend)) if own else base.load_tokenizer,
    )


def _gguf(file: Path) -> Checkpoint:
    from rebus.formats.gguf import read_gguf

    model = read_gguf(file)
    family, tower = _described(model.config, str(file))

    def tokenizer(extend: bool) -> Tokenizer:
        if not extend:
            return model.tokenizer
        with TemporaryDirectory() as folder:
            model.tokenizer.save(folder)
            return Tokenizer.load(folder, extend=True)

    found = Checkpoint(file, model.config, family, tower, lambda: model.state, tokenizer, lambda: model.shapes)
    found.check()
    return found


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
    try:
        return str(snapshot_download(name, allow_patterns=_FETCHED, ignore_patterns=_LEFT))
    except LocalEntryNotFoundError as error:
        do = "check the spelling of the path; or go online once, or fetch the folder by hand and name it"
        raise WeightsError(name, "a folder here, or a repository of the hub", "neither, being offline", do) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        told = " ".join(str(error).split())[:200]
        do = "check the spelling; for a gated repository log in with: hf auth login"
        raise WeightsError(name, "a folder here, or a repository of the hub", f"'{told}'", do) from error


__all__ = ["Checkpoint", "is_checkpoint", "is_hub_id", "open_checkpoint", "read_checkpoint", "recipe_of"]
