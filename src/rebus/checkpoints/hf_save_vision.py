"""A Run that sees and writes, in a layout that other libraries open: Idefics3's (SmolVLM's), or Llava's.

It is a SigLIP-shaped or CLIP-shaped vit whose tokens stand inside the text of a decoder of the Llama, Qwen2 or Qwen3
family: through a pixel shuffle and one matrix for the first layout, through two layers for the second. Everything else
that a Run may be is saved in Rebus' own layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from rebus import atomic, recipe
from rebus.formats import idefics3, llava
from rebus.formats.families import family_for
from rebus.formats.names import State
from rebus.formats.processors import image_to_hf
from rebus.formats.vision_text import DECODERS, VisionText
from rebus.formats.weights import load_weights
from rebus.models.towers.decoder import Decoder
from rebus.models.towers.vit import ViT
from rebus.models.vlm import VisionLanguageModel
from rebus.tasks import TextProcessor

LAYOUTS = (*idefics3.NAMES, "llava")
PARTS = ("image.", "inline.", "decoder.")


@dataclass(frozen=True)
class Seeing:
    """A model that one of the layouts has a place for.

    Attributes:
        layout: ``idefics3`` or ``llava``.
        found: what it is in our terms.
        decoder: its text decoder.
        tokens: image tokens inside the text.
    """

    layout: str
    found: VisionText
    decoder: Decoder
    tokens: int

    def state_to_hf(self, state: Mapping[str, Tensor]) -> tuple[State, State]:
        """A model's tensors as those of the layout, and the rest of them, for other tasks, under Rebus' names."""
        inside = {name: tensor for name, tensor in state.items() if name.startswith(PARTS)}
        rest = {name: tensor for name, tensor in state.items() if name not in inside}
        if self.layout == "llava":
            return llava.to_hf(inside, self.found.family, self.found.tower), rest
        return idefics3.to_hf(inside, self.found.family), rest

    def config(self, processor: TextProcessor) -> dict[str, Any]:
        """The config.json of the layout."""
        make = llava.config_to_hf if self.layout == "llava" else idefics3.config_to_hf
        return make(self.found, max_length=self.decoder.max_length, **token_ids(processor))

    def save_beside(self, folder: Path, image: recipe.Image, processor: TextProcessor) -> None:
        """Write what transformers' processors and generation read."""
        tower, size = self.found.tower, self.found.size
        if self.layout == "llava":
            image_processor: dict[str, Any] = {
                "processor_class": "LlavaProcessor",
                "patch_size": tower.patch,
                "vision_feature_select_strategy": llava.strategy(tower),
                "num_additional_image_tokens": int(tower.class_token),
                "image_token": processor.tokenizer.image_mark,
            }
            images = image_to_hf(image, "clip")
        else:
            image_processor = {"processor_class": "Idefics3Processor", "image_seq_len": self.tokens}
            images = image_to_hf(image, "siglip") | {
                "image_processor_type": "Idefics3ImageProcessor",
                "do_image_splitting": False,  # one image, one square
                "do_pad": True,
                "do_resize": image.fit == "twice",  # else scaled once, to the square
                "size": {"longest_edge": (image.edge if image.fit == "twice" else None) or size},
                "max_image_size": {"longest_edge": size},
            }
        atomic.write_json(folder / "preprocessor_config.json", images)
        atomic.write_json(folder / "processor_config.json", image_processor)
        atomic.write_json(folder / "generation_config.json", token_ids(processor))


def seeing(model: VisionLanguageModel, settings: recipe.Recipe) -> Seeing | None:
    """What a model can be saved as, where one of the layouts has a place for it; else None."""
    tower, decoder, inline = model.image, model.decoder, model.inline
    if inline is None or not isinstance(tower, ViT) or not isinstance(decoder, Decoder) or model.text is not None:
        return None
    family = family_for(decoder.settings.model_copy(update={"kind": "decoder"}))
    if family is None or family.name not in DECODERS or decoder.memory_norm is not None or model.plan.side is not None:
        return None
    if model.plan.projector == "mlp":
        layout, able = "llava", llava.fits(tower.settings)
    else:
        layout, able = "idefics3", idefics3.fits(tower.settings, tower.grid)
    if not able or model.image_id is None:
        return None
    fusion = settings.model.fusion.model_copy(
        update={"projector": model.plan.projector, "shuffle": max(model.plan.factor, 2)}
    )
    found = VisionText(tower.settings, tower.size, fusion, family, decoder.settings, decoder.vocab_size, model.image_id)
    return Seeing(layout, found, decoder, model.plan.inside)


def described(config: Mapping[str, Any], where: str) -> VisionText:
    """A config.json of one of the layouts in our terms. Raises WeightsError as these do."""
    read = llava.settings_from_hf if config.get("model_type") == "llava" else idefics3.settings_from_hf
    return read(config, where)


def state_from_hf(state: Mapping[str, Tensor], config: Mapping[str, Any], found: VisionText) -> State:
    """Tensors of one of the layouts under the names that they have in a model."""
    read = llava.from_hf if config.get("model_type") == "llava" else idefics3.from_hf
    return read(state, found)


def vision_state(folder: Path, config: Mapping[str, Any], text: recipe.Tower) -> State:
    """What a Run of such a layout holds, its other tasks' tensors left out; ``text`` says whether its decoder's output
    weights are the embeddings. Raises WeightsError.
    """
    found = described(config, str(folder / "config.json"))
    found = replace(found, text=found.text.model_copy(update={"tied": text.tied}))
    return state_from_hf(load_weights(folder), config, found)


def token_ids(processor: TextProcessor) -> dict[str, Any]:
    """Special tokens by the names that configurations have for them."""
    tokenizer = processor.tokenizer
    ends = list(tokenizer.eos_ids)
    found = {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": ends if len(ends) > 1 else ends[0],
        "pad_token_id": tokenizer.pad_id,
    }
    return {name: one for name, one in found.items() if one is not None}
