"""Every family of checkpoints there is an adapter for, and which of them a tower of ours can be written as."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

from rebus.errors import WeightsError
from rebus.formats import (
    bert,
    clip,
    dinov2,
    dual,
    efficientnet,
    gpt2,
    llama,
    mistral,
    qwen2,
    qwen3,
    resnet,
    siglip,
    vit,
)
from rebus.formats.config import model_type
from rebus.formats.names import State
from rebus.nn.feedforward import swiglu_hidden
from rebus.recipe import Tower

_K_QUANT = 256  # weights in a block of llama.cpp's k-quants


@dataclass(frozen=True)
class Family:
    """One family of text models.

    Attributes:
        name: its ``model_type``.
        tower: the tower that it becomes: ``decoder`` or ``encoder``.
        base: the architecture without a head that writes.
        settings_from_hf: config.json -> (the tower's settings, rows of the embeddings).
        config_to_hf: (settings, rows, max_length=, dtype=, ids of special tokens) -> config.json.
        from_hf: (tensors under Hugging Face's names, settings) -> under the tower's names.
        to_hf: the other way round.
    """

    name: str
    tower: str
    base: str
    settings_from_hf: Callable[[Mapping[str, Any]], tuple[Tower, int]]
    config_to_hf: Callable[..., dict[str, Any]]
    from_hf: Callable[[Mapping[str, Tensor], Tower], State]
    to_hf: Callable[[Mapping[str, Tensor]], State]


def _family(name: str, tower: str, base: str, adapter: ModuleType) -> Family:
    both = (adapter.settings_from_hf, adapter.config_to_hf, adapter.from_hf, adapter.to_hf)
    return Family(name, tower, base, *both)


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        _family("llama", "decoder", "LlamaModel", llama),
        _family("qwen2", "decoder", "Qwen2Model", qwen2),
        _family("qwen3", "decoder", "Qwen3Model", qwen3),
        _family("mistral", "decoder", "MistralModel", mistral),
        _family("gpt2", "decoder", "GPT2Model", gpt2),
        _family("bert", "encoder", "BertModel", bert),
    )
}
# the text towers of whole checkpoints with two towers (``rebus.formats.dual``)
_TEXT_OF_DUAL = (dual.text_settings_from_hf, dual.text_config_to_hf, dual.text_from_hf, dual.text_to_hf)
DUAL_TEXTS = {
    "clip": Family("clip", "encoder", "CLIPTextModel", *_TEXT_OF_DUAL),
    "siglip": Family("siglip", "encoder", "SiglipTextModel", *_TEXT_OF_DUAL),
}


@dataclass(frozen=True)
class ImageFamily:
    """One family of image models.

    Attributes:
        name: its ``model_type`` where it is alone.
        base: the architecture without a head.
        prefix: before the names of its tensors in a larger model, which ``from_hf`` takes with or without it.
        settings_from_hf: config.json -> (the tower's settings, side of the images); a whole CLIP's or SigLIP's too.
        config_to_hf: (settings, side of the images) -> config.json.
        from_hf: (tensors under Hugging Face's names, settings) -> under the tower's names.
        to_hf: the other way round, with the prefix.
        fits: whether an image tower with these settings can be written so.
        classifier: what its image classifier calls its linear layer; None: it has none that reads the pooled vector.
    """

    name: str
    base: str
    prefix: str
    settings_from_hf: Callable[[Mapping[str, Any]], tuple[Tower, int]]
    config_to_hf: Callable[[Tower, int], dict[str, Any]]
    from_hf: Callable[[Mapping[str, Tensor], Tower], State]
    to_hf: Callable[[Mapping[str, Tensor]], State]
    fits: Callable[[Tower], bool]
    classifier: str | None = None


def _image_family(name: str, base: str, adapter: ModuleType, classifier: str | None = None) -> ImageFamily:
    both = (adapter.settings_from_hf, adapter.config_to_hf, adapter.from_hf, adapter.to_hf, adapter.fits)
    return ImageFamily(name, base, adapter.NAMES.base, *both, classifier)


_IMAGES = (
    _image_family("siglip_vision_model", "SiglipVisionModel", siglip),
    _image_family("clip_vision_model", "CLIPVisionModel", clip),
    _image_family("vit", "ViTModel", vit, "classifier"),
    _image_family("dinov2", "Dinov2Model", dinov2),
    _image_family("resnet", "ResNetModel", resnet, "classifier.1"),
    _image_family("efficientnet_lite", "EfficientNetLite", efficientnet),
)
# by model_type; a whole CLIP or SigLIP stands for its image tower
IMAGE_FAMILIES: dict[str, ImageFamily] = {
    **{family.name: family for family in _IMAGES},
    "siglip": _IMAGES[0],
    "clip": _IMAGES[1],
}
BOTH = ("clip", "siglip", "idefics3", "smolvlm", "llava")  # with a tower for images and one for text
_EMBEDDINGS = {"decoder": "embed_tokens.weight", "encoder": "words.weight"}


def family_of(config: Mapping[str, Any], where: str = "config.json") -> Family:
    """The family of a checkpoint.

    Raises:
        WeightsError: it is not known. Code that comes with a checkpoint (``auto_map``) is never run.
    """
    name = model_type(config)
    if name in FAMILIES:
        return FAMILIES[name]
    if name in IMAGE_FAMILIES:
        do = "train with its tower: rebus train TABLE --vision " + str(Path(where).parent)
        raise WeightsError(where, "a checkpoint that reads or writes text", f"'{name}', an image tower alone", do)
    alone = ", ".join(family.name for family in _IMAGES)
    known = f"a family that Rebus knows (text: {', '.join(FAMILIES)}; images: {alone}; both: {', '.join(BOTH)})"
    if "auto_map" in config:
        found = f"'{name}', which comes with code of its own (auto_map)"
        raise WeightsError(where, known, found, "use another checkpoint: code from a checkpoint is never run")
    raise WeightsError(where, known, f"'{name}'", "convert it to one of these")


def family_for(settings: Tower) -> Family | None:
    """The family that a text tower can be written as, so that other libraries open it; None: there is none.

    Args:
        settings: of a decoder without cross-attention, or of an encoder.
    """
    if settings.kind == "encoder":
        other = settings.norm_first or settings.causal or settings.filler is not None or not settings.segments
        return None if other or settings.pool == "last" else FAMILIES["bert"]
    if settings.kind != "decoder":
        return None
    whole = settings.width % settings.heads == 0
    plain = settings.head_dim in (None, settings.width // settings.heads) and whole
    if settings.norm == "layer":
        every = settings.kv_heads in (None, settings.heads)
        rest = settings.feedforward == "mlp" and settings.positions == "learned" and settings.bias == "all"
        return FAMILIES["gpt2"] if plain and every and rest and not settings.qk_norm else None
    if settings.feedforward != "swiglu" or settings.positions != "rotary":
        return None
    if settings.qk_norm:
        return FAMILIES["qwen3"] if settings.bias in ("none", "attention") else None
    if settings.bias == "qkv":
        return FAMILIES["qwen2"]
    return FAMILIES["llama"] if whole else None


def image_family_of(config: Mapping[str, Any], where: str = "config.json") -> ImageFamily:
    """The family of a checkpoint with an image tower. Raises WeightsError where it is not known."""
    name = model_type(config)
    if name not in IMAGE_FAMILIES:
        known = f"a checkpoint of a known family ({', '.join(IMAGE_FAMILIES)})"
        raise WeightsError(where, known, f"'{name}'", "convert it to one of these")
    return IMAGE_FAMILIES[name]


def image_family_for(settings: Tower) -> ImageFamily | None:
    """The family that an image tower can be written as, so that other libraries open it; None: there is none."""
    return next((family for family in _IMAGES if family.fits(settings)), None)


def check_rows(state: Mapping[str, Tensor], family: Family, rows: int, where: str) -> None:
    """Tell a vocabulary that is not as large as the embeddings.

    Args:
        state: under the tower's names.
        family: of the checkpoint.
        rows: ``vocab_size`` of its configuration.
        where: the checkpoint, for the message.

    Raises:
        WeightsError: they differ.
    """
    embeddings = state.get(_EMBEDDINGS[family.tower])
    if embeddings is not None and embeddings.shape[0] != rows:
        expected = f"'vocab_size' {embeddings.shape[0]}, as many as the embeddings have rows"
        raise WeightsError(where, expected, str(rows), "use the config.json that came with the weights")


def quantising_notes(settings: Tower) -> list[str]:
    """What to know before a decoder is quantised by llama.cpp: sizes that its k-quants cannot cut into blocks."""
    inside = settings.heads * (settings.head_dim or settings.width // settings.heads)
    hidden = settings.hidden or (
        swiglu_hidden(settings.width) if settings.feedforward == "swiglu" else 4 * settings.width
    )
    sizes = {"width": settings.width, "heads x head_dim": inside, "hidden": hidden}
    odd = [f"{name} {size}" for name, size in sizes.items() if size % _K_QUANT]
    if not odd:
        return []
    return [
        f"{', '.join(odd)}: not a multiple of {_K_QUANT}; k-quants (Q4_K and the like) fall back to other types there"
    ]
