"""A Run's model in the layout of its Hugging Face family, where it is one text tower that such a family has.

Then ``AutoModelForCausalLM.from_pretrained(run)`` and the like open it; heads of Rebus' other tasks lie beside it in
heads.safetensors, and config.json holds what Rebus adds under the key ``rebus``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from rebus import atomic
from rebus.checkpoints.hf_dual import LAYOUTS as DUALS
from rebus.checkpoints.hf_dual import dual_state
from rebus.checkpoints.hf_save_heads import PlacedHead, placed_text_head
from rebus.checkpoints.hf_save_vision import LAYOUTS, vision_state
from rebus.formats import bert
from rebus.formats.families import FAMILIES, Family, family_for
from rebus.formats.names import State
from rebus.formats.sentence_transformers import write_sentence_model
from rebus.formats.weights import load_weights
from rebus.models.towers.decoder import Decoder
from rebus.models.towers.encoder import Encoder
from rebus.models.vlm import VisionLanguageModel
from rebus.recipe import Tower
from rebus.tasks import Task
from rebus.text.foreign import CONFIG
from rebus.text.tokenizer import Tokenizer

KEY, HEADS_FILE = "rebus", "heads.safetensors"
_PARTS = {"decoder": "decoder", "encoder": "text"}  # kind of tower: its place in the model
_MASKED = "heads.mlm."  # the head that BertForMaskedLM has a place for


@dataclass(frozen=True)
class SingleTower:
    """The one text tower of a model.

    Attributes:
        part: its place in the model, ``decoder`` or ``text``.
        tower: it.
        family: what it can be written as.
        head: the head that an architecture of the family has a place for, beside BERT's for masked words.
    """

    part: str
    tower: Decoder | Encoder
    family: Family
    head: PlacedHead | None = None

    def state_to_hf(self, state: Mapping[str, Tensor]) -> tuple[State, State]:
        """A model's tensors as those of its family, and those of its heads under Rebus' names."""
        tower = _below(f"{self.part}.", state)
        heads = {name: tensor for name, tensor in state.items() if name.startswith("heads.")}
        masked = _below(_MASKED, heads)
        if self.family.name == "bert" and masked:
            heads = {name: tensor for name, tensor in heads.items() if not name.startswith(_MASKED)}
            return bert.masked_to_hf(tower, masked), heads
        if self.head is not None:
            own, heads = self.head.split(heads)
            return bert.classifier_to_hf(tower, own, f"Bert{self.head.ending}"), heads
        return self.family.to_hf(tower), heads

    def describe_tokenizer(self, folder: Path, max_length: int) -> None:
        """Say in tokenizer_config.json how long texts may be and what the tower reads beside ids."""
        said = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        own = self.tower.settings.context
        said["model_max_length"] = max_length if own is None else min(max_length, own)
        segments = ["token_type_ids"] if self.part == "text" and self.tower.settings.segments > 1 else []
        said["model_input_names"] = ["input_ids", *segments, "attention_mask"]
        atomic.write_json(folder / CONFIG, said)

    def describe_pooling(self, folder: Path, max_length: int) -> None:
        """Say for sentence-transformers how the encoder's tokens become the vector that Rebus gives for a text."""
        tower = self.tower.settings
        if self.part == "text" and self.family.name == "bert":
            length = max_length if tower.context is None else min(max_length, tower.context)
            write_sentence_model(folder, tower.pool, tower.width, length)

    def config(self, model: VisionLanguageModel, tokenizer: Tokenizer) -> dict[str, Any]:
        """The config.json of the family."""
        ends = list(tokenizer.eos_ids)
        tokens: dict[str, Any] = {"pad_token_id": tokenizer.pad_id}
        if self.part == "decoder":
            begins = tokenizer.frame[0][0] if tokenizer.frame[0] else tokenizer.bos_id
            tokens |= {"bos_token_id": begins, "eos_token_id": ends if len(ends) > 1 else ends[0]}
        made = self.family.config_to_hf(
            self.tower.settings, self.tower.vocab_size, max_length=self.tower.max_length, **tokens
        )
        if self.part == "decoder" and not any(head.writes for head in model.heads.values()):
            made["architectures"] = [self.family.base]
        if self.family.name == "bert" and any(name.startswith(_MASKED) for name in model.state_dict()):
            made["architectures"] = ["BertForMaskedLM"]
        elif self.head is not None:
            made |= {"architectures": [f"Bert{self.head.ending}"], **self.head.entries}
        return made


def lone_tower(model: VisionLanguageModel, tasks: Iterable[Task]) -> SingleTower | None:
    """The tower, where a model is one text tower of a known family and heads, and nothing else; else None.

    Args:
        model: it.
        tasks: what it learned, in the order in which their heads are offered the family's one place.
    """
    towers = {"text": model.text, "decoder": model.decoder}
    there = {part: tower for part, tower in towers.items() if tower is not None}
    if model.image is not None or model.fusion is not None or len(there) != 1:
        return None
    (part, tower), *_ = there.items()
    kind = next((kind for kind, place in _PARTS.items() if place == part), "")
    if not isinstance(tower, Decoder | Encoder) or (isinstance(tower, Decoder) and tower.memory_norm is not None):
        return None
    family = family_for(tower.settings.model_copy(update={"kind": kind}))
    if family is None:
        return None
    masked = any(name.startswith(_MASKED) for name in model.state_dict())
    head = placed_text_head(model, tasks) if family.name == "bert" and not masked else None
    return SingleTower(part, tower, family, head)


def run_state(folder: Path, config: Mapping[str, Any], settings: Tower) -> State:
    """A Run's tensors under the names that they have in its model, in whichever layout they were saved.

    Args:
        folder: the Run.
        config: its config.json.
        settings: its recipe's ``model.text``.

    Raises:
        WeightsError: a file is missing or damaged, or a tensor has a name that the family has not.
    """
    if KEY in config and config.get("model_type") in LAYOUTS:
        found = vision_state(folder, config, settings)
        return found | (load_weights(folder / HEADS_FILE) if (folder / HEADS_FILE).is_file() else {})
    if KEY in config and config.get("model_type") in DUALS:
        found = dual_state(folder, config)
        return found | (load_weights(folder / HEADS_FILE) if (folder / HEADS_FILE).is_file() else {})
    state = load_weights(folder)
    if KEY not in config or config.get("model_type") not in FAMILIES:
        return state
    family = FAMILIES[str(config["model_type"])]
    part = _PARTS[family.tower]
    found = {f"{part}.{name}": tensor for name, tensor in family.from_hf(state, settings).items()}
    if family.name == "bert":
        found |= {_MASKED + name: tensor for name, tensor in bert.head_from_hf(state).items()}
        found |= _placed(config, state)
    if (folder / HEADS_FILE).is_file():
        found |= load_weights(folder / HEADS_FILE)
    return found


def _placed(config: Mapping[str, Any], state: State) -> State:
    """The head that lies among the family's own tensors, under the names of the task that it belongs to."""
    named = config.get("architectures")
    architecture = str(named[0]) if isinstance(named, list) and named else ""
    task = rebus_entry(config).get("head")
    return {f"heads.{task}.linear.{name}": one for name, one in bert.classifier_from_hf(state, architecture).items()}


def rebus_entry(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What Rebus wrote into a config.json: under a key of its own in a family's layout, else all of it."""
    found = config.get(KEY, config)
    return found if isinstance(found, Mapping) else {}


def _below(prefix: str, state: Mapping[str, Tensor]) -> State:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
