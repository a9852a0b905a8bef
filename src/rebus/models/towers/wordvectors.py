"""The mean of word vectors: the smallest text tower there is, and a hard one to beat on short labels.

The mean is weighted: each word has a weight of its own, which starts at the word's rarity and is learned.
Sources: Iyyer et al. (2015), "Deep Unordered Composition Rivals Syntactic Methods for Text Classification"; weights by
rarity: Arora et al. (2017), "A Simple but Tough-to-Beat Baseline for Sentence Embeddings".
Letters: B items, L words, D width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rebus import recipe
from rebus.errors import DataError, RecipeError
from rebus.models.features import Features
from rebus.models.towers.base import TOWERS, TextTower

_BETWEEN = "/"  # a word and its part of speech, as ``rebus.text.words`` writes them


class WordEmbedding(nn.Module):
    """Ids of words to vectors; where words have parts of speech, these have vectors too, which are added.

    Args:
        words: the word of each id, all plain or all but the first two as ``word/class``; None: any ids.
        count: V, where ``words`` is None.
        width: D.
    """

    word_of: Tensor
    class_of: Tensor

    def __init__(self, words: Sequence[str] | None, count: int, width: int) -> None:
        super().__init__()
        pairs = [word.rpartition(_BETWEEN) for word in words or ()]
        self.names: list[str] | None = list(words) if words is not None else None
        self.classes: nn.Embedding | None = None
        if any(between for _, between, _ in pairs):
            plain = [word if between else last for word, between, last in pairs]
            classes = [last if between else "" for _, between, last in pairs]
            self.names = list(dict.fromkeys(plain))
            kinds = list(dict.fromkeys(classes))
            self.register_buffer("word_of", _numbers(plain, self.names), persistent=False)
            self.register_buffer("class_of", _numbers(classes, kinds), persistent=False)
            self.classes = nn.Embedding(len(kinds), width)
            nn.init.normal_(self.classes.weight, std=0.1)
        self.vectors = nn.Embedding(len(self.names) if self.names is not None else count, width)
        nn.init.normal_(self.vectors.weight, std=0.1)

    def forward(self, input_ids: Tensor) -> Tensor:
        """(B, L) long -> (B, L, D)."""
        if self.classes is None:
            out: Tensor = self.vectors(input_ids)
        else:
            out = self.vectors(self.word_of[input_ids]) + self.classes(self.class_of[input_ids])
        return out

    @torch.no_grad()
    def fill(self, source: Iterable[tuple[str, Any]], where: str) -> int:
        """Copy given vectors to the words that they belong to; gives how many words have one.

        The first vector of a word counts; a word in another case counts where its own is not there. Other words
        keep the vectors they have.

        Args:
            source: pairs of a word and its (D,) numbers.
            where: what the source is called in errors.

        Raises:
            RecipeError: vectors of another width. DataError: no word was found.
        """
        assert self.names is not None  # noqa: S101 - built with words
        width = self.vectors.embedding_dim
        ids = {word: index for index, word in enumerate(self.names)}
        exact_of: dict[int, bool] = {}  # by word: whether its vector is that of the word as it is written
        for word, vector in source:
            if len(vector) != width:
                do = f"set model.text.width={len(vector)}, or use vectors of width {width}"
                raise RecipeError(where, f"vectors of the tower's width, {width}", f"width {len(vector)}", do)
            exact = word in ids
            index = ids.get(word, ids.get(word.lower()))
            if index is not None and (index not in exact_of or (exact and not exact_of[index])):
                self.vectors.weight[index] = torch.as_tensor(vector)
                exact_of[index] = exact
        if not exact_of:
            do = "use vectors for the language of the data"
            raise DataError(where, f"some of the {len(ids)} words of the data", "none of them", do)
        return len(exact_of)


@TOWERS.register("wordvectors")
class WordVectors(TextTower):
    """A vector and a weight a word, and the weighted mean over the real words.

    Args:
        settings: width, word_dropout (the chance of leaving out a word in training), dropout (of a number of a vector).
        vocab_size: V.
        words: the word of each id; None: any ids.
        context: ignored.
    """

    follows = True

    def __init__(
        self, settings: recipe.Tower, vocab_size: int, *, words: Sequence[str] | None = None, **context: Any
    ) -> None:
        super().__init__(settings)
        self.embed = WordEmbedding(words, vocab_size, self.width)
        self.log_weight = nn.Parameter(torch.zeros(vocab_size))
        self.dropout = nn.Dropout(settings.dropout)

    @property
    def embedding(self) -> WordEmbedding:
        """Of words."""
        return self.embed

    def forward(self, input_ids: Tensor, mask: Tensor, segment_ids: Tensor | None = None) -> Features:
        """(B, L) long ids and (B, L) bool -> Features; pooled is zero where no word is real."""
        tokens, share = self.dropout(self.embed(input_ids)), self.shares(input_ids, mask)
        pooled = (tokens * share.to(tokens.dtype)[:, :, None]).sum(1)
        return Features(tokens, mask, pooled)

    def shares(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """(B, L) of each word in the mean; zeros for a text all of whose words were left out, as for one without."""
        weights = self.log_weight[input_ids].float().exp() * mask
        if self.training and self.settings.word_dropout > 0:
            weights = weights * (torch.rand_like(weights) >= self.settings.word_dropout)
        return weights / weights.sum(1, keepdim=True).clamp(min=1e-6)

    @torch.no_grad()
    def weigh(self, rarity: Sequence[float]) -> None:
        """Start the words' weights at their rarity, (V,) positive numbers."""
        self.log_weight.copy_(torch.tensor([math.log(share) for share in rarity]))


def _numbers(each: Sequence[str], names: Sequence[str]) -> Tensor:
    index = {name: number for number, name in enumerate(names)}
    return torch.tensor([index[name] for name in each], dtype=torch.long)
