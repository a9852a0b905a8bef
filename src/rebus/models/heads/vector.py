"""``vector``: C numbers a row, from the vector that the fusion gives."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from rebus.models.heads.base import HEADS, Head, HeadContext, HeadSpec
from rebus.models.parts import Parts
from rebus.nn.norms import RMSNorm


@HEADS.register("vector")
class VectorHead(Head):
    """(R, D) -> (R, C); with no outputs, the vector as it is.

    Where the recipe's ``model.head`` is ``linear`` and there is no hidden layer, it is what BERT's and ViT's
    classifiers are: dropout and a linear layer.

    Options:
        hidden: a hidden layer this many times as wide as the vector, for what is true of two things together but of
            neither alone; 0: none.
    """

    defaults: ClassVar = {"hidden": 0}

    def __init__(self, spec: HeadSpec, parts: Parts) -> None:
        super().__init__(spec, parts)
        width, hidden = parts.width, self.options["hidden"] * parts.width
        self.dropout = nn.Dropout(parts.settings.fusion.dropout)
        self.norm = RMSNorm(width) if spec.outputs and (hidden or parts.settings.head != "linear") else None
        self.hidden = nn.Linear(width, hidden) if spec.outputs and hidden else None
        self.linear = nn.Linear(hidden or width, spec.outputs) if spec.outputs else None

    def forward(self, context: HeadContext) -> Tensor:
        """Of each row."""
        return self.outputs(context.fused().pooled)

    def outputs(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., C)."""
        if self.linear is None:
            return x
        x = x if self.norm is None else self.norm(x)
        x = x if self.hidden is None else functional.gelu(self.hidden(x))
        out: Tensor = self.linear(self.dropout(x))
        return out
