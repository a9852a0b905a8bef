"""Attention relevance: attention weighted by how the explained number depends on it, through self- and cross-attention.

Source: Chefer, Gur and Wolf (2021), "Generic Attention-model Explainability for Interpreting Bi-Modal and
Encoder-Decoder Transformers". Equation numbers are the paper's. What is pooled without attention counts as attention
with the pooling's weights: (share x gradient x token), where that is positive.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rebus.explain.paths import Rules, flows, followed
from rebus.explain.registry import METHODS, Method, Scores
from rebus.explain.subject import Subject
from rebus.explain.trace import Seen
from rebus.models.heads import Head
from rebus.models.vlm import VisionLanguageModel

_LEAST = 1e-12


class Relevance(Rules):
    """The rules for one explained number.

    Args:
        gradients: of it, with respect to each of the trace's tensors.
    """

    def __init__(self, gradients: list[Tensor]) -> None:
        self._gradients = gradients

    def heads(self, seen: Seen) -> Tensor:
        """Equation 5: the mean over heads of the positive part of gradient times attention."""
        gradient = self._gradients[seen.index][0]
        return (gradient.float() * seen.weights.float()).clamp(min=0).mean(0)

    def among(self, rows: Tensor, weights: Tensor, gate: float) -> Tensor:
        """Equations 6 and 7: R + A R, whatever the columns are; gates are in the gradients already."""
        return rows + weights @ rows

    def toward(self, rows: Tensor, memory: Tensor, weights: Tensor, gate: float, own: slice, other: slice) -> Tensor:
        """Equations 10 and 11, with both sides' own relevance normalised as in 8 and 9."""
        changed = rows.clone()
        asking, answering = normalised(rows[:, own]), normalised(memory[:, other])
        changed[:, other] += asking.T @ weights @ answering
        changed[:, own] += weights @ memory[:, own]
        return changed

    def pooled(self, tokens: Tensor, index: int | None, share: Tensor) -> Tensor:
        """The positive part of gradient times token: the share is in the gradient."""
        if index is None:
            return share
        return (tokens.float() * self._gradients[index][0].float()).sum(-1).clamp(min=0)

    def from_tower(self, rows: Tensor) -> Tensor:
        """Normalised, where there is a row for each column."""
        return normalised(rows) if rows.shape[0] == rows.shape[1] else rows

    def read(self, rows: Tensor, place: int, column: int) -> Tensor:
        """The row, its token's own share and all others' counting alike, as in equations 8 and 9."""
        row = rows[place].clone()
        row[column] -= 1
        row = row / row.sum().clamp(min=_LEAST)
        row[column] += 1
        return row


def normalised(rows: Tensor) -> Tensor:
    """Equations 8 and 9: what was added to the identity, its rows adding up to 1, beside the identity: (L, L)."""
    eye = torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
    added = rows - eye
    return added / added.sum(-1, keepdim=True).clamp(min=_LEAST) + eye


class AttentionRelevance(Method):
    """``relevance``."""

    def fits(self, model: VisionLanguageModel, head: Head) -> bool:
        """Where attention leads to every input."""
        return flows(model, head)

    def __call__(self, subject: Subject) -> list[Scores]:
        """One pass for all goals, and one back for each."""
        return followed(subject, lambda trace, goal: Relevance(trace.gradients(goal)))


METHODS.register("relevance")(AttentionRelevance())
