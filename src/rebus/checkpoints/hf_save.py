"""A model in the layout of a checkpoint family, so that other libraries open it, and a Run read from such a layout.

``AutoModel.from_pretrained(run)`` and the like open it; tensors of other tasks lie beside it in heads.safetensors, and
config.json holds what Rebus adds under the key ``rebus``. A model that no family has a place for is saved in Rebus' own
layout.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from rebus import atomic, recipe
from rebus.checkpoints.hf_heads import LinearHead, architecture_of, placed_head
from rebus.formats.family import CheckpointFamily, CheckpointSpec, family_for, known_family
from rebus.formats.names import State, below
from rebus.formats.processors import is_exact
from rebus.formats.sentence_transformers import write_sentence_model
from rebus.formats.weights import load_weights
from rebus.models.vlm import VisionLanguageModel
from rebus.recipe import Tower
from rebus.tasks import Task, TextProcessor
from rebus.text.foreign import CONFIG
from rebus.text.tokenizer import Tokenizer

KEY, HEADS_FILE = "rebus", "heads.safetensors"
PAIRS = "retrieve"  # the task whose two towers a CLIP or a SigLIP has
_MASKED = "heads.mlm."


@dataclass(frozen=True)
class SavedModel:
    """A model that a family has a place for.

    Attributes:
        family: whose layout it is.
        spec: what it is in their terms.
        max_length: of a text that its tower reads.
        head: the linear head that an architecture of the family has a place for.
    """

    family: CheckpointFamily
    spec: CheckpointSpec
    max_length: int
    head: LinearHead | None = None

    @property
    def is_text_alone(self) -> bool:
        """Whether it is one text tower."""
        return self.spec.image is None

    def keeps_cutting(self, tokenizer: Tokenizer) -> bool:
        """Whether transformers cuts texts as this tokenizer does."""
        return self.family.pattern is None or tokenizer.cuts_as(self.family.pattern)

    def to_hf(self, state: Mapping[str, Tensor]) -> tuple[State, State]:
        """A model's tensors as those of the layout, and the rest of them, for other tasks, under Rebus' names."""
        inside = {name: tensor for name, tensor in state.items() if name.startswith(self.family.owns)}
        out = self.family.to_hf(inside, self.spec)
        taken = set(inside)
        if self.head is not None:
            out |= self.head.to_hf(state)
            taken |= {name for name in state if name.startswith(self.head.prefix)}
        return out, {name: tensor for name, tensor in state.items() if name not in taken}

    def config(self, tokenizer: Tokenizer) -> dict[str, Any]:
        """The config.json of the family."""
        tokens = token_ids(tokenizer)
        if self.is_text_alone and self.spec.text is not None:
            if self.spec.text.kind == "decoder":
                begins = tokenizer.frame[0][0] if tokenizer.frame[0] else tokenizer.bos_id
                tokens["bos_token_id"] = begins
            else:
                tokens = {"pad_token_id": tokenizer.pad_id}
        elif self.spec.embed is not None:
            tokens["eos_token_id"] = tokenizer.eos_id
        config = self.family.config(self.spec, max_length=self.max_length, **tokens)
        return config | (dict(self.head.entries) if self.head is not None else {})

    def write_beside(self, folder: Path, settings: recipe.Recipe, tokenizer: Tokenizer | None) -> None:
        """Write what transformers' processors and generation read; call it after the tokenizer is saved."""
        spec, text = self.spec, self.spec.text
        if spec.image is not None:
            mark = tokenizer.image_mark if tokenizer is not None else ""
            for name, entries in self.family.processor_files(settings.image, spec, mark).items():
                atomic.write_json(folder / name, entries)
        if text is None or tokenizer is None:
            return
        length, names = settings.text.max_length, ["input_ids"]
        if spec.fusion is not None:
            atomic.write_json(folder / "generation_config.json", token_ids(tokenizer))
            return
        length = length if text.context is None or spec.embed is not None else min(length, text.context)
        if self.is_text_alone and text.kind == "encoder":
            names += ["token_type_ids"] if text.segments > 1 else []
            write_sentence_model(folder, text.pool, text.width, length)
        if text.filler is None:  # else the tower reads what texts are filled up with
            names.append("attention_mask")
        entries = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        entries["model_max_length"] = text.context if spec.embed is not None else length
        atomic.write_json(folder / CONFIG, entries | {"model_input_names": names})


