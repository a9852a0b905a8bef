"""The settings of towers: one class a kind, a union discriminated by ``kind``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic.fields import FieldInfo

from rebus.recipe.section import PathText, Section


class Tower(Section):
    """What every tower for images or text has. ``Tower(kind="vit", ...)`` gives one of the class of that kind.

    A setting that a kind of tower does not have reads as its default, and is refused where somebody sets it. While the
    kind is ``auto`` the settings of all kinds are taken.
    """

    kind: str = Field("auto", description="name of the tower, 'auto' or 'none'")
    width: int = Field(192, ge=8, description="size of a token's vector")
    depth: int = Field(4, ge=1, description="layers (convnet: blocks a stage)")
    heads: int = Field(6, ge=1, description="attention heads")
    dropout: float = Field(0.0, ge=0, lt=1, description="chance of dropping a value in training")
    options: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="settings of a tower of another package"
    )
    frozen: bool = Field(False, description="do not train; features are computed once and kept")
    weights: PathText | None = Field(None, description="a checkpoint folder or Run to start from")

    def __new__(cls, /, **settings: Any) -> Self:
        """One of the class of its kind."""
        chosen = _class_of(settings) if cls is Tower else cls
        return super().__new__(chosen)  # type: ignore[return-value]

    def __getattr__(self, name: str) -> Any:
        if name in AutoTower.model_fields:
            return self.default(name)
        return super().__getattr__(name)  # type: ignore[misc]

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """As the base class, by the class of its kind."""
        if cls is not Tower:
            return super().model_validate(obj, **options)
        return _class_of(obj).model_validate(obj, **options)  # type: ignore[return-value]

    @classmethod
    def all_fields(cls) -> Mapping[str, FieldInfo]:
        """Those of all kinds."""
        return AutoTower.model_fields

    @model_validator(mode="before")
    @classmethod
    def _leave_out(cls, settings: Any) -> Any:
        """Settings of other kinds at their defaults say nothing: a complete recipe may be given another kind."""
        if not isinstance(settings, Mapping):
            return settings
        other = AutoTower.model_fields.keys() - cls.model_fields.keys()
        usual = {name: AutoTower.model_fields[name].get_default(call_default_factory=True) for name in other}
        return {name: value for name, value in settings.items() if name not in other or value != usual[name]}

    def _copy(self, values: dict[str, Any], fields_set: set[str]) -> Self:
        chosen = _class_of(values)
        if chosen is not type(self):  # what was set while the kind was open must be a setting of the chosen kind
            keep = fields_set if type(self) is AutoTower else fields_set & chosen.model_fields.keys()
            values, fields_set = {name: value for name, value in values.items() if name in keep}, set(keep)
        copy = chosen.model_validate(values)
        copy.__pydantic_fields_set__ = fields_set
        return copy  # type: ignore[return-value]


class ImageTower(Tower):
    """What every tower for images has."""

    patch: int = Field(16, ge=1, description="side of an image token, in pixels")
    tokens: int | None = Field(
        None,
        ge=1,
        description="image: tokens an image becomes, a square number (16, 36, 64); None: as the tower has",
    )


class TextTower(Tower):
    """What every tower for text has."""

    context: int | None = Field(None, ge=4, description="most tokens it was made for; None: from text.max_length")
    rows: int | None = Field(
        None, ge=1, description="decoder, encoder: rows of the embeddings; None: one for each id of the tokenizer"
    )


class ConvNetTower(ImageTower):
    """A small convolutional network."""

    kind: str = "convnet"


class VitTower(ImageTower):
    """A vision transformer."""

    kind: str = "vit"
    hidden: int | None = Field(None, ge=8, description="feed-forward size; None: the tower's own rule")
    eps: float | None = Field(None, gt=0, description="of the norms; None: 1e-6, 1e-12 (encoder), 1e-5 (resnet)")
    activation: str | None = Field(None, description="of a plain MLP; None: gelu (encoder), gelu_tanh (decoder, vit)")
    class_token: bool = Field(False, description="vit: a learned token before the patches")
    patch_bias: bool = Field(True, description="vit: the projection of patches has a bias")
    pre_norm: bool = Field(False, description="vit: norm what enters the first layer (CLIP)")
    last_norm: Literal["tokens", "pooled"] = Field(
        "tokens", description="vit: what is normed at the end (CLIP: pooled)"
    )
    layer_scale: float | None = Field(
        None, ge=0, description="vit: learned factors on what layers add, which start here; None or 0: none"
    )
    pool: Literal["mean", "cls", "pooler", "probe"] = Field(
        "mean",
        description="vit: how one vector is made of many: their mean; cls: the first; pooler: the first through a "
        "layer; probe: one learned question",
    )


class StagedTower(ImageTower):
    """Convolutions in stages."""

    eps: float | None = Field(None, gt=0, description="of the norms; None: 1e-6, 1e-12 (encoder), 1e-5 (resnet)")
    stages: list[int] = Field(
        default_factory=list,
        description="resnet, efficientnet: blocks of each stage; empty: depth (efficientnet: at most depth) in each",
    )
    channels: list[int] = Field(
        default_factory=list,
        description="resnet, efficientnet: channels of the stem and of each stage; empty: shares of the width",
    )


class ResNetTower(StagedTower):
    """A residual network."""

    kind: str = "resnet"
    block: Literal["basic", "bottleneck"] = Field("basic", description="resnet: the kind of residual block")


class EfficientNetTower(StagedTower):
    """An EfficientNet."""

    kind: str = "efficientnet"


class DecoderTower(TextTower):
    """A causal transformer."""

    kind: str = "decoder"
    kv_heads: int | None = Field(None, ge=1, description="key and value heads; None: as many as heads")
    hidden: int | None = Field(None, ge=8, description="feed-forward size; None: the tower's own rule")
    qk_norm: bool = Field(True, description="decoder: normalise queries and keys")
    tied: bool = Field(True, description="decoder: output weights are the embeddings")
    head_dim: int | None = Field(None, ge=2, description="decoder: size of a head; None: width / heads")
    rope_theta: float = Field(10_000.0, gt=0, description="decoder: base of the rotary positions")
    rope_scaling: dict[str, float | int | str] | None = Field(
        None, description="decoder: Llama 3's scaled rotary positions, as its config.json says them"
    )
    eps: float | None = Field(None, gt=0, description="of the norms; None: 1e-6, 1e-12 (encoder), 1e-5 (resnet)")
    bias: Literal["none", "qkv", "attention", "all"] = Field(
        "none", description="decoder: which projections have biases"
    )
    norm: Literal["rms", "layer"] = Field("rms", description="decoder: RMS norms, or layer norms as GPT-2 has")
    feedforward: Literal["swiglu", "mlp"] = Field("swiglu", description="decoder: SwiGLU, or a plain MLP")
    activation: str | None = Field(None, description="of a plain MLP; None: gelu (encoder), gelu_tanh (decoder, vit)")
    positions: Literal["rotary", "learned"] = Field("rotary", description="decoder: how a token knows where it is")


class EncoderTower(TextTower):
    """A transformer that sees both ways."""

    kind: str = "encoder"
    hidden: int | None = Field(None, ge=8, description="feed-forward size; None: the tower's own rule")
    eps: float | None = Field(None, gt=0, description="of the norms; None: 1e-6, 1e-12 (encoder), 1e-5 (resnet)")
    activation: str | None = Field(None, description="of a plain MLP; None: gelu (encoder), gelu_tanh (decoder, vit)")
    segments: int = Field(2, ge=0, description="encoder: segments there are vectors for; 0: none")
    norm_first: bool = Field(
        False, description="encoder: norm what enters a layer's parts (CLIP, SigLIP), not what leaves them (BERT)"
    )
    causal: bool = Field(False, description="encoder: a token sees only those before it (CLIP)")
    filler: int | None = Field(
        None, ge=0, description="encoder: texts are filled up to context with this id, which is read too (SigLIP)"
    )
    pool: Literal["mean", "cls", "last", "first", "max", "weighted"] = Field(
        "mean",
        description="encoder: how one vector is made of many: their mean; cls: the first through a layer; last or "
        "first: that token; max: the largest of each number; weighted: a mean that counts the n-th token n times",
    )


class RecurrentTower(TextTower):
    """A recurrent network."""

    kind: str = "recurrent"
    cell: Literal["gru", "lstm"] = Field("gru", description="recurrent: the kind of cell")


class AutoTower(
    ConvNetTower,
    VitTower,
    ResNetTower,
    EfficientNetTower,
    DecoderTower,
    EncoderTower,
    RecurrentTower,
):
    """One whose kind is found from the data: the settings of any kind are taken."""

    kind: str = Field("auto", description="name of the tower, 'auto' or 'none'")
    pool: Literal["mean", "cls", "pooler", "probe", "last", "first", "max", "weighted"] = Field(  # type: ignore[assignment]
        "mean",
        description="encoder, vit: how one vector is made of many: their mean; cls: the first (encoder: through a "
        "layer); vit: pooler: the first through a layer, probe: one learned question; encoder: last or first: that "
        "token, max: the largest of each number, weighted: a mean that counts the n-th token n times",
    )


class NoTower(AutoTower):
    """None. What is set of it is kept and does nothing."""

    kind: str = "none"


class PluginTower(AutoTower):
    """One of another package: ``options`` are its own settings."""


class OtherTower(Section):
    """A tower for a modality other than images and text. Settings that are not named here are the tower's own."""

    model_config = ConfigDict(extra="allow")

    kind: str = Field("auto", description="name of the tower; 'auto': the modality's own, or 'none'")
    width: int = Field(192, ge=8, description="size of a token's vector")
    depth: int = Field(2, ge=1, description="layers")
    heads: int = Field(6, ge=1, description="attention heads")
    dropout: float = Field(0.0, ge=0, lt=1, description="chance of dropping a value in training")
    frozen: bool = Field(False, description="do not train")
    weights: PathText | None = Field(None, description="a checkpoint folder or Run to start from")


