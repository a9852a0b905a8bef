"""Idefics3 and SmolVLM checkpoints: a SigLIP-shaped tower, a pixel shuffle and one matrix, and a text decoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rebus.errors import WeightsError
from rebus.formats.config import ITS_OWN, Fields, shared_entries
from rebus.formats.family import FAMILIES, CheckpointSpec
from rebus.formats.inline import Inline
from rebus.formats.names import NameMap, State, below, moved, within
from rebus.formats.processors import FILE, WHOLE, image_from_hf, image_to_hf, read_processor
from rebus.formats.vision import SiglipVision
from rebus.recipe import Fusion, Image

_VISION = SiglipVision()
_TOWER, _TEXT = "model.vision_model.", "model.text_model."
# What a vision_config leaves out is as Idefics3VisionConfig has it
_BASE = {
    "hidden_size": 1152,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 32,
}
# of its image processor, where the files do not say
_SEEN = {"resample": 1, "do_image_splitting": True, "do_resize": True, "size": {"longest_edge": 4 * 364}}


@FAMILIES.register("idefics3")
class Idefics3(Inline):
    """The layout of Idefics3 and of SmolVLM: the same tensors and sizes under two names."""

    name, base, model_types = "idefics3", "Idefics3Model", ("idefics3", "smolvlm")
    names = NameMap("idefics3", (("inline.proj.weight", "model.connector.modality_projection.proj.weight"),))

    def settings(self, config: Mapping[str, Any], where: str = "config.json") -> CheckpointSpec:
        """What a config.json says. Raises WeightsError, also where sizes do not divide."""
        fields = Fields(config, self.name)
        text = self.text_settings(fields, where, tied=fields.flag("tie_word_embeddings", False))
        inner = {**_BASE, **fields.mapping("vision_config"), "vision_use_head": False}
        spec = _VISION.settings({**inner, "model_type": _VISION.name})
        assert spec.image is not None  # noqa: S101 - of an image tower
        size, patch, factor = spec.size, spec.image.patch, fields.number("scale_factor", 2)
        if size % patch or (size // patch) % factor:
            expected = "image_size divisible by patch_size, and the patches of a side by scale_factor"
            received = f"image_size {size}, patch_size {patch}, scale_factor {factor}"
            raise WeightsError(where, expected, received, ITS_OWN)
        projector = "shuffle" if factor > 1 else "linear"
        fusion = Fusion(kind="unified", layout="inline", projector=projector, shuffle=max(factor, 2))
        token = fields.number("image_token_id", 128257)
        return replace(spec, text=text.text, fusion=fusion, image_id=token)

    def config(self, spec: CheckpointSpec, **context: Any) -> dict[str, Any]:
        """The config.json."""
        assert spec.text is not None and spec.fusion is not None  # noqa: S101, PT018 - it fits
        vision = _VISION.config(spec)
        vision = {key: vision[key] for key in vision if key not in ("architectures", "vision_use_head")}
        untied = replace(spec, text=spec.text.model_copy(update={"tied": False}))
        return {
            "model_type": self.name,
            "architectures": ["Idefics3ForConditionalGeneration"],
            "image_token_id": spec.image_id,
            "scale_factor": spec.fusion.shuffle if spec.fusion.projector == "shuffle" else 1,
            "tie_word_embeddings": False,  # a copy lies in the file: vLLM has no tied weights in this layout
            "vision_config": {**vision, "model_type": "idefics3_vision"},
            "text_config": self.text_family(spec).config(untied, **context),
            **shared_entries(context),
        }

    def fits(self, spec: CheckpointSpec) -> bool:
        """Whether a model can be written so: SigLIP's shape, pooled by no layers of its own.

        For some numbers of patches a side (19, 25, 29, ...) the layout reads positions with gaps: these do not fit.
        """
        image = spec.image
        if not super().fits(spec) or image is None or spec.fusion is None or spec.fusion.projector == "mlp":
            return False
        grid = spec.size // image.patch
        plain = image.pool == "mean" and _VISION.fits_tower(image)
        return plain and bool((seen_positions(grid) == torch.arange(grid**2)).all())

    def from_hf(self, state: Mapping[str, Tensor], spec: CheckpointSpec) -> State:
        """Tensors under the names of a model. Raises WeightsError for a name that the family has not."""
        assert spec.image is not None  # noqa: S101 - of such a checkpoint
        image = _VISION.from_hf(below("model.", within(_TOWER, state)), spec)
        if "image.position" in image:
            image["image.position"] = image["image.position"][seen_positions(spec.size // spec.image.patch)]
        text = {**within(_TEXT, state), **within("lm_head.", state)}
        rest = {name: tensor for name, tensor in state.items() if name not in text and not name.startswith(_TOWER)}
        decoder = self.text_family(spec).from_hf(moved(text, {_TEXT: "model."}), spec)
        return {**image, **self.names.from_hf(rest), **decoder}

    def to_hf(self, state: Mapping[str, Tensor], spec: CheckpointSpec) -> State:
        """The other way round, of all tensors or some; output weights that are the embeddings are written twice."""
        vision = _VISION.to_hf(within("image.", state), spec)
        text = self.text_family(spec).to_hf(within("decoder.", state), spec)
        if "model.embed_tokens.weight" in text:
            text.setdefault("lm_head.weight", text["model.embed_tokens.weight"].clone())
        inline = self.names.to_hf(within("inline.", state))
        return {**{f"model.{name}": item for name, item in vision.items()}, **inline, **moved(text, {"model.": _TEXT})}

    def image_fields(self, folder: Path, spec: CheckpointSpec, log: Callable[[str], None]) -> dict[str, Any]:
        """How images are seen: as one square of the size that the tower was made for.

        A processor that cuts large images into several squares is opened without that, and says so: the whole image is
        what such a model sees last of it anyway.
        """
        entries = {**_SEEN, **(read_processor(folder) or {})}
        square = entries.get("max_image_size") or {"longest_edge": spec.size}
        if not isinstance(square, Mapping) or square.get("longest_edge") != spec.size:
            expected = f"squares of {spec.size} pixels a side, as its tower has them"
            do = "use the files that came with the weights"
            raise WeightsError(f"{folder / FILE}, max_image_size", expected, str(square), do)
        if entries["do_image_splitting"]:
            log(
                f"{folder}: made to cut large images into several; opened without that, it sees one image as one "
                f"square of {spec.size} x {spec.size} pixels"
            )
        # What is left is one square, which SigLIP's processor has words for, after a first scaling.
        size = {"height": spec.size, "width": spec.size}
        plain = {"image_processor_type": "SiglipImageProcessor", "do_resize": True, "do_pad": False, "size": size}
        image = image_from_hf({**entries, **plain})
        longest = entries["size"].get("longest_edge") if isinstance(entries["size"], Mapping) else None
        if entries["do_resize"] and isinstance(longest, int):
            image |= {"fit": "twice", "edge": longest}
        return image

    def processor_files(self, image: Image, spec: CheckpointSpec, mark: str) -> dict[str, dict[str, Any]]:
        """What transformers' processors read."""
        own = {
            "image_processor_type": "Idefics3ImageProcessor",
            "do_image_splitting": False,  # one image, one square
            "do_pad": True,
            "do_resize": image.fit == "twice",  # else scaled once, to the square
            "size": {"longest_edge": (image.edge if image.fit == "twice" else None) or spec.size},
            "max_image_size": {"longest_edge": spec.size},
        }
        whole = {"processor_class": "Idefics3Processor", "image_seq_len": spec.image_tokens}
        return {FILE: image_to_hf(image, "Siglip") | own, WHOLE: whole}


def seen_positions(grid: int) -> Tensor:
    """(G x G,) the row of the position table that each patch of a whole image is given, row by row.

    Positions are fractions, sorted into G buckets, in float32 as there. For most G that is plain order; for some,
    rounding puts two neighbours into one bucket.
    """
    edges = torch.arange(1 / grid, 1.0, 1 / grid)
    fractions = (torch.arange(grid, dtype=torch.float32) * (1.0 / torch.tensor(grid))).clamp(max=1.0 - 1e-6)
    bucket = torch.bucketize(fractions, edges, right=True)
    return (bucket[:, None] * grid + bucket[None, :]).flatten()