def saved_model(
    model: VisionLanguageModel,
    settings: recipe.Recipe,
    tasks: Mapping[str, Task],
    processor: TextProcessor | None = None,
) -> SavedModel | None:
    """What a model can be written as; None: no family has a place for it.

    Args:
        model: it.
        settings: its recipe.
        tasks: what it learned, in the order in which their heads are offered the family's one place.
        processor: of its texts.
    """
    spec = spec_of(model, settings, processor)
    family = None if spec is None else family_for(spec)
    if spec is None or family is None:
        return None
    text = model.text if model.text is not None else model.decoder
    head = None
    if spec.text is None or spec.image is None:
        alone = spec.text is not None or model.fusion is None
        masked = family.masked is not None and any(name.startswith(_MASKED) for name in model.state_dict())
        if masked:
            spec = replace(spec, architecture=family.masked)
        elif alone and (head := placed_head(model, family, tasks.values())) is not None:
            spec = replace(spec, architecture=head.architecture)
        elif model.decoder is not None and not any(head.writes for head in model.heads.values()):
            spec = replace(spec, architecture=family.base)
    return SavedModel(family, spec, getattr(text, "max_length", 0), head)


def spec_of(
    model: VisionLanguageModel, settings: recipe.Recipe, processor: TextProcessor | None = None
) -> CheckpointSpec | None:
    """What a model is in the terms of checkpoint families; None where it has a part that none of them has."""
    image, text = model.image, model.text if model.text is not None else model.decoder
    spec = CheckpointSpec()
    if image is not None:
        spec = replace(spec, image=image.settings, size=image.size)
    if text is None:
        return spec if image is not None else None
    crossed = getattr(model.decoder, "memory_norm", None) is not None
    if set(model.modalities) - {"image", "text"} or crossed or (model.text is not None and model.decoder is not None):
        return None
    kind = text.settings.kind
    if kind == "auto":
        kind = "decoder" if model.text is None else "encoder"
    rows = getattr(text, "vocab_size", None)
    spec = replace(spec, text=text.settings.model_copy(update={"kind": kind, "rows": rows}))
    if image is None:
        return spec if model.fusion is None else None
    if model.inline is not None:
        return _inline(spec, model, settings)
    return None if processor is None else _pair(spec, model, settings, processor)


def _inline(spec: CheckpointSpec, model: VisionLanguageModel, settings: recipe.Recipe) -> CheckpointSpec | None:
    """One whose image tokens stand inside its texts."""
    if model.text is not None or model.plan.side is not None or model.image_id is None:
        return None
    plan = model.plan
    shape = {"projector": plan.projector, "shuffle": max(plan.factor, 2)}
    fusion = settings.model.fusion.model_copy(update=shape)
    return replace(spec, fusion=fusion, image_id=model.image_id, image_tokens=plan.inside)


def _pair(
    spec: CheckpointSpec, model: VisionLanguageModel, settings: recipe.Recipe, processor: TextProcessor
) -> CheckpointSpec | None:
    """One whose images and texts have one space."""
    plain = is_exact(settings.image) and settings.data.background == "white" and processor.reader is None
    if model.pairs is None or model.text is None or PAIRS not in model.specs or not plain or spec.text is None:
        return None
    text = spec.text.model_copy(update={"context": getattr(model.text, "max_length", None)})
    if text.filler not in (None, processor.tokenizer.pad_id):
        return None
    ends = processor.tokenizer.frame[1]
    end = ends[-1] if ends and text.filler is None else None
    loss: Any = model.specs[PAIRS].options["loss"]
    return replace(spec, text=text, embed=model.pairs.size, maps=settings.model.maps, loss=loss, end=end)


def run_state(folder: Path, config: Mapping[str, Any], settings: Tower) -> State:
    """A Run's tensors under the names that they have in its model, in whichever layout they were saved.

    Args:
        folder: the Run.
        config: its config.json.
        settings: its recipe's ``model.text``.

    Raises:
        WeightsError: a file is missing or damaged, or a tensor has a name that the family has not.
    """
    tensors = load_weights(folder)
    family = known_family(config) if KEY in config else None
    if family is None:
        return tensors
    spec = family.settings(config, str(folder / "config.json"))
    if spec.text is not None:  # its pooling and whether output weights are tied are not in every layout
        spec = replace(spec, text=spec.text.model_copy(update={"tied": settings.tied, "pool": settings.pool}))
    state = family.from_hf(tensors, spec)
    architecture = architecture_of(config, family)
    if architecture is not None:  # a head among the family's own tensors
        own = below(f"{family.heads[architecture]}.", tensors)
        state |= {f"heads.{rebus_entry(config).get('head')}.linear.{name}": tensor for name, tensor in own.items()}
    return state | (load_weights(folder / HEADS_FILE) if (folder / HEADS_FILE).is_file() else {})


def rebus_entry(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What Rebus wrote into a config.json: under a key of its own in a family's layout, else all of it."""
    entry = config.get(KEY, config)
    return entry if isinstance(entry, Mapping) else {}


def token_ids(tokenizer: Tokenizer) -> dict[str, Any]:
    """Special tokens by the names that configurations have for them."""
    ends = list(tokenizer.eos_ids)
    ids = {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": ends if len(ends) > 1 else ends[0],
        "pad_token_id": tokenizer.pad_id,
    }
    return {name: number for name, number in ids.items() if number is not None}
