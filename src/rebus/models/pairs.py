"""Pictures and texts as vectors in one space, and pairs of them that do not belong together. Knows no task and no loop.

Sources: Radford et al. (2021), "Learning Transferable Visual Models From Natural Language Supervision" (CLIP); Zhai et
al. (2023), "Sigmoid Loss for Language Image Pre-Training" (SigLIP); Li et al. (2021), "Align before Fuse" (ALBEF).

Letters: B pictures of a batch, I pictures among them that have texts, R texts, D numbers of the shared space.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

SOFTMAX_SCALE, SIGMOID_SCALE, SIGMOID_BIAS = 1 / 0.07, 10.0, -10.0  # the published starts
MOST_SCALE = 100.0


class Pairs(NamedTuple):
    """A ``pairs`` head's outputs; a tuple, so that DistributedDataParallel finds the tensors in it.

    Attributes:
        pictures: (I, D) of length one.
        texts: (R, D) of length one.
        scale: () what products are multiplied with, one over the temperature.
        bias: () what is added then; 0 for the softmax loss, which it would not change.
    """

    pictures: Tensor
    texts: Tensor
    scale: Tensor
    bias: Tensor


class PairHead(nn.Module):
    """Two linear maps into one space, and the learned temperature and bias of the products there.

    Args:
        picture: width of the picture tower's Features.
        text: width of the text tower's.
        size: D.
        loss: ``softmax``: the temperature starts at 0.07; ``sigmoid``: at 0.1, with a bias of -10, so that at first all
            pairs count as not belonging together, as nearly all of them are.
        maps: ``both``: a linear map each, as CLIP has; ``text``: the picture tower's vectors are the space, and texts
            come into it by a linear map with a bias, as SigLIP has it. D then is the picture tower's width.
    """

    def __init__(self, picture: int, text: int, size: int, loss: str, maps: str = "both") -> None:
        super().__init__()
        alone = maps == "text"
        self.size = picture if alone else size
        self.picture = None if alone else nn.Linear(picture, size, bias=False)
        self.text = nn.Linear(text, self.size, bias=alone)
        for layer in (self.picture, self.text):
            if layer is not None:
                nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        if alone:
            nn.init.zeros_(self.text.bias)
        sigmoid = loss == "sigmoid"
        self.logit_scale = nn.Parameter(torch.tensor(math.log(SIGMOID_SCALE if sigmoid else SOFTMAX_SCALE)))
        self.logit_bias = nn.Parameter(torch.tensor(SIGMOID_BIAS)) if sigmoid else None

    def of_pictures(self, pooled: Tensor) -> Tensor:
        """(I, D_picture) -> (I, D) of length one, float32."""
        mapped = pooled if self.picture is None else self.picture(pooled)
        return functional.normalize(mapped.float(), dim=-1)

    def of_texts(self, pooled: Tensor) -> Tensor:
        """(R, D_text) -> (R, D) of length one, float32."""
        return functional.normalize(self.text(pooled).float(), dim=-1)

    def scale(self) -> Tensor:
        """(): one over the temperature. As in CLIP at most 100: a step that goes beyond is taken back to there."""
        if self.logit_bias is None:
            self.logit_scale.data.clamp_(max=math.log(MOST_SCALE))
        return self.logit_scale.exp()

    def forward(self, pictures: Tensor, texts: Tensor) -> Pairs:
        """Pooled (I, D_picture) and (R, D_text) -> Pairs."""
        scale = self.scale()
        bias = torch.zeros_like(scale) if self.logit_bias is None else self.logit_bias * 1.0  # not the leaf itself: DDP
        return Pairs(self.of_pictures(pictures), self.of_texts(texts), scale, bias)


@torch.no_grad()
def with_negatives(part: dict[str, Tensor], likeness: Tensor | None) -> dict[str, Tensor]:
    """R pairs that belong together, then R whose text and R whose picture is another one of the batch.

    A partner is drawn with a chance that grows with its likeness (the hard negatives of ALBEF); each of the draw's
    numbers belongs to the two rows that it is about, so that it does not matter what else is in the batch.

    Args:
        part: ``owner`` (R,), place in the batch of each text's picture; ``pictures`` (I,), places of these pictures;
            ``pair`` (R,), which of the I each text belongs to; ``belongs`` (I, R) bool, pairs that never are negatives;
            ``text_noise`` (R, R) and ``picture_noise`` (R, I), Gumbel noise for each text's draws.
        likeness: (I, R) logits of the draw; None: all alike.

    Returns:
        The part with ``owner`` (3R,) and ``text_rows`` (3R,). Where all of the batch belongs to a text or to its
        picture, the pair drawn is one that belongs: ``can_draw`` says where.
    """
    belongs, pair = part["belongs"], part["pair"]
    logits = torch.zeros_like(belongs, dtype=torch.float32) if likeness is None else likeness.float()
    logits = logits.masked_fill(belongs, float("-inf"))
    texts = (logits[pair] + part["text_noise"]).argmax(1)  # (R,)
    pictures = part["pictures"][(logits.T + part["picture_noise"]).argmax(1)]  # (R,)
    owner, own = part["owner"], torch.arange(len(pair), device=pair.device)
    return part | {"owner": torch.cat([owner, owner, pictures]), "text_rows": torch.cat([own, texts, own])}


def can_draw(part: dict[str, Tensor]) -> Tensor:
    """(3R,) bool: which pairs of ``with_negatives`` are what they should be."""
    free = ~part["belongs"]
    texts, pictures = free.any(1)[part["pair"]], free.any(0)
    return torch.cat([torch.ones_like(texts), texts, pictures])
