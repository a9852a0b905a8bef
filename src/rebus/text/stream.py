"""Text of ids as they come, in pieces that hold no half characters. It knows only a function that decodes ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable

_BROKEN = "\ufffd"
_KEPT = 8  # ids before the place that is decoded, since a piece may look different at the start of a text


class StreamDecoder:
    """What ``push`` gives, laid end to end and closed by ``finish``, is the text that all ids decode to at once.

    Args:
        decode: ids -> text.
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []  # a window; whole characters only at its start
        self._told = 0  # characters of the window's text that were given out

    def push(self, ids: int | Iterable[int]) -> str:
        """Take one id or several; gives the text that is now certain, perhaps none."""
        self._ids += [ids] if isinstance(ids, int) else list(ids)
        text = self._decode(self._ids)
        sure = len(text.rstrip(_BROKEN))  # a character whose last byte has not come shows as one or more of these
        piece = text[self._told : sure]
        self._told = max(self._told, sure)
        if sure == len(text) and len(self._ids) > 2 * _KEPT:
            self._shorten()
        return piece

    def finish(self) -> str:
        """The rest, with U+FFFD for a character that never became whole."""
        rest = self._decode(self._ids)[self._told :]
        self._ids, self._told = [], 0
        return rest

    def _shorten(self) -> None:
        """Forget ids at the front, if what stays decodes to the end of the same text."""
        rest = self._ids[-_KEPT:]
        whole, tail = self._decode(self._ids), self._decode(rest)
        if tail and not tail.startswith(_BROKEN) and whole.endswith(tail):
            self._ids, self._told = rest, len(tail)
