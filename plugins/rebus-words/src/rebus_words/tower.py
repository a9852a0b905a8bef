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
from pydantic import Field
from torch import Tensor, nn

from rebus import recipe
from rebus.errors import DataError, RecipeError
from rebus.models.features import Features
from rebus.models.towers.base import TextTower
from rebus.recipe import Section
from rebus.text.readers import read_options

_BETWEEN = "/"  # a word and its part of speech, as the reader writes them


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
def fill(embed: nn.Module, names: Sequence[str], source: Iterable[tuple[str, Any]], where: str) -> int:
    """Copy given vectors to the words that they belong to; gives how many words were known.

    The first vector of a word counts; a word in another case counts where its own is not there. Words without a vector
    keep the ones they have.

    Args:
        embed: of a tower: a ``WordEmbedding``, or any table with a row for each name.
        names: the word of each id, without its part of speech.
        source: pairs of a word and its (D,) numbers.
        where: what the source is called in errors.

    Raises:
        RecipeError: vectors of another width. DataError: no word was known.
    """
    if isinstance(embed, WordEmbedding):
        table, names = embed.vectors, embed.names or []
    else:
        assert isinstance(embed, nn.Embedding)  # noqa: S101 - as the towers have it
        table = embed
    places: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        places.setdefault(name, []).append(index)
    known: dict[str, bool] = {}  # whether the vector is that of the word as it is written
    for word, vector in source:
        if len(vector) != table.embedding_dim:
            do = f"set model.text.width={len(vector)}, or use vectors of width {table.embedding_dim}"
            expected = f"vectors of the tower's width, {table.embedding_dim}"
            raise RecipeError(where, expected, f"width {len(vector)}", do)
        exact = word in places
        name = word if exact else word.lower()
        if name in places and (name not in known or (exact and not known[name])):
            table.weight[places[name]] = torch.as_tensor(vector, dtype=table.weight.dtype)
            known[name] = exact
    if not known:
        do = "use vectors for the language of the data"
        raise DataError(where, f"some of the {len(places)} words of the data", "none of them", do)
    return len(known)


def names_of(words: Sequence[str]) -> list[str]:
    """Words without their parts of speech."""
    return [word if not between else name for word, (name, between, _) in ((w, w.rpartition(_BETWEEN)) for w in words)]


class Options(Section):
    """The recipe's ``model.text.options`` for this tower."""

    word_dropout: float = Field(0.5, ge=0, lt=1, description="chance of leaving out a word in training")


class WordVectors(TextTower):
    """A vector and a weight a word, and the weighted mean over the real words.

    Args:
        settings: width, dropout (of a number of a vector), and ``Options``.
        vocab_size: V.
        words: the word of each id; None: any ids.
        context: ignored.
    """

    follows, reader, takes_reader, options = True, "words", True, Options

    def __init__(
        self, settings: recipe.Tower, vocab_size: int, *, words: Sequence[str] | None = None, **context: Any
    ) -> None:
        super().__init__(settings, vocab_size)
        self.word_dropout = read_options(Options, settings.options, "model.text.options").word_dropout
        self.embed = WordEmbedding(words, vocab_size, self.width)
        self.log_weight = nn.Parameter(torch.zeros(vocab_size))
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, input_ids: Tensor, mask: Tensor, segment_ids: Tensor | None = None) -> Features:
        """(B, L) long ids and (B, L) bool -> Features; pooled is zero where no word is real."""
        tokens, share = self.dropout(self.embed(input_ids)), self.shares(input_ids, mask)
        pooled = (tokens * share.to(tokens.dtype)[:, :, None]).sum(1)
        return Features(tokens, mask, pooled)

    def shares(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """(B, L) of each word in the mean; zeros for a text all of whose words were left out, as for one without."""
        weights = self.log_weight[input_ids].float().exp() * mask
        if self.training and self.word_dropout > 0:
            weights = weights * (torch.rand_like(weights) >= self.word_dropout)
        return weights / weights.sum(1, keepdim=True).clamp(min=1e-6)

    @torch.no_grad()
    def weigh(self, rarity: Sequence[float]) -> None:
        """Start the words' weights at their rarity, (V,) positive numbers."""
        self.log_weight.copy_(torch.tensor([math.log(value) for value in rarity]))


def _numbers(each: Sequence[str], names: Sequence[str]) -> Tensor:
    index = {name: number for number, name in enumerate(names)}
    return torch.tensor([index[name] for name in each], dtype=torch.long)
