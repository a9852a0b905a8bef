"""``words``: C numbers a text token, after it has met the other modalities."""

from __future__ import annotations

from torch import Tensor

from rebus.models.heads.base import HEADS, HeadContext
from rebus.models.heads.vector import VectorHead


@HEADS.register("words")
class WordsHead(VectorHead):
    """(R, L, D) -> (R, L, C), as ``vector`` does for a row."""

    per = "text"

    def forward(self, context: HeadContext) -> Tensor:
        """Of each text token."""
        return self.outputs(context.text_tokens())
