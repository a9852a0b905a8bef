"""The recipe's branch for the model: towers, what joins them, adapters."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from rebus.recipe.section import PathText, Section

Size = Literal["nano", "micro", "mini", "small", "base"]


class Tower(Section):
    """A tower for images (convnet, vit, resnet, efficientnet) or text (decoder, encoder, recurrent)."""

    kind: str = Field("auto", description="name of the tower, 'auto' or 'none'")
    width: int = Field(192, ge=8, description="size of a token's vector")
    depth: int = Field(4, ge=1, description="layers (convnet: blocks a stage)")
    heads: int = Field(6, ge=1, description="attention heads")
    kv_heads: int | None = Field(None, ge=1, description="key and value heads; None: as many as heads")
    hidden: int | None = Field(None, ge=8, description="feed-forward size; None: the tower's own rule")
    patch: int = Field(16, ge=1, description="side of an image token, in pixels")
    cell: Literal["gru", "lstm"] = Field("gru", description="recurrent: the kind of cell")
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
    context: int | None = Field(None, ge=4, description="most tokens it was made for; None: from text.max_length")
    rows: int | None = Field(
        None, ge=1, description="decoder, encoder: rows of the embeddings; None: one for each id of the tokenizer"
    )
    segments: int = Field(2, ge=0, description="encoder: segments there are vectors for; 0: none")
    pool: Literal["mean", "cls", "pooler", "probe", "last", "first", "max", "weighted"] = Field(
        "mean",
        description="encoder, vit: how one vector is made of many: their mean; cls: the first (encoder: through a "
        "layer); vit: pooler: the first through a layer, probe: one learned question; encoder: last or first: that "
        "token, max: the largest of each number, weighted: a mean that counts the n-th token n times",
    )
    norm_first: bool = Field(
        False, description="encoder: norm what enters a layer's parts (CLIP, SigLIP), not what leaves them (BERT)"
    )
    causal: bool = Field(False, description="encoder: a token sees only those before it (CLIP)")
    filler: int | None = Field(
        None, ge=0, description="encoder: texts are filled up to context with this id, which is read too (SigLIP)"
    )
    class_token: bool = Field(False, description="vit: a learned token before the patches")
    patch_bias: bool = Field(True, description="vit: the projection of patches has a bias")
    pre_norm: bool = Field(False, description="vit: norm what enters the first layer (CLIP)")
    last_norm: Literal["tokens", "pooled"] = Field(
        "tokens", description="vit: what is normed at the end (CLIP: pooled)"
    )
    layer_scale: float | None = Field(
        None, ge=0, description="vit: learned factors on what layers add, which start here; None or 0: none"
    )
    tokens: int | None = Field(
        None,
        ge=1,
        description="image: tokens an image becomes, a square number (16, 36, 64); None: as the tower has",
    )
    block: Literal["basic", "bottleneck"] = Field("basic", description="resnet: the kind of residual block")
    stages: list[int] = Field(
        default_factory=list,
        description="resnet, efficientnet: blocks of each stage; empty: depth (efficientnet: at most depth) in each",
    )
    channels: list[int] = Field(
        default_factory=list,
        description="resnet, efficientnet: channels of the stem and of each stage; empty: shares of the width",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="chance of dropping a value in training")
    options: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="settings of a tower of another package"
    )
    frozen: bool = Field(False, description="do not train; features are computed once and kept")
    weights: PathText | None = Field(None, description="a checkpoint folder or Run to start from")


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


class Fusion(Section):
    """How images and words are joined."""

    kind: str = Field("unified", description="joint, unified or cross; none: one modality, nothing to join")
    how: Literal["concat", "mean", "weighted", "sum"] = Field("concat", description="joint: how features are fused")
    depth: int = Field(2, ge=1, description="unified, cross: layers of the fusion itself (heads that classify)")
    heads: int | None = Field(None, ge=1, description="unified, cross: attention heads; None: as the text tower has")
    dropout: float = Field(0.0, ge=0, lt=1, description="chance of dropping a value in training")
    layout: Literal["prefix", "inline"] = Field(
        "prefix",
        description="unified: image tokens before the text, seen both ways; or inside the text, at the tokenizer's "
        "image marks, as SmolVLM and Llava have them",
    )
    projector: Literal["auto", "linear", "shuffle", "mlp"] = Field(
        "auto",
        description="inline: how image tokens become the text's: one matrix; pixel shuffle and one matrix (SmolVLM); "
        "two layers (Llava); auto: shuffle where the tower's grid divides, else linear",
    )
    shuffle: int = Field(
        2, ge=2, description="inline, shuffle: side of the square of tokens that become one; model.image.tokens wins"
    )
    gate: Literal["auto", "none", "zero", "scale"] = Field(
        "auto",
        description="unified, cross: gates on its layers: none, from zero, or LayerScale; auto: cross has zero",
    )
    modality_dropout: float = Field(
        0.0, ge=0, lt=1, description="chance, in training, of hiding the image or the text of a row that has both"
    )


class Lora(Section):
    """Low-rank adapters beside the weights (Hu et al. 2021), used where train.tune is lora."""

    rank: int = Field(8, ge=1, description="rank of an adapter")
    alpha: float = Field(16.0, gt=0, description="an adapter's output counts alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="chance of dropping an adapter's input in training")
    targets: list[str] = Field(
        default_factory=list, description="ends of the names of layers that get one; empty: all linear layers of towers"
    )


class Model(Section):
    """The towers and what joins them."""

    size: Size | None = Field(
        None, description="lm, mlm: one dial for width, depth, batch, rates and length of the run; None: as set"
    )
    image: Tower = Field(default_factory=Tower, description="image tower; kind auto: convnet where there are images")
    text: Tower = Field(
        default_factory=Tower,
        description="text tower; kind auto: decoder; encoder or recurrent where text is only read",
    )
    towers: dict[str, OtherTower] = Field(
        default_factory=dict, description="modality: the tower that reads it, for modalities beside image and text"
    )
    fusion: Fusion = Field(default_factory=Fusion, description="how they are joined")
    lora: Lora = Field(default_factory=Lora, description="adapters")
    head: Literal["normed", "linear"] | None = Field(
        None,
        description="heads that classify, tag or mark words: a norm and a linear layer, or the linear layer alone, as "
        "BERT and ViT have; None: linear on a checkpoint of these, else normed",
    )
    embed: int | None = Field(
        None, ge=2, description="retrieve: numbers of a vector in the shared space; None: the text tower's width"
    )
    like: Literal["clip", "siglip"] | None = Field(
        None, description="retrieve: towers as CLIP or SigLIP has them, so that other libraries open the Run"
    )
    maps: Literal["both", "text"] = Field(
        "both", description="retrieve: maps into the shared space: of both towers (CLIP), or of texts alone (SigLIP)"
    )

    def tower(self, modality: str) -> Tower | OtherTower:
        """The tower of a modality; one of kind ``auto`` where the recipe says nothing of it."""
        known: dict[str, Tower | OtherTower] = {"image": self.image, "text": self.text, **self.towers}
        return known.get(modality, OtherTower())
