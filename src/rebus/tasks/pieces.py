"""From the ids that a model reads or writes to pieces of text that people can read.

It knows no model: ids and offsets in, characters out. An offset is (start, end) in characters of the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from rebus.tasks.metrics.words import has_cjk
from rebus.text.offsets import Offset
from rebus.text.tokenizer import Tokenizer

Places = list[Offset | None]  # where each id of a row stands in the text; None: it is not of the text
_INSIDE = "'\u2019"  # signs that stand inside words


@dataclass(frozen=True)
class Unit:
    """A readable piece: a word, a sign, or what one token holds of a script without spaces.

    Attributes:
        start, end: where it stands in the text.
        members: for each stream of ids, the places of its ids.
    """

    start: int
    end: int
    members: dict[str, tuple[int, ...]]


def located(ids: Sequence[int], wanted: Sequence[int], offsets: Sequence[Offset], shift: int = 0) -> Places:
    """Where ids that hold a text among other things have it: for each id its offset plus ``shift``, or None.

    Args:
        ids: a prompt, with what a template puts around its texts.
        wanted: ids of the text alone; its beginning or its end may be cut off in the prompt.
        offsets: of ``wanted``.
        shift: of the text in a longer one.
    """
    places: Places = [None] * len(ids)
    matcher = SequenceMatcher(None, list(ids), list(wanted), autojunk=False)
    for first, second, size in matcher.get_matching_blocks():
        for step in range(size):
            start, end = offsets[second + step]
            places[first + step] = (start + shift, end + shift)
    return places


def written_places(tokenizer: Tokenizer, ids: Sequence[int]) -> tuple[str, list[Offset]]:
    """The text of ids that were written, and where in it each id stands; the bytes of one character share its place."""
    stream, text = tokenizer.stream(), ""
    places: list[Offset] = []
    waiting = 0  # ids since the last whole character
    for number, id in enumerate(ids):
        piece = stream.push(id)
        if number == len(ids) - 1:
            piece += stream.finish()
        waiting += 1
        if piece:
            places += [(len(text), len(text) + len(piece))] * waiting
            text, waiting = text + piece, 0
    return text, places + [(len(text), len(text))] * waiting


def units_of_text(text: str, streams: dict[str, Places]) -> list[Unit]:
    """Readable pieces of a text that one or several streams of ids hold, in their order.

    Pieces that share a character are one, as are neighbours inside a word of letters; spaces around them are left off.
    """
    result: list[tuple[int, int, str, int]] = []
    for name, places in streams.items():
        for place, offset in enumerate(places):
            if offset is None:
                continue
            start, end = offset
            while start < end and text[start].isspace():
                start += 1
            while end > start and text[end - 1].isspace():
                end -= 1
            if end > start:
                result.append((start, end, name, place))
    result.sort(key=lambda item: item[:2])
    units: list[Unit] = []
    for start, end, name, place in result:
        last = units[-1] if units else None
        if last is not None and (start < last.end or (start == last.end and _one_word(text, start))):
            members = {**last.members, name: (*last.members.get(name, ()), place)}
            units[-1] = Unit(last.start, max(last.end, end), members)
        else:
            units.append(Unit(start, end, {name: (place,)}))
    return units


def _one_word(text: str, at: int) -> bool:
    """Whether no word ends between ``text[at - 1]`` and ``text[at]``."""
    return _letter(text[at - 1]) and _letter(text[at])


def _letter(sign: str) -> bool:
    return (sign.isalnum() or sign in _INSIDE) and not has_cjk(sign)
