"""``mask``: the words that were hidden in a text, in the layout of BERT: dense, activation, layer norm, vocabulary.

Its output weights are the word embeddings, with a bias of its own.
Source: Devlin et al. (2019), "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding".
Letters: N hidden tokens, D width, V rows of the vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from rebus.errors import RecipeError
from rebus.models.heads.base import HEADS, Head, HeadContext, HeadSpec
from rebus.models.layout import IGNORED, pick
from rebus.models.parts import TEXT, Parts
from rebus.models.towers.encoder import EPS
from rebus.nn.feedforward import ACTIVATIONS


@HEADS.register("mask")
class MaskHead(Head):
    """Logits (N, V) at the N places whose label is read, in row-major order.

    Raises:
        RecipeError: the text tower does not read both ways.
    """

    consumes = "tower"
    per = "text"

    def __init__(self, spec: HeadSpec, parts: Parts) -> None:
        super().__init__(spec, parts)
        tower = parts.tower(TEXT)
        if tower is None or not tower.fills_gaps:
            received = "another tower" if tower is not None else "none"
            expected = "encoder, which reads both ways, for the task 'mlm'"
            raise RecipeError("model.text.kind", expected, received, "set it so")
        settings, width = tower.settings, tower.width
        self.transform = nn.Linear(width, width)
        self.activation = settings.activation or "gelu"
        self.norm = nn.LayerNorm(width, eps=settings.eps or EPS)
        self.bias = nn.Parameter(torch.zeros(tower.vocab_size))
        nn.init.normal_(self.transform.weight, std=width**-0.5)
        nn.init.zeros_(self.transform.bias)

    def forward(self, context: HeadContext) -> Tensor:
        """Guess at the hidden places."""
        hidden = pick(context.text.tokens, context.part["labels"] != IGNORED)
        return self.outputs(hidden, context.parts.tower(TEXT).words.weight)

    def outputs(self, hidden: Tensor, words: Tensor) -> Tensor:
        """(N, D) and the word embeddings (V, D) -> (N, V)."""
        x = self.norm(ACTIVATIONS[self.activation](self.transform(hidden)))
        return functional.linear(x, words) + self.bias.to(x.dtype)
