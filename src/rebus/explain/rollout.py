"""Attention rollout: how much of each patch and word is in a token, if attention were all that mixes tokens.

It needs no gradients, and so says the same of every output that is read at the same place.
Source: Abnar and Zuidema (2020), "Quantifying Attention Flow in Transformers". Where a layer's attention is behind a
gate, its share is the gate's size, as a closed gate lets nothing through; the published half is the case of no gate.
"""

from __future__ import annotations

from torch import Tensor

from rebus.explain.paths import Rules, flows, followed
from rebus.explain.registry import METHODS, Method, Scores
from rebus.explain.subject import Subject
from rebus.explain.trace import Seen
from rebus.models.heads import Head
from rebus.models.vlm import VisionLanguageModel


class Rollout(Rules):
    """Rows add up to 1 throughout."""

    blends = True

    def heads(self, seen: Seen) -> Tensor:
        """The mean over heads."""
        return seen.weights.float().mean(0)

    def among(self, rows: Tensor, weights: Tensor, gate: float) -> Tensor:
        """(I + gate A) R, each row divided by what it then adds up to."""
        return _mixed(rows, weights, gate, rows)

    def toward(self, rows: Tensor, memory: Tensor, weights: Tensor, gate: float, own: slice, other: slice) -> Tensor:
        """What is there, and what the memory is made of."""
        return _mixed(rows, weights, gate, memory)

    def pooled(self, tokens: Tensor, index: int | None, share: Tensor) -> Tensor:
        """The shares as they are."""
        return share

    def from_tower(self, rows: Tensor) -> Tensor:
        """As they are."""
        return rows

    def read(self, rows: Tensor, place: int, column: int) -> Tensor:
        """The row."""
        return rows[place]


def _mixed(rows: Tensor, weights: Tensor, gate: float, source: Tensor) -> Tensor:
    """A row of weights that sees nothing, adding up to 0, leaves its token as it is."""
    return (rows + gate * weights @ source) / (1 + gate * weights.sum(-1, keepdim=True))


class AttentionRollout(Method):
    """``rollout``."""

    def fits(self, model: VisionLanguageModel, head: Head) -> bool:
        """Where attention leads to every input."""
        return flows(model, head)

    def __call__(self, subject: Subject) -> list[Scores]:
        """One pass for all goals."""
        rules = Rollout()
        return followed(subject, lambda trace, goal: rules)


METHODS.register("rollout")(AttentionRollout())
