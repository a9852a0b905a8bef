"""Name each picture token in words: its vector is compared with the decoder's own embeddings of the names.

It puts what a patch shows and the word for it in one place, so that one attention pattern finds any word in a picture,
where unrelated spaces would need one for each word (docs/LOG.md has what that is worth).

Letters: B items, P picture tokens, C labels, N names a label, T tokens a name, D width, V vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from rebus.models.features import masked_mean

Names = tuple[tuple[tuple[int, ...], ...], ...]  # label: its names: their token ids


class NamingHead(nn.Module):
    """Cosine similarity to the names of C labels, times a learned scale, after a vector of its own for "nothing".

    The scale is learned in the logarithm, as in Radford et al., "Learning Transferable Visual Models From Natural
    Language Supervision", 2021.

    Args:
        width: D.
        names: token ids of every name of every label; a label may have names in several languages.
    """

    ids: Tensor
    real: Tensor

    def __init__(self, width: int, names: Names) -> None:
        super().__init__()
        most, longest = max(len(label) for label in names), max(len(name) for label in names for name in label)
        ids = torch.zeros(len(names), most, longest, dtype=torch.long)
        real = torch.zeros(len(names), most, longest, dtype=torch.bool)
        for c, label in enumerate(names):
            for n, name in enumerate(label):
                ids[c, n, : len(name)] = torch.tensor(name)
                real[c, n, : len(name)] = True
        self.register_buffer("ids", ids, persistent=False)
        self.register_buffer("real", real, persistent=False)
        self.nothing = nn.Parameter(torch.randn(width) * 0.02)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def forward(self, tokens: Tensor, embeddings: Tensor) -> Tensor:
        """(B, P, D) picture tokens and (V, D) embeddings -> (B, P, 1 + C); the first number is for nothing."""
        labels, most = self.ids.shape[:2]
        vectors = embeddings[self.ids]  # (C, N, T, D)
        flat = masked_mean(vectors.flatten(0, 1), self.real.flatten(0, 1))  # (C N, D)
        each = functional.normalize(flat, dim=-1).view(labels, most, -1)
        classes = masked_mean(each, self.real.any(-1))  # (C, D), the mean over a label's names
        classes = torch.cat([functional.normalize(self.nothing, dim=-1)[None], classes])
        scores: Tensor = functional.normalize(tokens, dim=-1) @ classes.to(tokens.dtype).T
        return scores * self.log_scale.exp().clamp(max=100.0)
