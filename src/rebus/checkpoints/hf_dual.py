"""Images and texts in one space as CLIP and SigLIP have it: checkpoints opened, and Runs saved in their layouts.

A Run with the task ``retrieve`` whose towers fit is saved so that ``AutoModel.from_pretrained(run)`` and its processor
give the same likeness; everything else that a Run may be is saved in Rebus' own layout.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from rebus import atomic, recipe
from rebus.errors import WeightsError
from rebus.formats import dual
from rebus.formats.dual import Dual
from rebus.formats.families import DUAL_TEXTS, Family
from rebus.formats.names import State
from rebus.formats.processors import FILE, image_to_hf, is_exact, load_image
from rebus.formats.weights import load_weights
from rebus.models.towers.encoder import Encoder
from rebus.models.towers.vit import ViT, resized_positions
from rebus.models.vlm import VisionLanguageModel
from rebus.recipe import TaskSettings
from rebus.tasks import TextProcessor
from rebus.text.foreign import CONFIG
from rebus.text.tokenizer import Tokenizer

LAYOUTS = dual.NAMES
TASK = "retrieve"
_PARTS = ("image.", "text.", dual.HEAD)
_PROCESSORS = {"clip": "CLIPProcessor", "siglip": "SiglipProcessor"}


@dataclass(frozen=True)
class BothSides:
    """What a CLIP or SigLIP checkpoint is.

    Attributes:
        found: its towers.
        image: how it sees images.
    """

    found: Dual
    image: recipe.Image

    @property
    def family(self) -> Family:
        """Of its text tower."""
        return DUAL_TEXTS[self.found.family]

    def state(self, tensors: Mapping[str, Tensor]) -> State:
        """Its tensors under the names that they have in a model of ours. Raises WeightsError for an unknown one."""
        state = dual.from_hf(tensors, self.found)
        if "image.position" in state:
            grid = self.image.size // self.found.tower.patch
            state["image.position"] = resized_positions(state["image.position"], grid)
        return state

    def settle(self, settings: recipe.Recipe) -> recipe.Recipe:
        """A recipe with its image tower, its images and its shared space."""
        space = {"fusion.kind": "none", "embed": self.found.embed, "maps": self.found.maps}
        model = settings.model.replace({"image": self.found.tower, **space})
        return settings.replace(model=model, image=self.image)

    def task(self) -> TaskSettings:
        """What it does."""
        return TaskSettings(name=TASK, columns={"image": "image", "text": "text"}, loss=self.found.loss)

    def fill(self, text: recipe.Tower, tokenizer: Tokenizer) -> recipe.Tower:
        """The text tower, texts filled up with what the tokenizer pads with where it reads that too."""
        return text if text.filler is None else text.replace(filler=tokenizer.pad_id)

    def check(self, tokenizer: Tokenizer, place: Path) -> None:
        """Raise WeightsError where its tokenizer does not end texts as its text tower was trained to be pooled."""
        if self.found.family != "clip":
            return
        ends, wanted = tokenizer.frame[1], self.found.end
        if not ends or (wanted is not None and wanted not in ends):
            expected = "a token that ends every text" + ("" if wanted is None else f", {wanted} as config.json says")
            found = "none" if not ends else str(ends[-1])
            raise WeightsError(f"{place}, the tokenizer", expected, found, "use the tokenizer.json of these weights")


def both_sides(place: Path, config: Mapping[str, Any], log: Callable[[str], None] = lambda _: None) -> BothSides:
    """What a folder with a CLIP or SigLIP says of itself.

    Raises:
        WeightsError: its configuration or its processor asks for something that is not done here.
    """
    found = dual.settings_from_hf(config)
    return BothSides(found, recipe.Image.model_validate(load_image(place, found.family, found.size, log)))


@dataclass(frozen=True)
class SavedDual:
    """A model that one of the layouts has a place for.

    Attributes:
        found: what it is in their terms.
    """

    found: Dual

    def state_to_hf(self, state: Mapping[str, Tensor]) -> tuple[State, State]:
        """A model's tensors as those of the layout, and the rest of them, for other tasks, under Rebus' names."""
        inside = {name: tensor for name, tensor in state.items() if name.startswith(_PARTS)}
        rest = {name: tensor for name, tensor in state.items() if name not in inside}
        return dual.to_hf(inside, self.found.family), rest

    def config(self, processor: TextProcessor) -> dict[str, Any]:
        """The config.json of the layout."""
        tokenizer = processor.tokenizer
        ids = {"bos_token_id": tokenizer.bos_id, "pad_token_id": tokenizer.pad_id, "eos_token_id": tokenizer.eos_id}
        return dual.config_to_hf(self.found, **ids)

    def save_beside(self, folder: Path, image: recipe.Image, processor: TextProcessor) -> None:
        """Write what transformers' processors read; call it after the tokenizer is saved."""
        family = self.found.family
        atomic.write_json(folder / FILE, image_to_hf(image, family) | {"processor_class": _PROCESSORS[family]})
        said = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        inputs = ["input_ids"] if family == "siglip" else ["input_ids", "attention_mask"]  # SigLIP reads its filling
        atomic.write_json(
            folder / CONFIG, said | {"model_max_length": self.found.text.context, "model_input_names": inputs}
        )


def saved_dual(model: VisionLanguageModel, settings: recipe.Recipe, processor: TextProcessor) -> SavedDual | None:
    """What a model can be saved as, where one of the layouts has a place for it; else None."""
    head, image, text = model.pairs, model.image, model.text
    if head is None or not isinstance(image, ViT) or not isinstance(text, Encoder) or processor.reader is not None:
        return None
    if not is_exact(settings.image) or settings.data.background != "white" or TASK not in model.specs:
        return None
    whole = text.settings.model_copy(update={"kind": "encoder", "context": text.max_length})
    family = dual.family_for(image.settings, whole, settings.model.maps, model.specs[TASK].options["loss"])
    ends = processor.tokenizer.frame[1]
    if family == "clip" and (not ends or ends[-1] == dual.NO_END):
        return None
    if family is None or (family == "siglip" and whole.filler != processor.tokenizer.pad_id):
        return None
    end = ends[-1] if family == "clip" else None
    return SavedDual(Dual(family, image.settings, image.size, whole, text.vocab_size, head.size, end))


def dual_state(folder: Path, config: Mapping[str, Any]) -> State:
    """What a Run in such a layout holds of it, its other tasks' tensors left out. Raises WeightsError."""
    return dual.from_hf(load_weights(folder), dual.settings_from_hf(config))


def needs_end(text: recipe.Tower) -> bool:
    """Whether a text tower is pooled where a text ends, so that its tokenizer should end texts."""
    return text.kind == "encoder" and text.pool == "last" and text.filler is None
