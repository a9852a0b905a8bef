"""Idefics3 and SmolVLM checkpoints: a SigLIP-shaped tower, a pixel shuffle and one matrix, and a text decoder.

Names and configuration, both ways. The text's own are its family's (``llama`` and the like), under another prefix.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rebus.errors import WeightsError
from rebus.formats import siglip
from rebus.formats.config import flag, mapping, number, shared_entries
from rebus.formats.families import Family
from rebus.formats.names import State
from rebus.formats.vision_text import VisionText, below, moved, text_config_of
from rebus.recipe import Fusion, Tower

NAMES = ("idefics3", "smolvlm")  # the same tensors and sizes under two names
_PROJECTION = "model.connector.modality_projection.proj.weight"
_VISION, _TEXT = "model.", "model.text_model."
# What a vision_config leaves out is as Idefics3VisionConfig has it
_BASE = {
    "hidden_size": 1152,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 32,
}


def settings_from_hf(config: Mapping[str, Any], where: str) -> VisionText:
    """What a checkpoint is in our terms.

    Raises:
        WeightsError: the configuration asks for something that is not done here, or its sizes do not divide.
    """
    family, text, rows = text_config_of(config, where, tied=flag(config, "idefics3", "tie_word_embeddings", False))
    vision = {**_BASE, **mapping(config, "idefics3", "vision_config")}
    told = {**vision, "model_type": "siglip_vision_model", "vision_use_head": False}
    tower, size = siglip.settings_from_hf(told)
    factor = number(config, "idefics3", "scale_factor", 2)
    check_sizes(size, tower.patch, factor, where)
    fusion = Fusion(
        kind="unified", layout="inline", projector="shuffle" if factor > 1 else "linear", shuffle=max(factor, 2)
    )
    return VisionText(tower, size, fusion, family, text, rows, number(config, "idefics3", "image_token_id", 128257))


def check_sizes(size: int, patch: int, factor: int, where: str) -> None:
    """Raise WeightsError unless images divide into patches, and patches into the squares that become one token."""
    if size % patch or (size // patch) % factor:
        expected = "image_size divisible by patch_size, and the patches of a side by scale_factor"
        found = f"image_size {size}, patch_size {patch}, scale_factor {factor}"
        raise WeightsError(where, expected, found, "use the config.json that came with the weights")


def config_to_hf(found: VisionText, **context: Any) -> dict[str, Any]:
    """The config.json.

    Args:
        found: what the model is.
        context: as the text family's ``config_to_hf``.
    """
    tower = siglip.config_to_hf(found.tower, found.size)
    kept = {key: value for key, value in tower.items() if key not in ("architectures", "vision_use_head")}
    apart = found.text.model_copy(update={"tied": False})
    text = found.family.config_to_hf(apart, found.rows, **context)
    return {
        "model_type": "idefics3",
        "architectures": ["Idefics3ForConditionalGeneration"],
        "image_token_id": found.image_id,
        "scale_factor": found.fusion.shuffle if found.fusion.projector == "shuffle" else 1,
        "tie_word_embeddings": False,  # a copy lies in the file: vLLM has no tied weights in this layout
        "vision_config": {**kept, "model_type": "idefics3_vision"},
        "text_config": text,
        **shared_entries(context),
    }


def from_hf(state: Mapping[str, Tensor], found: VisionText) -> State:
    """A checkpoint's tensors under the names that they have in a model of ours.

    Raises:
        WeightsError: a name that the family has not.
    """
    vision = {name.removeprefix(_VISION): tensor for name, tensor in below("model.vision_model.", state, keep=True)}
    image = siglip.from_hf(vision, found.tower)
    if "position" in image:
        image["position"] = image["position"][seen_positions(found.size // found.tower.patch)]
    text = {name: t for name, t in state.items() if name.startswith((_TEXT, "lm_head."))}
    rest = [name for name in state if name not in text and name not in (_PROJECTION,)]
    unknown = [name for name in rest if not name.startswith("model.vision_model.")]
    if unknown:
        do = "use a checkpoint without it"
        raise WeightsError("the idefics3 layout", "names of this family's tensors", f"'{unknown[0]}'", do)
    plain = moved(text, {_TEXT: "model."})
    projection = {"inline.proj.weight": state[_PROJECTION]} if _PROJECTION in state else {}
    return {
        **{f"image.{name}": tensor for name, tensor in image.items()},
        **projection,
        **{f"decoder.{name}": tensor for name, tensor in found.family.from_hf(plain, found.text).items()},
    }


def to_hf(state: Mapping[str, Tensor], family: Family) -> State:
    """The other way round; output weights that are the embeddings are written a second time.

    Args:
        state: tensors of ``image.``, ``inline.`` and ``decoder.``, all or some.
        family: of the text.
    """
    vision = siglip.to_hf(dict(below("image.", state)))
    plain = family.to_hf(dict(below("decoder.", state)))
    if "model.embed_tokens.weight" in plain:  # part of a model is renamed too
        plain.setdefault("lm_head.weight", plain["model.embed_tokens.weight"].clone())
    text = moved(plain, {"model.": _TEXT})
    return {
        **{f"{_VISION}{name}": tensor for name, tensor in vision.items()},
        **({_PROJECTION: state["inline.proj.weight"]} if "inline.proj.weight" in state else {}),
        **text,
    }


def fits(tower: Tower, grid: int) -> bool:
    """Whether an image tower can be written so: SigLIP's shape, pooled by no layers of its own.

    Args:
        tower: its settings.
        grid: patches a side; for some numbers (19, 25, 29, ...) the layout reads positions with gaps.
    """
    plain = siglip.fits(tower) and tower.pool == "mean"
    return plain and bool((seen_positions(grid) == torch.arange(grid**2)).all())


def seen_positions(grid: int) -> Tensor:
    """(G x G,) the row of the position table that each patch of a whole image is given, row by row.

    Positions are told as fractions and sorted into G buckets, in float32 as there. For most G that is plain order; for
    some, rounding puts two neighbours into one bucket.
    """
    edges = torch.arange(1 / grid, 1.0, 1 / grid)
    fractions = (torch.arange(grid, dtype=torch.float32) * (1.0 / torch.tensor(grid))).clamp(max=1.0 - 1e-6)
    bucket = torch.bucketize(fractions, edges, right=True)
    return (bucket[:, None] * grid + bucket[None, :]).flatten()
