"""CLIP and SigLIP whole: both towers, the maps into one space, temperature and bias.

Ours are the names of a model with the task ``retrieve``: ``image.``, ``text.`` and ``heads.retrieve.``.
What is easily read wrong: CLIP's text tower is pooled where the text ends, and files made before 2023 name id 2 for
that, which is an exclamation mark; SigLIP's is pooled at the last of all places, so that texts are always filled up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

from torch import Tensor

from rebus.formats.config import ACTIVATIONS, Fields, activation_to_hf, tower_of
from rebus.formats.family import FAMILIES, CheckpointFamily, CheckpointSpec
from rebus.formats.names import NameMap, State, pack_qkv, prefixed, unpack_qkv
from rebus.formats.processors import FILE
from rebus.formats.vision import CLIP_ROWS, SIGLIP_ROWS, ClipVision, SiglipVision, VisionTransformer, clip_layers
from rebus.recipe import Image

HEAD = "heads.retrieve."
_SCALARS = (f"{HEAD}logit_scale", f"{HEAD}logit_bias")
_TEXT_ROWS = (
    *prefixed(
        "text.",
        (
            ("words.weight", "text_model.embeddings.token_embedding.weight"),
            ("positions.weight", "text_model.embeddings.position_embedding.weight"),
            *clip_layers("text_model"),
            ("last_norm.{p}", "text_model.final_layer_norm.{p}"),
        ),
    ),
    (f"{HEAD}logit_scale", "logit_scale"),
)
_SHAPE = {"norm_first": True, "segments": 0, "pool": "last"}
NO_END = 2  # the wrong id of old files


class Dual(CheckpointFamily):
    """A family with an image tower, a text tower and one space for both.

    Attributes:
        vision: the family of its image tower.
        text_type: ``model_type`` of its text tower.
        architecture: of the whole.
        left_out: what files leave out of a text_config.
        like: what its text tower has, apart from its sizes.
        maps, loss: as the recipe has them.
    """

    owns = ("image.", "text.", HEAD)
    vision: ClassVar[VisionTransformer]
    text_type: ClassVar[str]
    architecture: ClassVar[str]
    left_out: ClassVar[Mapping[str, Any]]
    like: ClassVar[Mapping[str, Any]]
    maps: ClassVar[Literal["both", "text"]]
    loss: ClassVar[Literal["softmax", "sigmoid"]]

    def towers_like(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What its image tower and its text tower have, apart from their sizes."""
        own = {"activation": ACTIVATIONS[self.vision.activation], "eps": self.vision.eps}
        return {"kind": "vit", "pool": "probe", **self.vision.shape, **own}, {**self.like, **own}

    def settings(self, config: Mapping[str, Any], where: str = "config.json") -> CheckpointSpec:
        """What a config.json says. Raises WeightsError."""
        whole = Fields(config, self.name)
        whole.demand("model_type", (self.name,))
        vision = self.image_settings(config, where)
        fields = Fields(whole.section("text"), self.name, {"num_hidden_layers": 12, **self.left_out})
        text = tower_of(
            self.name,
            **self.like,
            width=fields.number("hidden_size"),
            depth=fields.number("num_hidden_layers"),
            heads=fields.number("num_attention_heads"),
            hidden=fields.number("intermediate_size"),
            context=fields.number("max_position_embeddings"),
            eps=fields.decimal("layer_norm_eps", self.vision.eps),
            activation=fields.activation("hidden_act", self.vision.activation),
            dropout=fields.decimal("attention_dropout", 0.0),
            rows=fields.number("vocab_size"),
        )
        spec = CheckpointSpec(text, vision.image, vision.size, maps=self.maps, loss=self.loss)
        return self.with_space(spec, whole, fields)

    def image_settings(self, config: Mapping[str, Any], where: str = "config.json") -> CheckpointSpec:
        """What a config.json says of the image tower."""
        entries = Fields(config, self.name).section("vision")
        return self.vision.settings({**entries, "model_type": self.vision.name}, where)

    def with_space(self, spec: CheckpointSpec, whole: Fields, text: Fields) -> CheckpointSpec:
        """The size of the shared space, and where a text is pooled. Raises WeightsError."""
        raise NotImplementedError

    def config(self, spec: CheckpointSpec, **context: Any) -> dict[str, Any]:
        """The config.json of a whole CLIP or SigLIP."""
        text = spec.text
        assert text is not None  # noqa: S101 - it fits
        inner = {
            "model_type": self.text_type,
            "vocab_size": spec.rows,
            "hidden_size": text.width,
            "intermediate_size": text.hidden or 4 * text.width,
            "num_hidden_layers": text.depth,
            "num_attention_heads": text.heads,
            "max_position_embeddings": text.context,
            "layer_norm_eps": text.eps or 1e-12,
            "hidden_act": activation_to_hf(text.activation or "gelu"),
            "attention_dropout": text.dropout,
            "bos_token_id": context.get("bos_token_id"),
            "pad_token_id": context.get("pad_token_id") if text.filler is None else text.filler,
            "eos_token_id": context.get("eos_token_id") if spec.end is None else spec.end,
        }
        return {
            "model_type": self.name,
            "architectures": [self.architecture],
            "torch_dtype": "float32",
            "dtype": "float32",
            "vision_config": self.vision.config(spec),
            "text_config": inner,
        }

    def fits(self, spec: CheckpointSpec) -> bool:
        """Whether a model can be written so."""
        text, image = spec.text, spec.image
        if text is None or image is None or spec.embed is None or text.kind != "encoder":
            return False
        like = {**self.like, "filler": text.filler}
        same = all(getattr(text, name) == value for name, value in like.items())
        return same and self.vision.fits_tower(image) and (spec.maps, spec.loss) == (self.maps, self.loss)

    def from_hf(self, state: Mapping[str, Tensor], spec: CheckpointSpec) -> State:
        """Tensors under the names of a model; one number in a list is that number."""
        named = unpack_qkv(self.names.from_hf(state), "in_proj")
        return {
            name: item.reshape(()) if name in _SCALARS and item.numel() == 1 else item for name, item in named.items()
        }

    def to_hf(self, state: Mapping[str, Tensor], spec: CheckpointSpec) -> State:
        """The other way round."""
        return self.names.to_hf(pack_qkv(state, "head.attention.", "in_proj"))

    def processor_files(self, image: Image, spec: CheckpointSpec, mark: str) -> dict[str, dict[str, Any]]:
        """The image processor's, which names the processor of both."""
        whole = super().processor_files(image, spec, mark)
        return {FILE: whole[FILE] | {"processor_class": f"{self.architecture.removesuffix('Model')}Processor"}}


