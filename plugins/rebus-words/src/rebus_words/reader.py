"""Text to ids of words. Stop words may be left out, and words told apart by their part of speech: ``like/verb``."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from rebus import atomic
from rebus.errors import RunError
from rebus.recipe import Section
from rebus.text.normalise import normalise
from rebus.text.offsets import Offset, lower_aligned, normalise_aligned
from rebus.text.readers import TextReader
from rebus.text.words import Segment, resolve, words_at
from rebus_words.pos import CLASSES, tag_words
from rebus_words.start import start_tower
from rebus_words.stopwords import StopWords, stop_words

FILE = "words.json"
PAD, UNKNOWN = "<|pad|>", "<|unknown|>"
BETWEEN = "/"  # a word and its part of speech; no word holds one
_REMEMBERED = 50_000  # texts: each is read once an epoch


class Options(Section):
    """The recipe's ``text.options`` for this reader."""

    words: int = Field(20_000, ge=20, description="most words that have a vector of their own")
    stop_words: StopWords = Field("none", description="leave out words such as 'the'; auto: of both languages")
    part_of_speech: bool = Field(False, description="also give each word's part of speech a vector")
    vectors: Literal["skipgram", "cbow"] | None = Field(
        None, description="train vectors on the texts; text.file names a word2vec or GloVe file instead"
    )


class WordTokenizer(TextReader):
    """Ids for words. Build one with ``train`` or ``load``.

    Args:
        words: the word of each id from 2 on.
        segment: how Chinese is cut.
        stops: which stop words are left out.
        tagged: whether words are told apart by their part of speech, ``word/class``.

    Attributes:
        words: the word of each id; 0 is padding, 1 any word that was not learned (where words are tagged, there is
            one for each part of speech after it, and 1 is not used).
        rarity: the inverse document frequency of each id's word, ln((1 + N) / (1 + n)) + 1 for n of N texts; None where
            the words were loaded.
        pad_id, unknown_id: 0 and 1.
        segment: how Chinese is cut, ``jieba`` or ``none``.
    """

    options = Options
    pad_id, unknown_id = 0, 1
    rarity: list[float] | None = None

    def __init__(self, words: Sequence[str], segment: Segment, stops: StopWords = "none", tagged: bool = False) -> None:
        unknown = [f"{UNKNOWN}{BETWEEN}{kind}" for kind in CLASSES] if tagged else []
        self.words = [PAD, UNKNOWN, *unknown, *words]
        self.segment, self.stops, self.tagged = resolve(segment), stops, tagged
        self._first = 2 + len(unknown)
        self._left_out = stop_words(stops)
        self._ids = {word: index for index, word in enumerate(self.words)}
        self._encode = lru_cache(maxsize=_REMEMBERED)(self._encode_anew)

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        segment: Segment = "auto",
        stops: StopWords = "none",
        tagged: bool = False,
    ) -> WordTokenizer:
        """Learn the most frequent words; the same texts give the same words in the same order.

        Args:
            texts: any iterable, read once.
            vocab_size: most words, padding and the unknown word included.
            segment: how Chinese is cut.
            stops: which stop words are left out.
            tagged: tell words apart by their part of speech.

        Raises:
            MissingPackageError: parts of speech or jieba are asked for and their library is not installed.
        """
        empty = cls([], segment, stops, tagged)
        counts: Counter[str] = Counter()
        texts_with: Counter[str] = Counter()
        many = 0
        for text in texts:
            names = [name for name, _, _ in empty._names(normalise(text).lower())]
            counts.update(names)
            texts_with.update(set(names))
            many += 1
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        reader = cls(ranked[: max(0, vocab_size - empty._first)], segment, stops, tagged)
        reader.rarity = [math.log((1 + many) / (1 + texts_with[word])) + 1 for word in reader.words]
        return reader

    @classmethod
    def fit(cls, texts: Iterable[str], segment: Segment, options: Options) -> WordTokenizer:
        """``train`` with the recipe's settings."""
        return cls.train(texts, options.words, segment, options.stop_words, options.part_of_speech)

    def start(
        self,
        tower: Any,
        options: Options,
        file: str | None,
        texts: Callable[[], Sequence[str]],
        seed: int,
        log: Callable[[str], None],
    ) -> None:
        """Give a fresh tower the words' weights by rarity, and vectors from a file or trained on the texts."""
        way = options.vectors
        sentences = ([name.partition(BETWEEN)[0] for name in self.split(text)] for text in texts()) if way else ()
        start_tower(tower, self.words, self.rarity, file, way, sentences, seed, log)

    @classmethod
    def load(cls, folder: str | Path) -> WordTokenizer:
        """Read what ``save`` wrote. Raises RunError where it is missing or broken."""
        file = Path(folder) / FILE
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            words, segment = content["words"], content["segment"]
            stops, tagged = content.get("stop_words", "none"), content.get("part_of_speech", False)
            if segment not in ("none", "jieba") or not all(isinstance(word, str) for word in words):
                raise KeyError("segment")
            if stops not in ("none", "auto", "en", "zh") or not isinstance(tagged, bool):
                raise KeyError("stop_words")
        except OSError as error:
            raise RunError(file, "a file of words", f"'{error.strerror}'", "check the path") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(file, "a file of words as Rebus writes it", "other content", "train again") from error
        return cls(words, segment, stops, tagged)

    def save(self, folder: str | Path) -> None:
        """Write words.json. Raises RunError where the folder cannot be written."""
        settings = {"segment": self.segment, "stop_words": self.stops, "part_of_speech": self.tagged}
        atomic.write_json(Path(folder) / FILE, {**settings, "words": self.words[self._first :]})

    def encode(self, text: str) -> list[int]:
        """The ids of a text's words; none for a text without words."""
        return list(self._encode(text))

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[Offset]]:
        """``encode``, and where in the text each word came from, (start, end) in characters."""
        plain, offsets = lower_aligned(*normalise_aligned(text))
        ids: list[int] = []
        places: list[Offset] = []
        for name, start, end in self._names(plain):
            ids.append(self._id(name))
            places.append((offsets[start][0], offsets[end - 1][1]))
        return ids, places

    def split(self, text: str) -> list[str]:
        """The names of a text's words as they stand in ``words``, known or not."""
        return [name for name, _, _ in self._names(normalise(text).lower())]

    def decode(self, ids: Iterable[int]) -> str:
        """The words of ids with spaces between them; padding is left out."""
        return " ".join(self.words[index] for index in ids if index != self.pad_id)

    def _encode_anew(self, text: str) -> tuple[int, ...]:
        return tuple(self._id(name) for name in self.split(text))

    def _id(self, name: str) -> int:
        number = self._ids.get(name)
        if number is None and self.tagged:
            number = self._ids[f"{UNKNOWN}{BETWEEN}{name.rpartition(BETWEEN)[2]}"]
        return self.unknown_id if number is None else number

    def _names(self, plain: str) -> Iterator[tuple[str, int, int]]:
        """(name, start, end) of each word that is kept in a normalised text in lower case."""
        words = list(words_at(plain, self.segment))
        # before stop words go: a tagger may look at what stands around a word
        tags = tag_words([word for word, _ in words]) if self.tagged else None
        for place, (word, start) in enumerate(words):
            if word not in self._left_out:
                yield f"{word}{BETWEEN}{tags[place]}" if tags else word, start, start + len(word)
