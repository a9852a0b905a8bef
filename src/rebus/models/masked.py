"""The head that guesses hidden words, in the layout of BERT: dense, activation, layer norm, and back to the vocabulary.

Its output weights are the word embeddings, with a bias of its own. It knows no encoder: vectors in, logits out.
Source: Devlin et al. (2019), "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding".
Letters: N hidden tokens, D width, V rows of the vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rebus.models.towers.encoder import EPS
from rebus.nn.feedforward import ACTIVATIONS
from rebus.recipe import Tower


class MaskedHead(nn.Module):
    """(N, D) -> (N, V).

    Args:
        settings: the encoder's: width, activation, eps.
        vocab_size: V.
    """

    def __init__(self, settings: Tower, vocab_size: int) -> None:
        super().__init__()
        self.transform = nn.Linear(settings.width, settings.width)
        self.activation = settings.activation or "gelu"
        self.norm = nn.LayerNorm(settings.width, eps=settings.eps or EPS)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        nn.init.normal_(self.transform.weight, std=settings.width**-0.5)
        nn.init.zeros_(self.transform.bias)

    def forward(self, hidden: Tensor, embeddings: Tensor) -> Tensor:
        """Logits of what stands at N hidden tokens.

        Args:
            hidden: (N, D), what the encoder says of them.
            embeddings: (V, D), the encoder's.
        """
        read = self.norm(ACTIVATIONS[self.activation](self.transform(hidden)))
        return F.linear(read, embeddings) + self.bias.to(read.dtype)
