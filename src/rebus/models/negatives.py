"""Pairs that do not belong together, drawn from a batch: the hard negatives of image-text matching.

Source: Li et al. (2021), "Align before Fuse: Vision and Language Representation Learning with Momentum Distillation".
Letters: B images of a batch, I images among them that have texts, R texts.
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def with_negatives(part: dict[str, Tensor], likeness: Tensor | None) -> dict[str, Tensor]:
    """R pairs that belong together, then R whose text and R whose image is another one of the batch.

    A partner is drawn with a chance that grows with its likeness (the hard negatives of ALBEF); each of the draw's
    numbers belongs to the two rows that it is about, so that it does not matter what else is in the batch.

    Args:
        part: ``owner`` (R,), place in the batch of each text's image; ``images`` (I,), places of these images;
            ``pair`` (R,), which of the I each text belongs to; ``belongs`` (I, R) bool, pairs that never are negatives;
            ``text_noise`` (R, R) and ``image_noise`` (R, I), Gumbel noise for each text's draws.
        likeness: (I, R) logits of the draw; None: all alike.

    Returns:
        The part with ``owner`` (3R,) and ``text_rows`` (3R,). Where all of the batch belongs to a text or to its
        image, the pair drawn is one that belongs: ``can_draw`` says where.
    """
    belongs, pair = part["belongs"], part["pair"]
    logits = torch.zeros_like(belongs, dtype=torch.float32) if likeness is None else likeness.float()
    logits = logits.masked_fill(belongs, float("-inf"))
    texts = (logits[pair] + part["text_noise"]).argmax(1)  # (R,)
    images = part["images"][(logits.T + part["image_noise"]).argmax(1)]  # (R,)
    owner, own = part["owner"], torch.arange(len(pair), device=pair.device)
    return part | {"owner": torch.cat([owner, owner, images]), "text_rows": torch.cat([own, texts, own])}


def can_draw(part: dict[str, Tensor]) -> Tensor:
    """(3R,) bool: which pairs of ``with_negatives`` are what they should be."""
    free = ~part["belongs"]
    texts, images = free.any(1)[part["pair"]], free.any(0)
    return torch.cat([torch.ones_like(texts), texts, images])
