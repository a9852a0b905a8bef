"""Text to words, for word vectors: English by spaces and signs, Chinese by jieba or by single characters.

It knows no vectors and no tensors.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from rebus import atomic
from rebus.errors import MissingPackageError, RunError
from rebus.text.normalise import normalise

Segment = Literal["auto", "none", "jieba"]
FILE = "words.json"
PAD, UNKNOWN = "<|pad|>", "<|unknown|>"

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

    Attributes:
        words: the word of each id; 0 is padding, 1 any word that was not learned.
        pad_id, unknown_id: 0 and 1.
        segment: how Chinese is cut, ``jieba`` or ``none``.
    """

    pad_id, unknown_id = 0, 1

    def __init__(self, words: Sequence[str], segment: Segment) -> None:
        self.words = [PAD, UNKNOWN, *words]
        self.segment = resolve(segment)
        self._ids = {word: index for index, word in enumerate(self.words)}

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, segment: Segment = "auto") -> WordTokenizer:
        """Learn the most frequent words; the same texts give the same words in the same order.

        Args:
            texts: any iterable, read once.
            vocab_size: most words, padding and the unknown word included.
            segment: how Chinese is cut.
        """
        way = resolve(segment)
        counts = Counter(word for text in texts for word in _words(text, way))
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(ranked[: max(0, vocab_size - 2)], way)

    @classmethod
    def load(cls, folder: str | Path) -> WordTokenizer:
        """Read what ``save`` wrote. Raises RunError where it is missing or broken."""
        file = Path(folder) / FILE
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            words, segment = content["words"], content["segment"]
            if segment not in ("none", "jieba") or not all(isinstance(word, str) for word in words):
                raise KeyError("segment")
        except OSError as error:
            raise RunError(file, "a file of words", f"'{error.strerror}'", "check the path") from error
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(file, "a file of words as Rebus writes it", "other content", "train again") from error
        return cls(words, segment)

    def save(self, folder: str | Path) -> None:
        """Write words.json. Raises RunError where the folder cannot be written."""
        atomic.write_json(Path(folder) / FILE, {"segment": self.segment, "words": self.words[2:]})

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        return len(self.words)

    def encode(self, text: str) -> list[int]:
        """The ids of a text's words; none for a text without words."""
        return [self._ids.get(word, self.unknown_id) for word in _words(text, self.segment)]

    def decode(self, ids: Iterable[int]) -> str:
        """The words of ids with spaces between them; padding is left out."""
        return " ".join(self.words[index] for index in ids if index != self.pad_id)


def _words(text: str, segment: Literal["none", "jieba"]) -> Iterator[str]:
    for found in _PIECES.finditer(normalise(text).lower()):
        if found["han"] is None:
            yield found[0]
        elif segment == "none":
            yield from found[0]
        else:
            yield from _jieba()(found[0])


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
