"""Vision transformers: what all their configurations have in common, and the image towers of CLIP and SigLIP.

CLIP and SigLIP whole are in ``dual``. CLIP's first norm is misspelt in the files: ``pre_layrnorm``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from rebus.formats.config import Fields, activation_to_hf, tower_of
from rebus.formats.family import FAMILIES, CheckpointFamily, CheckpointSpec
from rebus.formats.names import NameMap, State, pack_qkv, prefixed, unpack_qkv
from rebus.recipe import Tower

# what a file leaves out is as the family's base model has it
BASE = {
    **{"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    **{"image_size": 224, "patch_size": 16},
}


class VisionTransformer(CheckpointFamily):
    """A family of vision transformers.

    Attributes:
        defaults: what a file leaves out.
        activation: Hugging Face's name of the one that is meant where none is named.
        eps: of the norms, likewise.
        shape: what distinguishes its towers, as fields of a tower.
        dropout: the entry for it.
    """

    owns = ("image.",)
    defaults: ClassVar[Mapping[str, Any]] = BASE
    activation: ClassVar[str] = "gelu"
    eps: ClassVar[float] = 1e-6
    shape: ClassVar[Mapping[str, Any]] = {}
    dropout: ClassVar[str] = "attention_dropout"

    def own_settings(self, fields: Fields) -> dict[str, Any]:
        """What the tower has beside what all have. Raises WeightsError."""
        return {}

    def own_config(self, image: Tower) -> dict[str, Any]:
        """Entries of config.json beside those that all have."""
        return {}

    def settings(self, config: Mapping[str, Any], where: str = "config.json") -> CheckpointSpec:
        """What a config.json says. Raises WeightsError."""
        fields = Fields(config, self.name, self.defaults)
        fields.demand("model_type", (self.name,))
        fields.demand("num_channels", (3,), 3)
        own = {"hidden": None, **self.shape, **self.own_settings(fields)}
        image = tower_of(
            self.name,
            kind="vit",
            width=fields.number("hidden_size"),
            depth=fields.number("num_hidden_layers"),
            heads=fields.number("num_attention_heads"),
            patch=fields.side("patch_size"),
            eps=fields.decimal("layer_norm_eps", self.eps),
            activation=fields.activation("hidden_act", self.activation),
            dropout=fields.decimal(self.dropout, 0.0),
            **{**own, "hidden": own["hidden"] or fields.number("intermediate_size")},
        )
        return CheckpointSpec(image=image, size=fields.side("image_size"))

    def config(self, spec: CheckpointSpec, **context: Any) -> dict[str, Any]:
        """The config.json of a vision transformer."""
        image = spec.image
        assert image is not None  # noqa: S101 - it fits
        return {
            "model_type": self.name,
            "architectures": [spec.architecture or self.base],
            "hidden_size": image.width,
            "intermediate_size": image.hidden or 4 * image.width,
            "num_hidden_layers": image.depth,
            "num_attention_heads": image.heads,
            "num_channels": 3,
            "image_size": spec.size,
            "patch_size": image.patch,
            "layer_norm_eps": image.eps or 1e-6,
            "hidden_act": activation_to_hf(image.activation or "gelu_tanh"),
            self.dropout: image.dropout,
            **self.own_config(image),
        }

    def fits(self, spec: CheckpointSpec) -> bool:
        """Whether a model is such an image tower."""
        return spec.text is None and spec.image is not None and self.fits_tower(spec.image)

    def fits_tower(self, image: Tower) -> bool:
        """The same of a tower in a larger model."""
        plain = {"class_token": False, "patch_bias": True, "pre_norm": False, "last_norm": "tokens"}
        wanted = {**plain, "layer_scale": None, **self.shape}
        same = all(
            (getattr(image, name) or None) == (value or None) for name, value in wanted.items() if name != "pool"
        )
        return image.kind == "vit" and same and image.pool in self.pools()

    def pools(self) -> tuple[str, ...]:
        """Ways of pooling that its files tell apart."""
        return (self.shape["pool"],)


def clip_layers(tower: str) -> tuple[tuple[str, str], ...]:
    """The names of the layers of CLIP's and SigLIP's towers, ours and those under ``tower``."""
    layer = f"{tower}.encoder.layers.{{n}}"
    return (
        ("layers.{n}.norm1.{p}", f"{layer}.layer_norm1.{{p}}"),
        ("layers.{n}.attention.q_proj.{p}", f"{layer}.self_attn.q_proj.{{p}}"),
        ("layers.{n}.attention.k_proj.{p}", f"{layer}.self_attn.k_proj.{{p}}"),
        ("layers.{n}.attention.v_proj.{p}", f"{layer}.self_attn.v_proj.{{p}}"),
        ("layers.{n}.attention.o_proj.{p}", f"{layer}.self_attn.out_proj.{{p}}"),
        ("layers.{n}.norm2.{p}", f"{layer}.layer_norm2.{{p}}"),
        ("layers.{n}.mlp.fc1.{p}", f"{layer}.mlp.fc1.{{p}}"),
        ("layers.{n}.mlp.fc2.{p}", f"{layer}.mlp.fc2.{{p}}"),
    )


_HEAD = "vision_model.head"
_ROWS = prefixed(
    "image.",
    (
        ("patches.{p}", "vision_model.embeddings.patch_embedding.{p}"),
        ("position", "vision_model.embeddings.position_embedding.weight"),
        *clip_layers("vision_model"),
        ("norm.{p}", "vision_model.post_layernorm.{p}"),
    ),
)
CLIP_ROWS = (
    *_ROWS,
    ("image.class_token", "vision_model.embeddings.class_embedding"),
    ("image.pre_norm.{p}", "vision_model.pre_layrnorm.{p}"),
)
SIGLIP_ROWS = (
    *_ROWS,
    *prefixed(
        "image.head.",
        (
            ("probe", f"{_HEAD}.probe"),
            ("attention.in_proj.{p}", f"{_HEAD}.attention.in_proj_{{p}}"),  # one tensor there, three here
            ("attention.o_proj.{p}", f"{_HEAD}.attention.out_proj.{{p}}"),
            ("norm.{p}", f"{_HEAD}.layernorm.{{p}}"),
            ("mlp.fc1.{p}", f"{_HEAD}.mlp.fc1.{{p}}"),
            ("mlp.fc2.{p}", f"{_HEAD}.mlp.fc2.{{p}}"),
        ),
    ),
)
_IGNORED = r"^text_model\.|^logit_(scale|bias)$|^(text|visual)_projection\.|^classifier\.|position_ids$"


@FAMILIES.register("clip_vision_model")
class ClipVision(VisionTransformer):
    """CLIP's image tower."""

    name, base, processor = "clip_vision_model", "CLIPVisionModel", "CLIP"
    names = NameMap("clip", CLIP_ROWS, base="vision_model.", ignored=_IGNORED)
    defaults = {**BASE, "patch_size": 32}
    activation, eps = "quick_gelu", 1e-5
    shape = {"class_token": True, "patch_bias": False, "pre_norm": True, "pool": "cls", "last_norm": "pooled"}