@FAMILIES.register("clip")
class Clip(Dual):
    """CLIP: both towers have a map into the space; texts are pooled where they end."""

    name, text_type, architecture, base = "clip", "clip_text_model", "CLIPModel", "CLIPTextModel"
    vision, image_family, processor = ClipVision(), ClipVision.name, ClipVision.processor
    maps, loss = "both", "softmax"
    left_out = {
        **{"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8, "vocab_size": 49408},
        "max_position_embeddings": 77,
    }
    like = {"kind": "encoder", **_SHAPE, "causal": True}
    names = NameMap(
        "clip",
        (
            *CLIP_ROWS,
            *_TEXT_ROWS,
            (f"{HEAD}maps.image.weight", "visual_projection.weight"),
            (f"{HEAD}maps.text.weight", "text_projection.weight"),
        ),
        ignored=r"position_ids$",
    )

    def with_space(self, spec: CheckpointSpec, whole: Fields, text: Fields) -> CheckpointSpec:
        """The size of the shared space, and where a text is pooled."""
        end = text.entries.get("eos_token_id")
        known = end if isinstance(end, int) and end != NO_END else None
        return replace(spec, embed=whole.number("projection_dim", 512), end=known)

    def config(self, spec: CheckpointSpec, **context: Any) -> dict[str, Any]:
        """The config.json, which has the size of the space three times."""
        entries = super().config(spec, **context)
        for place in (entries, entries["vision_config"], entries["text_config"]):
            place["projection_dim"] = spec.embed
        return entries

    def fits(self, spec: CheckpointSpec) -> bool:
        """Whether a model can be written so: texts must end with a token that is not the wrong one of old files."""
        ends = spec.end is not None and spec.end != NO_END
        return super().fits(spec) and ends and spec.text is not None and spec.text.filler is None


@FAMILIES.register("siglip")
class Siglip(Dual):
    """SigLIP: the image tower's vectors are the space; texts are filled up to one length."""

    name, text_type, architecture, base = "siglip", "siglip_text_model", "SiglipModel", "SiglipTextModel"
    vision, image_family, processor = SiglipVision(), SiglipVision.name, SiglipVision.processor
    maps, loss = "text", "sigmoid"
    left_out = {
        **{"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "vocab_size": 32000},
        "max_position_embeddings": 64,
    }
    like = {"kind": "encoder", **_SHAPE, "causal": False, "filler": 0}
    names = NameMap(
        "siglip",
        (
            *SIGLIP_ROWS,
            *_TEXT_ROWS,
            (f"{HEAD}maps.text.{{p}}", "text_model.head.{p}"),
            (f"{HEAD}logit_bias", "logit_bias"),
        ),
        ignored=r"position_ids$",
    )

    def with_space(self, spec: CheckpointSpec, whole: Fields, text: Fields) -> CheckpointSpec:
        """The size of the shared space, and the id that texts are filled up with."""
        assert spec.text is not None and spec.image is not None  # noqa: S101, PT018 - read just before
        Fields(whole.section("vision"), self.name).demand("vision_use_head", (True,), True)
        embed = text.number("projection_size", spec.text.width)
        if embed != spec.image.width:
            expected = f"{spec.image.width}, as wide as the image tower, whose vectors are the shared space"
            raise text.refuse("projection_size", expected, embed)
        pad = text.entries.get("pad_token_id")
        filler = pad if isinstance(pad, int) and pad >= 0 else 1
        return replace(spec, embed=embed, text=spec.text.model_copy(update={"filler": filler}))

    def config(self, spec: CheckpointSpec, **context: Any) -> dict[str, Any]:
        """The config.json."""
        entries = super().config(spec, **context)
        entries["text_config"]["projection_size"] = spec.embed
        return entries

    def fits(self, spec: CheckpointSpec) -> bool:
        """Whether a model can be written so."""
        filled = spec.text is not None and spec.text.filler is not None
        return super().fits(spec) and filled and spec.image is not None and spec.image.pool == "probe"

    def to_hf(self, state: Mapping[str, Tensor], spec: CheckpointSpec) -> State:
        """One number is a list of one there."""
        return super().to_hf(
            {name: item.reshape(1) if name in _SCALARS else item for name, item in state.items()}, spec
        )
