"""Text to words: English by spaces and signs, Chinese by jieba or by single characters."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from typing import Literal

from rebus.errors import MissingPackageError
from rebus.text.normalise import normalise

Segment = Literal["auto", "none", "jieba"]

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
    return [word for word, _ in words_at(normalise(text).lower(), resolve(segment))]


def resolve(segment: Segment) -> Literal["none", "jieba"]:
    """What ``auto`` means on this machine."""
    if segment != "auto":
        return segment
    return "jieba" if find_spec("jieba") is not None else "none"


def words_at(plain: str, segment: Literal["none", "jieba"]) -> Iterator[tuple[str, int]]:
    """The words of a normalised text in lower case, each with the place it starts at."""
    for run in _PIECES.finditer(plain):
        start = run.start()
        if run["han"] is None:
            yield run[0], start
            continue
        for word in run[0] if segment == "none" else _jieba()(run[0]):
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