@FAMILIES.register("siglip_vision_model")
class SiglipVision(VisionTransformer):
    """SigLIP's image tower; the head that pools it belongs to it where ``pool`` is ``probe``."""

    name, base, processor = "siglip_vision_model", "SiglipVisionModel", "Siglip"
    names = NameMap("siglip", SIGLIP_ROWS, base="vision_model.", ignored=_IGNORED)
    activation = "gelu_pytorch_tanh"

    def own_settings(self, fields: Fields) -> dict[str, Any]:
        """How it is pooled."""
        return {"pool": "probe" if fields.demand("vision_use_head", (True, False), True) else "mean"}

    def own_config(self, image: Tower) -> dict[str, Any]:
        """The same in config.json."""
        return {"vision_use_head": image.pool == "probe"}

    def pools(self) -> tuple[str, ...]:
        """By its head, or by the mean of its tokens."""
        return ("mean", "probe")

    def from_hf(self, state: Mapping[str, Tensor], spec: CheckpointSpec) -> State:
        """Tensors under the names of a model."""
        return without_unused_head(unpack_qkv(self.names.from_hf(state), "in_proj"), spec)

    def to_hf(self, state: Mapping[str, Tensor], spec: CheckpointSpec) -> State:
        """The other way round."""
        return self.names.to_hf(pack_qkv(state, "head.attention.", "in_proj"))


def without_unused_head(state: State, spec: CheckpointSpec) -> State:
    """Without the head that pools images, where a tower is not pooled by one."""
    pooled = spec.image is not None and spec.image.pool == "probe"
    return {name: tensor for name, tensor in state.items() if pooled or not name.startswith("image.head.")}
