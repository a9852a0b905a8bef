"""Image towers of other projects: a Hugging Face folder, or a repository on the hub, as a tower and its images.

A whole CLIP or SigLIP is read for its image tower here; ``dual`` reads both of its towers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rebus import recipe
from rebus.checkpoints.fitting import check_layers, check_tower
from rebus.checkpoints.hf_load import fetched, is_hub_id
from rebus.formats.config import load_config, model_type
from rebus.formats.families import IMAGE_FAMILIES, ImageFamily, image_family_of
from rebus.formats.module_names import renaming_of
from rebus.formats.names import State
from rebus.formats.peft import is_adapter, merge_adapter, read_adapter
from rebus.formats.processors import load_image
from rebus.formats.weights import load_shapes, load_weights
from rebus.models.towers.vit import resized_positions


@dataclass(frozen=True)
class ImageCheckpoint:
    """An image tower of another project.

    Attributes:
        place: the folder it lies in.
        family: which adapter reads it.
        tower: the settings of the tower that it becomes.
        image: fields of the recipe's ``image``: size, fit, resample, edge, mean and std, as its own processor
            prepares images, or as is usual where it has none.
        tensors: reads its tensors, under Hugging Face's names.
    """

    place: Path
    family: ImageFamily
    tower: recipe.Tower
    image: dict[str, Any]
    tensors: Callable[[], State] = field(repr=False)

    def state(self) -> State:
        """Its tensors under the names that they have in the tower.

        Positions are resized (bicubic, as DINOv2 does) where the images' size is not the one that they were learned
        for.

        Raises:
            WeightsError: files are missing or damaged, or a name is not the family's.
        """
        return self.named(self.tensors())

    def named(self, tensors: State) -> State:
        """Tensors under Hugging Face's names as ``state`` has them."""
        state = self.family.from_hf(tensors, self.tower)
        if "position" in state:
            state["position"] = resized_positions(state["position"], self.image["size"] // self.tower.patch)
        return state


def is_image_checkpoint(path: str | Path) -> bool:
    """Whether this is a folder with an image tower of a known family. Nothing is fetched."""
    place = Path(path)
    if (place / "recipe.yaml").exists():
        return False
    if not (place / "config.json").is_file():
        return is_adapter(place) and is_image_checkpoint(read_adapter(place).base)
    return model_type(load_config(place)) in IMAGE_FAMILIES


def image_checkpoint(path: str | Path, log: Callable[[str], None] = lambda _: None) -> ImageCheckpoint:
    """Look into a checkpoint of an image tower; its tensors are read when they are asked for.

    Args:
        path: a Hugging Face folder, a folder with a PEFT adapter, or a hub id.
        log: prints a line for people.

    Raises:
        WeightsError: it is not there, damaged, or of a family that is not known.
        MissingPackageError: a hub id, and the library for it is not installed.
    """
    place = Path(path)
    if is_hub_id(path):
        log(f"{path}: not a folder here, so looked for on the hub")
        place = Path(fetched(str(path)))
    if is_adapter(place) and not (place / "config.json").is_file():
        adapter = read_adapter(place)
        base = image_checkpoint(adapter.base, log)
        rename = renaming_of(base.family.name)
        return replace(base, place=place, tensors=lambda: merge_adapter(base.tensors(), adapter, rename=rename))
    config = load_config(place)
    family = image_family_of(config, str(place / "config.json"))
    tower, size = family.settings_from_hf(config)
    image = load_image(place, model_type(config), size, log)
    found = ImageCheckpoint(place, family, tower, image, lambda: load_weights(place))
    shapes = load_shapes(place)
    check_layers(str(place), tower, len(shapes))
    check_tower(str(place), tower, found.named(shapes), size=image["size"])
    return found
