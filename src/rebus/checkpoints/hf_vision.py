"""A Run that is one image tower and heads, as other libraries open its tower: ViT, DINOv2, SigLIP, CLIP or ResNet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from rebus import recipe
from rebus.checkpoints.adapters import merged_state
from rebus.checkpoints.hf_save_heads import IMAGE, placed_image_head
from rebus.formats.families import image_family_for
from rebus.formats.processors import image_to_hf, is_exact
from rebus.models.vlm import VisionLanguageModel
from rebus.tasks import Task


@dataclass(frozen=True)
class SingleImageTower:
    """An image tower in Hugging Face's terms.

    Attributes:
        name: of the Run.
        config: config.json.
        state: its tensors.
        processor: preprocessor_config.json.
        notes: what a user should know, a sentence each.
    """

    name: str
    config: dict[str, Any]
    state: dict[str, Tensor]
    processor: dict[str, Any]
    notes: tuple[str, ...] = ()


def lone_image(
    model: VisionLanguageModel, settings: recipe.Recipe, tasks: Mapping[str, Task], name: str
) -> SingleImageTower | None:
    """The tower of a model that reads images and nothing else, where a family has a place for it; else None."""
    tower = model.image
    if tower is None or model.text is not None or model.decoder is not None:
        return None
    family = image_family_for(tower.settings)
    if family is None:
        return None
    whole = merged_state(model)
    state = {key.removeprefix("image."): one for key, one in whole.items() if key.startswith("image.")}
    reads = family.classifier is not None and model.fusion is None and tower.settings.pool != "pooler"
    placed = placed_image_head(model, tasks.values()) if reads else None
    heads = sorted({key.split(".")[1] for key in whole if key.startswith("heads.")} - {placed.task if placed else ""})
    rest = [*(["the fusion"] if model.fusion is not None else []), *(f"the head of {name}" for name in heads)]
    notes = [f"left out, since other programs have no place for it: {', '.join(rest)}"] if rest else []
    if family.name == "efficientnet_lite":
        notes.append(
            "transformers has no EfficientNet-lite: Rebus opens this folder with --vision, other programs do not"
        )
    if not is_exact(settings.image):
        image = settings.image
        how = f"image.fit '{image.fit}'" if image.fit == "pad" else "image.resample 'auto'"
        notes.append(f"{how} is in no processor of theirs: images are seen a little differently there")
    config = family.config_to_hf(tower.settings, tower.size)
    tensors = family.to_hf(state)
    if placed is not None:
        own, _ = placed.split(whole)
        tensors |= {f"{family.classifier}.{key}": tensor for key, tensor in own.items()}
        config |= {"architectures": [f"{family.base.removesuffix('Model')}{IMAGE}"], **placed.entries}
    return SingleImageTower(name, config, tensors, image_to_hf(settings.image, family.name), tuple(notes))
