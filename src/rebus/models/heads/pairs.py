"""``pairs``: images, or another modality, and texts as vectors of one space.

Sources: Radford et al. (2021), "Learning Transferable Visual Models From Natural Language Supervision" (CLIP); Zhai et
al. (2023), "Sigmoid Loss for Language Image Pre-Training" (SigLIP).

Letters: B images of a batch, I images among them that have texts, R texts, D numbers of the shared space.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from rebus.models.heads.base import HEADS, Head, HeadContext, HeadSpec
from rebus.models.parts import TEXT, Parts

SOFTMAX_SCALE, SIGMOID_SCALE, SIGMOID_BIAS = 1 / 0.07, 10.0, -10.0  # the published starts
MOST_SCALE = 100.0


class Pairs(NamedTuple):
    """A ``pairs`` head's outputs; a tuple, so that DistributedDataParallel finds the tensors in it.

    Attributes:
        images: (I, D) of length one.
        texts: (R, D) of length one.
        scale: () what products are multiplied with, one over the temperature.
        bias: () what is added then; 0 for the softmax loss, which it would not change.
    """

    images: Tensor
    texts: Tensor
    scale: Tensor
    bias: Tensor


@HEADS.register("pairs")
class PairsHead(Head):
    """Two linear maps into one space, and the learned temperature and bias of the products there.

    The first modality that is read is compared with text. ``model.maps`` says which have a linear map: ``both``, as in
    CLIP, or ``text``, with a bias, as in SigLIP: then the other tower's vectors are the space, and D is their width.

    Options:
        loss: ``softmax``: the temperature starts at 0.07; ``sigmoid``: at 0.1, with a bias of -10, so that at first all
            pairs count as not belonging together, as nearly all of them are.
    """

    consumes = "tower"
    shares_vectors = True
    defaults: ClassVar = {"loss": "softmax"}

    def __init__(self, spec: HeadSpec, parts: Parts) -> None:
        super().__init__(spec, parts)
        item, alone = spec.item, parts.settings.maps == "text"
        widths = {name: parts.widths[name] for name in (item, TEXT)}
        self.size = widths[item] if alone else parts.settings.embed or parts.width
        mapped = [TEXT] if alone else [item, TEXT]
        layers = {name: nn.Linear(widths[name], self.size, bias=alone) for name in mapped}
        for layer in layers.values():
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        self.maps = nn.ModuleDict(layers)
        sigmoid = self.options["loss"] == "sigmoid"
        self.logit_scale = nn.Parameter(torch.tensor(math.log(SIGMOID_SCALE if sigmoid else SOFTMAX_SCALE)))
        self.logit_bias = nn.Parameter(torch.tensor(SIGMOID_BIAS)) if sigmoid else None

    def embed(self, modality: str, pooled: Tensor) -> Tensor:
        """A tower's pooled vectors (N, D_m) -> (N, D) of length one, float32."""
        mapped = self.maps[modality](pooled) if modality in self.maps else pooled
        return functional.normalize(mapped.float(), dim=-1)

    def scale(self) -> Tensor:
        """(): one over the temperature. As in CLIP at most 100: a step that goes beyond is taken back to there."""
        if self.logit_bias is None:
            self.logit_scale.data.clamp_(max=math.log(MOST_SCALE))
        return self.logit_scale.exp()

    def compare(self, items: Tensor, texts: Tensor) -> Pairs:
        """Pooled (I, D_item) and (R, D_text) -> Pairs."""
        scale = self.scale()
        bias = torch.zeros_like(scale) if self.logit_bias is None else self.logit_bias * 1.0  # not the leaf itself: DDP
        return Pairs(self.embed(self.spec.item, items), self.embed(TEXT, texts), scale, bias)

    def forward(self, context: HeadContext) -> Pairs:
        """Of the batch's items that have texts, and of R texts."""
        return self.compare(context.features[self.spec.item].pooled[context.part["images"]], context.text.pooled)
