"""The recipe's branch for the model: towers, what joins them, adapters."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rebus.recipe.section import Section
from rebus.recipe.towers import AnyTower, AutoTower, OtherTower, Tower

Size = Literal["nano", "micro", "mini", "small", "base"]


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
    image: AnyTower = Field(
        default_factory=AutoTower, description="image tower; kind auto: convnet where there are images"
    )
    text: AnyTower = Field(
        default_factory=AutoTower,
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
