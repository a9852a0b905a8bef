"""The mean of word vectors: the smallest text tower there is, and a hard one to beat on short labels.

Sources: Mikolov et al. (2013), "Efficient Estimation of Word Representations in Vector Space"; Pennington et al.
(2014), "GloVe: Global Vectors for Word Representation"; the mean: Iyyer et al. (2015), "Deep Unordered Composition
Rivals Syntactic Methods for Text Classification". Letters: B items, L words, D width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rebus.errors import DataError, RecipeError
from rebus.models.features import Features, masked_mean
from rebus.models.towers import TOWERS
from rebus.recipe import Tower


@TOWERS.register("wordvectors")
class WordVectors(nn.Module):
    """A vector a word, and their mean over the real words.

    Args:
        settings: width, vectors, dropout.
        vocab_size: V.
        context: ignored.
    """

    def __init__(self, settings: Tower, vocab_size: int, **context: Any) -> None:
        super().__init__()
        self.settings, self.width = settings, settings.width
        self.vectors = nn.Embedding(vocab_size, self.width)
        nn.init.normal_(self.vectors.weight, std=0.1)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, input_ids: Tensor, mask: Tensor) -> Features:
        """(B, L) long ids and (B, L) bool -> Features; pooled is zero where no word is real."""
        tokens = self.dropout(self.vectors(input_ids))
        return Features(tokens, mask, masked_mean(tokens, mask))

    @torch.no_grad()
    def fill(self, words: Sequence[str]) -> int:
        """Copy the vectors of ``words`` (the word of each id) from the file ``settings.vectors``; give how many it had.

        Words it lacks keep the values they have.

        Raises:
            DataError: the file is missing, a line is broken, or no word was found.
            RecipeError: the file's vectors have another width than the tower.
        """
        if self.settings.vectors is None:
            return 0
        path = Path(self.settings.vectors)
        ids = {word: index for index, word in enumerate(words)}
        found: set[int] = set()
        for word, vector in read_vectors(path):
            if len(vector) != self.width:
                do = f"set model.text.width={len(vector)}, or use vectors of width {self.width}"
                raise RecipeError(path, f"vectors of the tower's width, {self.width}", f"width {len(vector)}", do)
            index = ids.get(word)
            if index is not None and index not in found:  # the first line of a word counts
                self.vectors.weight[index] = torch.tensor(vector)
                found.add(index)
        if not found:
            do = "use vectors for the language of the data; words are compared in lower case"
            raise DataError(path, f"some of the {len(ids)} words of the data", "none of them", do)
        return len(found)


def read_vectors(path: str | Path) -> Iterator[tuple[str, list[float]]]:
    """The words and vectors of a word2vec or GloVe text file, one by one.

    Each line is a word and its numbers, separated by spaces. A first line of two whole numbers is word2vec's header
    (words, width). A word may itself hold spaces, as some of GloVe's do.

    Raises:
        DataError: no such file, not UTF-8, a line whose numbers cannot be read or are not finite, or a line of another
            width than the first; the message has the line's number.
    """
    path = Path(path)
    width: int | None = None
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, 1):
                parts = line.rstrip("\r\n ").split(" ")
                if parts == [""]:
                    continue
                if number == 1 and len(parts) == 2 and all(part.isdecimal() for part in parts):
                    width = int(parts[1])
                    continue
                width = len(parts) - 1 if width is None else width
                yield _entry(parts, width, f"{path}, line {number}")
    except UnicodeDecodeError as error:
        do = "convert it: binary word2vec files are not read"
        raise DataError(path, "word vectors as UTF-8 text", f"'{error.reason}'", do) from error
    except OSError as error:
        raise DataError(path, "a file of word vectors", f"'{error.strerror}'", "check model.text.vectors") from error


def _entry(parts: list[str], width: int, where: str) -> tuple[str, list[float]]:
    do = "remove or mend the line"
    if width < 1 or len(parts) < width + 1:
        raise DataError(where, f"a word and {max(width, 1)} numbers", f"{len(parts) - 1} numbers", do)
    word = " ".join(parts[:-width])
    try:
        vector = [float(part) for part in parts[-width:]]
    except ValueError as error:
        raise DataError(where, f"a word and {width} numbers", f"'{' '.join(parts)[:60]}'", do) from error
    if not all(math.isfinite(value) for value in vector):
        raise DataError(where, "finite numbers", "a number that is not", do)
    if len(parts) > width + 1 and _number(parts[-width - 1]):
        raise DataError(where, f"{width} numbers, as in the lines before", f"{len(parts) - 1}", do)
    return word, vector


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
