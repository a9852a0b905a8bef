"""The part of speech of each word, in a dozen classes that English and Chinese share.

English by the lexicon and the word endings that the library textblob ships (after Brill, 1992, "A Simple Rule-Based
Part of Speech Tagger"): 92% of 12,325 words in six files of the Brown corpus get the class of its annotators. Chinese
by jieba's dictionary. Neither fetches anything. It knows no vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from rebus.errors import MissingPackageError

CLASSES = ("noun", "verb", "adj", "adv", "pron", "det", "prep", "conj", "num", "part", "other")
# Penn Treebank tags and jieba's, each by its beginning; the longest that fits wins
_PENN = {
    "NN": "noun",
    "VB": "verb",
    "MD": "verb",
    "JJ": "adj",
    "RB": "adv",
    "WRB": "adv",
    "PRP": "pron",
    "WP": "pron",
    "EX": "pron",
    "DT": "det",
    "PDT": "det",
    "WDT": "det",
    "IN": "prep",
    "TO": "part",
    "RP": "part",
    "POS": "part",
    "UH": "part",
    "CC": "conj",
    "CD": "num",
}
_JIEBA = {
    "n": "noun",
    "t": "noun",
    "s": "noun",
    "f": "noun",
    "v": "verb",
    "a": "adj",
    "b": "adj",
    "z": "adj",
    "d": "adv",
    "r": "pron",
    "p": "prep",
    "c": "conj",
    "m": "num",
    "q": "num",
    "u": "part",
    "y": "part",
    "e": "part",
    "o": "part",
}


def tag_words(words: Sequence[str]) -> list[str]:
    """A class for each word of a text, in lower case or as it was written.

    Runs of words in Latin letters are tagged together; Chinese words each by the dictionary.

    Raises:
        MissingPackageError: textblob or jieba is not installed, and there are such words.
    """
    result = ["other"] * len(words)
    run: list[int] = []
    for place in range(len(words) + 1):
        if place < len(words) and not _is_han(words[place]):
            run.append(place)
            continue
        for at, tag in zip(run, _english(tuple(words[i] for i in run)) if run else (), strict=True):
            result[at] = tag
        run = []
        if place < len(words):
            result[place] = _named(_chinese().get(words[place], ""), _JIEBA)
    return result


def _is_han(word: str) -> bool:
    return "\u3400" <= word[:1] <= "\u9fff" or word[:1] >= "\U00020000"


def _named(tag: str, table: dict[str, str]) -> str:
    return next((table[tag[:size]] for size in (3, 2, 1) if tag[:size] in table), "other")


def _english(words: tuple[str, ...]) -> list[str]:
    # The tagger reads tokens between spaces, and a slash as the end of one; words have neither.
    tagged = _tagger()(" ".join(words), tokenize=False)
    return [_named(tag, _PENN) for _, tag in tagged]


@cache
def _tagger() -> Any:
    try:
        from textblob.en import tag
    except ImportError as error:
        raise MissingPackageError("textblob", "pos", "parts of speech of English words", "rebus-words") from error
    return tag


@cache
def _chinese() -> dict[str, str]:
    """Word: tag, from the dictionary that comes with jieba: a word, its count and its tag on each line."""
    try:
        import jieba
    except ImportError as error:
        raise MissingPackageError("jieba", "pos", "parts of speech of Chinese words", "rebus-words") from error
    with jieba.get_module_res("dict.txt") as file:
        lines = (line.decode("utf-8").split() for line in file)
        return {parts[0]: parts[2] for parts in lines if len(parts) == 3}
