"""``tokens``: C numbers for each token of an image or of another modality's tower.

Where a decoder writes from the same tokens, they are named in words: compared with the decoder's own embeddings of the
names. That puts what a patch shows and the word for it in one place, so that one attention pattern finds any word in an
image, where unrelated spaces would need one for each word (docs/LOG.md has what that is worth).

Letters: B examples, P tokens of an item, C labels, N names a label, T tokens a name, D width, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from rebus.models.features import Features, masked_mean
from rebus.models.fusion import Condition
from rebus.models.heads.base import HEADS, Head, HeadContext, HeadSpec
from rebus.models.parts import Parts
from rebus.nn.attention import record
from rebus.nn.norms import RMSNorm

Names = tuple[tuple[tuple[int, ...], ...], ...]  # label: its names: their token ids


@HEADS.register("tokens")
class TokensHead(Head):
    """(B, P, C) from the tokens of the first modality that is read; None where a batch has none of it.

    Options:
        names: token ids of the labels' names, for a model with a decoder to compare with; C then is 1 more.
    """

    consumes = "tower"
    per = "item"
    defaults: ClassVar = {"names": ()}

    def __init__(self, spec: HeadSpec, parts: Parts) -> None:
        super().__init__(spec, parts)
        joined = parts.fusion is not None and spec.item in parts.fusion.modalities
        compares = bool(self.options["names"]) and parts.decoder is not None and joined and parts.inline is None
        self.naming = Naming(parts.width, self.options["names"]) if compares else None
        if self.naming is None and spec.item in parts.widths:
            width = parts.widths[spec.item]
            self.norm, self.linear = RMSNorm(width), nn.Linear(width, spec.outputs)

    def forward(self, context: HeadContext) -> Tensor | None:
        """Of each token."""
        if self.spec.item not in context.features:
            return None
        tokens, parts = context.features[self.spec.item].tokens, context.parts
        if self.naming is None:
            scores: Tensor = self.linear(self.norm(tokens))
        else:
            scores = self.naming(parts.projected(self.spec.item, tokens), parts.writer.embed_tokens.weight)
        return scores

    def conditioned(self, condition: Condition, parts: Parts, features: dict[str, Features]) -> Condition:
        """The condition with what words are looked up in."""
        if self.naming is None or self.spec.item not in features:
            return condition
        item, own = self.spec.item, features[self.spec.item]
        shown = replace(own, tokens=parts.projected(item, parts.placed(item, own).tokens))
        return replace(condition, shown=shown, names=parts.projected(item, own.tokens))

    def entered(self, condition: Condition, embedded: Tensor) -> Tensor:
        """Embedded text (R, L, D) with what the item holds of each word."""
        if self.naming is None or condition.shown is None or condition.names is None:
            return embedded
        return self.naming.find(embedded, condition.names, condition.shown)


class Naming(nn.Module):
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
        self.absent = nn.Parameter(torch.tensor(0.5))  # the likeness below which a word is not in the image
        self.look_up = nn.Linear(width, width)
        nn.init.normal_(self.look_up.weight, std=0.005)  # what is added starts about as long as an embedding
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def forward(self, tokens: Tensor, embeddings: Tensor) -> Tensor:
        """(B, P, D) image tokens and (V, D) embeddings -> (B, P, 1 + C); the first number is for nothing."""
        labels, most = self.ids.shape[:2]
        vectors = embeddings[self.ids]  # (C, N, T, D)
        flat = masked_mean(vectors.flatten(0, 1), self.real.flatten(0, 1))  # (C N, D)
        each = functional.normalize(flat, dim=-1).view(labels, most, -1)
        classes = masked_mean(each, self.real.any(-1))  # (C, D), the mean over a label's names
        classes = torch.cat([functional.normalize(self.nothing, dim=-1)[None], classes])
        scores: Tensor = functional.normalize(tokens, dim=-1) @ classes.to(tokens.dtype).T
        return scores * self.scale

    @property
    def scale(self) -> Tensor:
        """What cosines are multiplied by, at most 100."""
        return self.log_scale.exp().clamp(max=100.0)

    def find(self, words: Tensor, names: Tensor, shown: Features) -> Tensor:
        """Add to each word what the image holds of it: nothing, where no patch is like the word.

        Each word attends to the patches by the likeness that ``forward`` learned from boxes, and to one place more,
        which holds nothing. Word by patch as in Yao et al., "FILIP: Fine-grained Interactive Language-Image
        Pre-Training", 2021.

        Args:
            words: (R, L, D) embedded text.
            names: (R, P, D) what each image token shows.
            shown: (R, P, D) what is fetched from it, with a mask of real tokens.

        Returns:
            (R, L, D).
        """
        likeness = functional.normalize(names.float(), dim=-1).mT
        alike = functional.normalize(words.float(), dim=-1) @ likeness  # (R, L, P)
        alike = alike.masked_fill(~shown.mask[:, None, :], -1.0)
        alike = torch.cat([alike, self.absent.expand(*alike.shape[:2], 1)], dim=-1)
        share = (alike * self.scale).softmax(-1)[..., :-1]  # (R, L, P)
        weights, values = share.to(shown.tokens.dtype)[:, None], self.look_up(shown.tokens)[:, None]  # of one head
        record(self, weights, values, cross=True)
        held: Tensor = (weights @ values)[:, 0]
        return words + held
