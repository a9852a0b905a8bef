"""Where pieces of a text came from: characters of the text as it was given, whatever normalising did to its length.

It knows no vocabulary. An offset is (start, end) in characters of the original text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache

import tokenizers
from tokenizers import Regex, models, pre_tokenizers

from rebus.text.normalise import clean, normaliser

Offset = tuple[int, int]


def encode_aligned(backend: tokenizers.Tokenizer, text: str) -> tuple[list[int], list[Offset]]:
    """The ids that ``backend`` gives a text (nothing added), and where in the text each came from.

    Pieces that share a character, such as the bytes of an emoji, all have that character's offset. A mark that was
    composed into the letter before it belongs to that letter's piece.
    """
    cleaned = clean(text)
    result = backend.encode(cleaned, add_special_tokens=False)
    offsets = _with_marks(cleaned, list(result.offsets))
    return list(result.ids), offsets if cleaned == text else _before_cleaning(text, offsets)


def normalise_aligned(text: str) -> tuple[str, list[Offset]]:
    """``normalise(text)``, and for each of its characters where in ``text`` it came from."""
    cleaned = clean(text)
    result = _characters().encode(cleaned)
    offsets = _with_marks(cleaned, list(result.offsets))
    return normaliser().normalize_str(cleaned), offsets if cleaned == text else _before_cleaning(text, offsets)


def lower_aligned(text: str, offsets: Sequence[Offset]) -> tuple[str, list[Offset]]:
    """``text.lower()`` and its offsets: a few capitals become two characters."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered, list(offsets)
    return lowered, [offset for letter, offset in zip(text, offsets, strict=True) for _ in letter.lower()]


@cache
def _characters() -> tokenizers.Tokenizer:
    """Cuts a normalised text into its characters."""
    result = tokenizers.Tokenizer(models.WordLevel({"": 0}, unk_token=""))
    result.normalizer = normaliser()
    result.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    return result


def _with_marks(text: str, offsets: list[Offset]) -> list[Offset]:
    if text.isascii():
        return offsets
    starts = {start for start, _ in offsets}
    result = []
    for start, end in offsets:
        while end < len(text) and end not in starts and unicodedata.category(text[end]).startswith("M"):
            end += 1
        result.append((start, end))
    return result


def _before_cleaning(text: str, offsets: list[Offset]) -> list[Offset]:
    """Offsets in ``clean(text)`` as offsets in ``text``: half a surrogate pair becomes several characters."""
    origin = [place for place, letter in enumerate(text) for _ in clean(letter)]
    return [(origin[start], origin[end - 1] + 1) if end > start else (origin[start],) * 2 for start, end in offsets]
