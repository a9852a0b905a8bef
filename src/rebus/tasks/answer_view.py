"""What a task shows of its head's numbers and of its answer: plain data, which reports draw."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

MOST = 5  # answers shown


@dataclass(frozen=True)
class AnswerView:
    """An answer and what else was likely.

    Attributes:
        kind: of the text that tells it, ``flow_answer.KIND`` in the catalogues.
        facts: what the text names.
        outputs: (letters, tensor) of what the head gave, by name.
        likeliest: (answer, probability), the likeliest first.
        maps: label: (P,) its probability at each image token.
        vectors: caption: (D,).
        tokens: (strength, note) of each token that was read.
        chances: (N, V) of the tokens that stand at hidden places.
    """

    kind: str
    facts: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, tuple[str, Tensor]] = field(default_factory=dict)
    likeliest: list[tuple[str, float]] = field(default_factory=list)
    maps: dict[str, Tensor] = field(default_factory=dict)
    vectors: dict[str, Tensor] = field(default_factory=dict)
    tokens: list[tuple[float, str]] = field(default_factory=list)
    chances: Tensor | None = None


def likeliest(names: list[str], chances: Tensor) -> list[tuple[str, float]]:
    """The first few of (C,) probabilities with their names."""
    return [(names[place], float(chances[place])) for place in chances.argsort(descending=True)[:MOST].tolist()]
