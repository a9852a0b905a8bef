"""Checkpoints of other projects that see and write: Idefics3, SmolVLM and Llava, opened as they are.

An image is one square of the size that the tower was made for. Checkpoints whose processors cut large images into
several squares are opened without that, and say so: the whole image is what they see last of it anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from rebus import recipe
from rebus.checkpoints.hf_save_vision import described, state_from_hf
from rebus.errors import WeightsError
from rebus.formats.names import State
from rebus.formats.processors import FILE, image_from_hf, read_processor
from rebus.formats.vision_text import VisionText

Log = Callable[[str], None]
# where the files do not say: of Idefics3's processor, and of Llava's
_IDEFICS3: dict[str, Any] = {
    "resample": 1,
    "do_image_splitting": True,
    "do_resize": True,
    "size": {"longest_edge": 4 * 364},
}
_LLAVA: dict[str, Any] = {"size": {"shortest_edge": 224}}


@dataclass(frozen=True)
class VisionSpec:
    """What a checkpoint that sees is, beside its text.

    Attributes:
        found: in our terms.
        image: how it sees images.
        config: its config.json.
    """

    found: VisionText
    image: recipe.Image
    config: Mapping[str, Any]

    def state(self, tensors: Mapping[str, Tensor]) -> State:
        """Its tensors under the names that they have in a model of ours. Raises WeightsError for an unknown one."""
        return state_from_hf(tensors, self.config, self.found)

    def settle(self, settings: recipe.Recipe) -> recipe.Recipe:
        """A recipe with its image tower, its images and how they get into the text."""
        model = settings.model.replace(image=self.found.tower, fusion=self.found.fusion)
        return settings.replace(model=model, image=self.image)


def vision_of(place: Path, config: Mapping[str, Any], log: Log) -> VisionSpec:
    """What a folder with such a checkpoint says of its images.

    Raises:
        WeightsError: its configuration or its processor asks for something that is not done here.
    """
    found = described(config, str(place / "config.json"))
    return VisionSpec(found, image_of(place, config, found, log), config)


def image_of(place: Path, config: Mapping[str, Any], found: VisionText, log: Log) -> recipe.Image:
    """How a checkpoint sees images, by its preprocessor_config.json. Raises as ``vision_of``."""
    said = read_processor(place) or {}
    where = f"{place / FILE}, "
    if config.get("model_type") == "llava":
        kind = str(said.get("image_processor_type") or "CLIPImageProcessor")
        kind = kind.replace("Llava", "CLIP") if not said.get("do_pad") else kind  # the same but for padding
        made = image_from_hf({**_LLAVA, **said, "image_processor_type": kind})
        if made["size"] != found.size:
            expected = f"images of {found.size} pixels a side, as its tower has them"
            raise WeightsError(where + "size", expected, str(made["size"]), "use the files that came with the weights")
        return recipe.Image.model_validate(made)
    told = {**_IDEFICS3, **said}
    square = told.get("max_image_size") or {"longest_edge": found.size}
    if not isinstance(square, Mapping) or square.get("longest_edge") != found.size:
        expected = f"squares of {found.size} pixels a side, as its tower has them"
        raise WeightsError(where + "max_image_size", expected, str(square), "use the files that came with the weights")
    if told["do_image_splitting"]:
        log(
            f"{place}: made to cut large images into several; opened without that, it sees one image as one "
            f"square of {found.size} x {found.size} pixels"
        )
    # What is left is one square, which SigLIP's processor has words for, after a first scaling.
    size = {"height": found.size, "width": found.size}
    plain = {"image_processor_type": "SiglipImageProcessor", "do_resize": True, "do_pad": False, "size": size}
    made = image_from_hf({**told, **plain})
    longest = told["size"].get("longest_edge") if isinstance(told["size"], Mapping) else None
    if told["do_resize"] and isinstance(longest, int):
        made |= {"fit": "twice", "edge": longest}
    return recipe.Image.model_validate(made)
