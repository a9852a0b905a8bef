"""Llava checkpoints: a CLIP or SigLIP tower read before its last norm, two layers, and a text decoder.

Written as files on the hub have them, read in those and in newer names. The tower's and the text's own names are those
of their families.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from rebus.errors import WeightsError
from rebus.formats.config import ITS_OWN, OTHER_VARIANT, Fields, shared_entries
from rebus.formats.family import FAMILIES, CheckpointSpec
from rebus.formats.inline import Inline
from rebus.formats.names import NameMap, State, below, moved, within
from rebus.formats.processors import FILE, WHOLE, image_from_hf, image_to_hf, read_processor
from rebus.formats.vision import ClipVision, SiglipVision, VisionTransformer
from rebus.recipe import Fusion, Image, Tower

_VISIONS: tuple[VisionTransformer, ...] = (ClipVision(), SiglipVision())
# new names first: the old ones are their ends
_READ = {
    "model.language_model.": "model.",
    "language_model.model.": "model.",
    "language_model.lm_head.": "lm_head.",
    "model.vision_tower.": "vision.",
    "vision_tower.": "vision.",
    "model.multi_modal_projector.": "multi_modal_projector.",
}
_WRITTEN = {"model.": "language_model.model.", "lm_head.": "language_model.lm_head."}
# of LlavaConfig, where a file leaves the whole of its vision_config out
_LEFT_OUT = {
    **{"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
    **{"image_size": 336, "patch_size": 14},
}


@FAMILIES.register("llava")
class Llava(Inline):
    """Llava 1.5 and what is built like it."""

    name, base = "llava", "LlavaModel"
    names = NameMap(
        "llava", tuple((f"inline.linear_{n}.{{p}}", f"multi_modal_projector.linear_{n}.{{p}}") for n in (1, 2))
    )
    file_names = {
        r"^model\.language_model\.": "language_model.model.",
        r"^lm_head\.": "language_model.lm_head.",
        r"^model\.(vision_tower|multi_modal_projector)\.": r"\1.",
    }
    module_names = {
        r"^language_model\.model\.": "model.language_model.",
        r"^language_model\.lm_head\.": "lm_head.",
        r"^vision_tower\.(vision_model\.)?": "model.vision_tower.",
        r"^multi_modal_projector\.": "model.multi_modal_projector.",
    }

    def settings(self, config: Mapping[str, Any], where: str = "config.json") -> CheckpointSpec:
        """What a config.json says. Raises WeightsError.

        The image tower is as deep as the layer it is read at; its last norm is not read.
        """
        fields = Fields(config, self.name)
        inner = Fields(fields.mapping("text_config"), self.name)
        tied = any(place.flag("tie_word_embeddings", False) for place in (fields, inner))
        text = self.text_settings(fields, where, tied=tied)
        vision = {"model_type": _VISIONS[0].name, **(fields.mapping("vision_config") or _LEFT_OUT)}
        name = Fields(vision, self.name).demand("model_type", tuple(family.name for family in _VISIONS))
        spec = next(family for family in _VISIONS if family.matches(vision)).settings(vision)
        tower = spec.image
        assert tower is not None  # noqa: S101 - of an image tower
        select = fields.demand("vision_feature_select_strategy", ("default", "full"), "default")
        if select != _strategy(tower):
            expected = (
                "'default' for a CLIP tower, whose class token is left out, and 'full' for SigLIP, which has none"
            )
            received = f"'{select}' for {name}"
            raise WeightsError(f"{where}, 'vision_feature_select_strategy'", expected, received, OTHER_VARIANT)
        fields.demand("projector_hidden_act", ("gelu",), "gelu")
        fields.demand("multimodal_projector_bias", (True,), True)
        depth = _depth(config.get("vision_feature_layer", -2), tower.depth, where)
        pool = "cls" if tower.class_token else "mean"
        token = config.get("image_token_index", config.get("image_token_id", 32000))
        return replace(
            spec,
            text=text.text,
            image=tower.model_copy(update={"depth": depth, "last_norm": "pooled", "pool": pool}),
            fusion=Fusion(kind="unified", layout="inline", projector="mlp"),
            image_id=Fields({"image_token_index": token}, self.name).number("image_token_index", least=0),
        )

    def config(self, spec: CheckpointSpec, **context: Any) -> dict[str, Any]:
        """The config.json: the tower has just the layers that are run, and is read at its last."""
        assert spec.text is not None and spec.image is not None  # noqa: S101, PT018 - it fits
        vision = _vision(spec).config(spec)
        vision.pop("architectures")
        return {
            "model_type": self.name,
            "architectures": ["LlavaForConditionalGeneration"],
            "image_token_index": spec.image_id,
            "image_seq_length": (spec.size // spec.image.patch) ** 2,
            "projector_hidden_act": "gelu",
            "multimodal_projector_bias": True,
            "vision_feature_layer": -1,
            "vision_feature_select_strategy": _strategy(spec.image),
            "tie_word_embeddings": spec.text.tied,
            "vision_config": vision,
            "text_config": self.text_family(spec).config(spec, **context),
            **shared_entries(context),
        }

    def fits(self, spec: CheckpointSpec) -> bool:
        """Whether a model can be written so: CLIP's or SigLIP's shape, its tokens not normed at the end."""
        image = spec.image
        if not super().fits(spec) or image is None or spec.fusion is None or spec.fusion.projector != "mlp":
            return False
        plain = image.pool == "mean" and _VISIONS[1].fits_tower(image.model_copy(update={"last_norm": "tokens"}))
        return image.last_norm == "pooled" and (plain or _VISIONS[0].fits_tower(image))

    def from_hf(self, state: Mapping[str, Tensor], spec: CheckpointSpec) -> State:
        """Tensors under the names of a model; layers that are not run stay behind.

        Raises:
            WeightsError: a name that the family has not.
        """
        assert spec.image is not None  # noqa: S101 - of such a checkpoint
        named = moved(state, _READ)
        text = {**within("model.", named), **within("lm_head.", named)}
        rest = {name: item for name, item in named.items() if name not in text and not name.startswith("vision.")}
        image = _vision(spec).from_hf(below("vision.", named), spec)
        return {
            **{name: tensor for name, tensor in image.items() if _is_run(name, spec.image.depth)},
            **self.names.from_hf(rest),
            **self.text_family(spec).from_hf(text, spec),
        }

    def to_hf(self, state: Mapping[str, Tensor], spec: CheckpointSpec) -> State:
        """The other way round."""
        vision = _vision(spec).to_hf(within("image.", state), spec)
        text = self.text_family(spec).to_hf(within("decoder.", state), spec)
        return {
            **{f"vision_tower.{name}": tensor for name, tensor in vision.items()},
            **self.names.to_hf(within("inline.", state)),
            **moved(text, _WRITTEN),
        }

    def image_fields(self, folder: Path, spec: CheckpointSpec, log: Callable[[str], None]) -> dict[str, Any]:
        """How images are seen, by its preprocessor_config.json. Raises WeightsError."""
        entries = read_processor(folder) or {}
        kind = str(entries.get("image_processor_type") or "CLIPImageProcessor")
        if not entries.get("do_pad"):
            kind = kind.replace("Llava", "CLIP")  # the same but for padding
        image = image_from_hf({"size": {"shortest_edge": 224}, **entries, "image_processor_type": kind})
        if image["size"] != spec.size:
            expected = f"images of {spec.size} pixels a side, as its tower has them"
            do = "use the files that came with the weights"
            raise WeightsError(f"{folder / FILE}, size", expected, str(image["size"]), do)
        return image

    def processor_files(self, image: Image, spec: CheckpointSpec, mark: str) -> dict[str, dict[str, Any]]:
        """What transformers' processors read."""
        assert spec.image is not None  # noqa: S101 - it fits
        whole = {
            "processor_class": "LlavaProcessor",
            "patch_size": spec.image.patch,
            "vision_feature_select_strategy": _strategy(spec.image),
            "num_additional_image_tokens": int(spec.image.class_token),
            "image_token": mark,
        }
        return {FILE: image_to_hf(image, "CLIP"), WHOLE: whole}


def _vision(spec: CheckpointSpec) -> VisionTransformer:
    return _VISIONS[0] if spec.image is not None and spec.image.class_token else _VISIONS[1]


def _strategy(tower: Tower) -> str:
    """Llava's word for whether a tower's first token is left out."""
    return "default" if tower.class_token else "full"


def _depth(layer: Any, depth: int, where: str) -> int:
    """Layers that are run when hidden states are read at ``layer``: 0 is what enters the first, -1 what leaves all."""
    if not isinstance(layer, int) or isinstance(layer, bool):
        do = "this variant is not supported; use a checkpoint that reads one layer"
        raise WeightsError(f"{where}, 'vision_feature_layer'", "one layer's number", repr(layer), do)
    run = layer if layer >= 0 else depth + 1 + layer
    if not 1 <= run <= depth:
        raise WeightsError(f"{where}, 'vision_feature_layer'", f"a layer of {depth}", str(layer), ITS_OWN)
    return run


def _is_run(name: str, depth: int) -> bool:
    parts = name.split(".")
    return parts[1] != "layers" or int(parts[2]) < depth