OWN: dict[str, type[Tower]] = {
    "auto": AutoTower,
    "none": NoTower,
    "convnet": ConvNetTower,
    "vit": VitTower,
    "resnet": ResNetTower,
    "efficientnet": EfficientNetTower,
    "decoder": DecoderTower,
    "encoder": EncoderTower,
    "recurrent": RecurrentTower,
}


def tower_class(kind: str) -> type[Tower]:
    """The class of a kind's settings."""
    return OWN.get(kind, PluginTower)


def settings_of(modality: str) -> dict[str, FieldInfo]:
    """The settings of all kinds of tower for ``image`` or ``text``."""
    base = ImageTower if modality == "image" else TextTower
    kinds = [chosen for chosen in OWN.values() if issubclass(chosen, base) and not issubclass(chosen, AutoTower)]
    names = {name for chosen in kinds for name in chosen.model_fields}
    return {name: field for name, field in AutoTower.model_fields.items() if name in names}


def _class_of(settings: Any) -> type[Tower]:
    kind = settings.get("kind", "auto") if isinstance(settings, Mapping) else getattr(settings, "kind", "auto")
    return tower_class(kind if isinstance(kind, str) else "auto")


def _tag(settings: Any) -> str:
    return _class_of(settings).__name__


if TYPE_CHECKING:
    AnyTower = Tower
else:
    AnyTower = Annotated[
        Annotated[AutoTower, Tag("AutoTower")]
        | Annotated[NoTower, Tag("NoTower")]
        | Annotated[ConvNetTower, Tag("ConvNetTower")]
        | Annotated[VitTower, Tag("VitTower")]
        | Annotated[ResNetTower, Tag("ResNetTower")]
        | Annotated[EfficientNetTower, Tag("EfficientNetTower")]
        | Annotated[DecoderTower, Tag("DecoderTower")]
        | Annotated[EncoderTower, Tag("EncoderTower")]
        | Annotated[RecurrentTower, Tag("RecurrentTower")]
        | Annotated[PluginTower, Tag("PluginTower")],
        Discriminator(_tag),
    ]
