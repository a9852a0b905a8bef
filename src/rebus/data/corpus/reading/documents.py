"""Text to documents: a whole file, a paragraph or a line each; long ones in parts, so that memory stays bounded.

It does not know files. In ``auto`` a file is one document, or several where it holds lines ``<|endoftext|>``, the mark
that published corpora have between documents. A form feed is no such mark: it also ends the pages of one document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

MARK = "<|endoftext|>"
PIECE = 1 << 20  # characters of a document held at a time
How = Literal["auto", "file", "paragraph", "line"]

_BREAKS = {
    "auto": re.compile(re.escape(MARK)),
    "file": re.compile(r"(?!)"),
    "paragraph": re.compile(r"\n(?:[^\S\n]*\n)+"),
    "line": re.compile(r"\n"),
}
_GOOD_PLACES = (
    ("\n\n",),
    ("\n",),
    (". ", "! ", "? ", "。", "！", "？", "」", "”"),
    (" ", "\t", "，", "、", "；", "："),
)


@dataclass(frozen=True, slots=True)
class Document:
    """A document, or a part of a long one.

    Attributes:
        text: what it says.
        where: file and line or row, for people.
        begins: False where it goes on with the one before.
        more: the next one goes on with this one.
        file: number of its file in the source, from 0.
        split: train, valid or test where the source says so, else "".
        problem: why nothing could be read there ("undecodable", "binary file", "bad row", ...), else "".
    """

    text: str
    where: str
    begins: bool = True
    more: bool = False
    file: int = 0
    split: str = ""
    problem: str = ""


def cut_documents(pieces: Iterator[str], how: How, limit: int = PIECE) -> Iterator[tuple[int, str, bool]]:
    """Documents as (line they begin on, text, whether the next goes on with it).

    Args:
        pieces: a file's text, in order, lines end as in Unix.
        how: what a document is.
        limit: most characters of a part.
    """
    mark, held, line = _BREAKS[how], "", 1
    for piece in pieces:
        held += piece
        at = 0
        for result in mark.finditer(held):
            if result.end() == len(held) and how != "line":
                break  # the mark may go on in the next piece
            yield from _parts(held[at : result.start()], line, limit)
            line += held.count("\n", at, result.end())
            at = result.end()
        held = held[at:]
        while len(held) > 2 * limit:  # what is kept back may hold the beginning of a mark
            cut = cut_place(held, limit)
            yield line, held[:cut], True
            line += held.count("\n", 0, cut)
            held = held[cut:]
    if last := mark.search(held):
        held = held[: last.start()]
    if held:
        yield from _parts(held, line, limit)


def cut_text(text: str, size: int) -> list[str]:
    """A text in parts of at most ``size`` characters, cut between paragraphs, lines, sentences or words."""
    parts, at = [], 0
    while len(text) - at > size:
        cut = cut_place(text, size, at)
        parts.append(text[at:cut])
        at = cut
    return [*parts, text[at:]]


def cut_place(text: str, size: int, start: int = 0) -> int:
    """The best place to cut the part from ``start``: after a paragraph, else a line, a sentence, a word.

    It lies between half of ``size`` and ``size`` after ``start``.
    """
    low, high = start + size // 2, start + size
    for marks in _GOOD_PLACES:
        places = [at + len(mark) for mark in marks if (at := text.rfind(mark, low, high)) >= 0]
        if places:
            return max(places)
    return high


def _parts(text: str, line: int, limit: int) -> Iterator[tuple[int, str, bool]]:
    parts = cut_text(text, limit)
    for number, part in enumerate(parts, 1):
        yield line, part, number < len(parts)
        line += part.count("\n")
