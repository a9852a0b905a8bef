"""The next tokens of many texts, each by settings of its own. It knows no decoder. Letters: R texts, V vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rebus.generation.batching.text import Text
from rebus.generation.engine import Token, tokens_of
from rebus.generation.sampling import Chooser, Sampling


def choose(texts: Sequence[Text], logits: Tensor) -> list[Token | Exception]:
    """One token a text, by its own rng; an exception where its constraint failed.

    Args:
        texts: R.
        logits: (R, V).
    """
    found: list[Token | Exception | None] = [None] * len(texts)
    groups: dict[tuple[Sampling, bool], list[int]] = {}
    masks: dict[int, Tensor] = {}
    for row, text in enumerate(texts):
        constraint = text.held.constraint
        try:
            if constraint is not None:
                masks[row] = constraint.allowed()
        except Exception as error:
            found[row] = error
            continue
        groups.setdefault((text.manner, constraint is not None), []).append(row)
    for (sampling, constrained), rows in groups.items():
        some = logits if len(rows) == len(texts) else logits[rows]
        chooser = Chooser.joined([texts[row].chooser for row in rows])
        allowed = torch.stack([masks[row] for row in rows]) if constrained else None
        chosen = chooser.choose(some, allowed)
        for place, (row, token) in enumerate(zip(rows, tokens_of(some, chosen, sampling), strict=True)):
            texts[row].chooser.note(chosen[place : place + 1])
            found[row] = token
    return [token for token in found if token is not None]
