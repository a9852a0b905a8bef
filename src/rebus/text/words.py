"""Text to words, for word vectors: English by spaces and signs, Chinese by jieba or by single characters.

Stop words may be left out, and words told apart by their part of speech: ``like/verb``, ``like/prep``.
It knows no vectors and no tensors.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from rebus import atomic
from rebus.errors import MissingPackageError, RunError
from rebus.text.normalise import normalise
from rebus.text.offsets import Offset, lower_aligned, normalise_aligned
from rebus.text.pos import CLASSES, tag_words
from rebus.text.stopwords import StopWords, stop_words

Segment = Literal["auto", "none", "jieba"]
FILE = "words.json"
PAD, UNKNOWN = "<|pad|>", "<|unknown|>"
BETWEEN = "/"  # a word and its part of speech; no word holds one
_REMEMBERED = 50_000  # texts: each is read once an epoch

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_PIECES = re.compile(rf"(?P<han>[{_HAN}]+)|(?:(?![{_HAN}])\w)+(?:['\u2019-](?:(?![{_HAN}])\w)+)*")


def split_words(text: str, segment: Segment = "auto") -> list[str]:
    """The words of a text in lower case, without punctuation: ``Two cats, 两只猫`` -> two, cats, 两只, 猫.

    Args:
        text: any text; it is normalised first.
        segment: how Chinese is cut: ``jieba`` into words, ``none`` into characters, ``auto``: by jieba where it is
            installed.

    Raises:
        MissingPackageError: jieba is asked for and is not installed.
    """
    return list(_words(text, resolve(segment)))


def resolve(segment: Segment) -> Literal["none", "jieba"]:
    """What ``auto`` means on this machine."""
    if segment != "auto":
        return segment
    return "jieba" if find_spec("jieba") is not None else "none"


class WordTokenizer:
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

    pad_id, unknown_id = 0, 1
    rarity: list[float] | None = None

    def __init__(self, words: Sequence[str], segment: Segment, stops: StopWords = "none", tagged: bool = False) -> None:
        unknown = [f"{UNKNOWN}{BETWEEN}{one}" for one in CLASSES] if tagged else []
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
        made = cls(ranked[: max(0, vocab_size - empty._first)], segment, stops, tagged)
        made.rarity = [math.log((1 + many) / (1 + texts_with[word])) + 1 for word in made.words]
        return made

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
        said = {"segment": self.segment, "stop_words": self.stops, "part_of_speech": self.tagged}
        atomic.write_json(Path(folder) / FILE, {**said, "words": self.words[self._first :]})

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        return len(self.words)

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
        found = self._ids.get(name)
        if found is None and self.tagged:
            found = self._ids[f"{UNKNOWN}{BETWEEN}{name.rpartition(BETWEEN)[2]}"]
        return self.unknown_id if found is None else found

    def _names(self, plain: str) -> Iterator[tuple[str, int, int]]:
        """(name, start, end) of each word that is kept in a normalised text in lower case."""
        found = list(_words_at(plain, self.segment))
        # before stop words go: a tagger may look at what stands around a word
        tags = tag_words([word for word, _ in found]) if self.tagged else None
        for place, (word, start) in enumerate(found):
            if word not in self._left_out:
                yield f"{word}{BETWEEN}{tags[place]}" if tags else word, start, start + len(word)


def _words(text: str, segment: Literal["none", "jieba"]) -> Iterator[str]:
    yield from (word for word, _ in _words_at(normalise(text).lower(), segment))


def _words_at(plain: str, segment: Literal["none", "jieba"]) -> Iterator[tuple[str, int]]:
    """The words of a normalised text in lower case, each with the place it starts at."""
    for found in _PIECES.finditer(plain):
        start = found.start()
        if found["han"] is None:
            yield found[0], start
            continue
        for word in found[0] if segment == "none" else _jieba()(found[0]):
            yield word, start
            start += len(word)


@cache
def _jieba() -> Callable[[str], list[str]]:
    try:
        import jieba
    except ImportError as error:
        raise MissingPackageError("jieba", "zh", "Chinese word segmentation") from error
    jieba.setLogLevel("ERROR")
    cutter = jieba.Tokenizer()
    # By default it reads a cache from the shared temporary folder, where anybody could have put one.
    with tempfile.TemporaryDirectory() as folder:
        cutter.tmp_dir = folder
        cutter.initialize()

    def cut(text: str) -> list[str]:
        return list(cutter.lcut(text, HMM=False))

    return cut
