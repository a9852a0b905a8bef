"""Llava checkpoints: a CLIP or SigLIP tower read before its last norm, two layers, and a text decoder.

Names and configuration, both ways; written as files on the hub have them, read in those and in newer names. The tower's
and the text's own names are those of their families.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rebus.errors import WeightsError
from rebus.formats import clip, siglip
from rebus.formats.config import demand, flag, mapping, number, shared_entries
from rebus.formats.families import IMAGE_FAMILIES, Family
from rebus.formats.names import State
from rebus.formats.vision_text import VisionText, below, moved, text_config_of
from rebus.recipe import Fusion, Tower

TOWERS = ("clip_vision_model", "siglip_vision_model")
# new names first: the old ones are their ends
_READ = {
    "model.language_model.": "model.",
    "language_model.model.": "model.",
    "language_model.lm_head.": "lm_head.",
    "model.vision_tower.": "vision.",
    "vision_tower.": "vision.",
    "model.multi_modal_projector.": "inline.",
    "multi_modal_projector.": "inline.",
}
# of LlavaConfig, where a file leaves the whole of its vision_config out
_VISION = {
    **{"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
    **{"image_size": 336, "patch_size": 14},
}
_WRITTEN = {"model.": "language_model.model.", "lm_head.": "language_model.lm_head."}


def settings_from_hf(config: Mapping[str, Any], where: str) -> VisionText:
    """What a checkpoint is in our terms.

    The image tower is as deep as the layer it is read at; its last norm is not read.

    Raises:
        WeightsError: the configuration asks for something that is not done here.
    """
    inner = mapping(config, "llava", "text_config")
    tied = any(flag(one, "llava", "tie_word_embeddings", False) for one in (config, inner))
    family, text, rows = text_config_of(config, where, tied=tied)
    vision = {"model_type": "clip_vision_model", **(mapping(config, "llava", "vision_config") or _VISION)}
    name = demand(vision, "llava", "model_type", TOWERS)
    adapter = IMAGE_FAMILIES[name]
    tower, size = adapter.settings_from_hf(vision)
    select = demand(config, "llava", "vision_feature_select_strategy", ("default", "full"), "default")
    if (select == "default") != tower.class_token:
        expected = "'default' for a CLIP tower, whose class token is left out, and 'full' for SigLIP, which has none"
        do = "this variant is not supported; use a checkpoint without it"
        raise WeightsError(f"{where}, 'vision_feature_select_strategy'", expected, f"'{select}' for {name}", do)
    demand(config, "llava", "projector_hidden_act", ("gelu",), "gelu")
    demand(config, "llava", "multimodal_projector_bias", (True,), True)
    tower = tower.model_copy(
        update={
            "depth": _depth(config.get("vision_feature_layer", -2), tower.depth, where),
            "last_norm": "pooled",
            "pool": "cls" if tower.class_token else "mean",
        }
    )
    fusion = Fusion(kind="unified", layout="inline", projector="mlp")
    token = config.get("image_token_index", config.get("image_token_id", 32000))
    return VisionText(
        tower,
        size,
        fusion,
        family,
        text,
        rows,
        number({"image_token_index": token}, "llava", "image_token_index", least=0),
    )


def _depth(layer: Any, depth: int, where: str) -> int:
    """Layers that are run when hidden states are read at ``layer``: 0 is what enters the first, -1 what leaves all."""
    if not isinstance(layer, int) or isinstance(layer, bool):
        do = "this variant is not supported; use a checkpoint that reads one layer"
        raise WeightsError(f"{where}, 'vision_feature_layer'", "one layer's number", repr(layer), do)
    run = layer if layer >= 0 else depth + 1 + layer
    if not 1 <= run <= depth:
        do = "use the config.json that came with the weights"
        raise WeightsError(f"{where}, 'vision_feature_layer'", f"a layer of {depth}", str(layer), do)
    return run


def config_to_hf(found: VisionText, **context: Any) -> dict[str, Any]:
    """The config.json: the tower has just the layers that are run, and is read at its last.

    Args:
        found: what the model is.
        context: as the text family's ``config_to_hf``.
    """
    adapter = clip if found.tower.class_token else siglip
    vision = adapter.config_to_hf(found.tower, found.size)
    vision.pop("architectures")
    return {
        "model_type": "llava",
        "architectures": ["LlavaForConditionalGeneration"],
        "image_token_index": found.image_id,
        "image_seq_length": (found.size // found.tower.patch) ** 2,
        "projector_hidden_act": "gelu",
        "multimodal_projector_bias": True,
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": strategy(found.tower),
        "tie_word_embeddings": found.text.tied,
        "vision_config": vision,
        "text_config": found.family.config_to_hf(found.text, found.rows, **context),
        **shared_entries(context),
    }


def strategy(tower: Tower) -> str:
    """Llava's word for whether a tower's first token is left out."""
    return "default" if tower.class_token else "full"


def from_hf(state: Mapping[str, Tensor], found: VisionText) -> State:
    """A checkpoint's tensors under the names that they have in a model of ours; layers that are not run stay behind.

    Raises:
        WeightsError: a name that the family has not.
    """
    named = moved(state, _READ)
    known = ("model.", "lm_head.", "vision.", "inline.linear_1.", "inline.linear_2.")
    unknown = next((name for name in named if not name.startswith(known)), None)
    if unknown is not None:
        do = "use a checkpoint without it"
        raise WeightsError("the llava layout", "names of this family's tensors", f"'{unknown}'", do)
    adapter = clip if found.tower.class_token else siglip
    image = adapter.from_hf(dict(below("vision.", named)), found.tower)
    text = {name: tensor for name, tensor in named.items() if name.startswith(("model.", "lm_head."))}
    return {
        **{f"image.{name}": tensor for name, tensor in image.items() if _is_run(name, found.tower.depth)},
        **dict(below("inline.", named, keep=True)),
        **{f"decoder.{name}": tensor for name, tensor in found.family.from_hf(text, found.text).items()},
    }


def to_hf(state: Mapping[str, Tensor], family: Family, tower: Tower) -> State:
    """The other way round.

    Args:
        state: tensors of ``image.``, ``inline.`` and ``decoder.``.
        family: of the text.
        tower: the image tower's settings.
    """
    vision = (clip if tower.class_token else siglip).to_hf(dict(below("image.", state)))
    return {
        **{f"vision_tower.{name}": tensor for name, tensor in vision.items()},
        **{f"multi_modal_projector.{name}": tensor for name, tensor in below("inline.", state)},
        **moved(family.to_hf(dict(below("decoder.", state))), _WRITTEN),
    }


def fits(tower: Tower) -> bool:
    """Whether an image tower can be written so: CLIP's or SigLIP's shape, its tokens not normed at the end."""
    as_siglip = tower.model_copy(update={"last_norm": "tokens"})
    plain = siglip.fits(as_siglip) and tower.pool == "mean"
    return tower.last_norm == "pooled" and (plain or clip.fits(tower))


def _is_run(name: str, depth: int) -> bool:
    parts = name.split(".")
    return parts[0] != "layers" or int(parts[1]) < depth
