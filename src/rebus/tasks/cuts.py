"""Texts with more tokens than a model reads: refused or counted where they are cut, never cut in silence.

Every place that cuts a text cuts it by ``cut``. Whoever predicts for somebody says what is to happen then, for the
length of a block: ``refusing`` where one text is asked about, ``counting`` where there are many. The outermost block
decides. Training does neither: its rows are counted once, before it begins (``Task.notes``).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

from rebus.catalogue import Note
from rebus.errors import TextLengthError

Watch = Callable[[str, int, int], None]  # the text, its tokens, the most that are read
_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)


def cut(ids: Sequence[int], most: int, text: str, keep: Literal["start", "end"]) -> list[int]:
    """At most ``most`` ids of a text: its start, or its end where the question stands there.

    Raises:
        TextLengthError: there are more, within ``refusing``.
    """
    if len(ids) <= most:
        return list(ids)
    report(text, len(ids), most)
    return list(ids[:most]) if keep == "start" else list(ids[len(ids) - most :])


def report(text: str, tokens: int, most: int) -> None:
    """Say that a text is cut. Raises TextLengthError within ``refusing``."""
    watch = _watch.get()
    if watch is not None:
        watch(text, tokens, most)


@contextmanager
def refusing(where: str = "the text") -> Iterator[None]:
    """A text that would be cut in this block raises TextLengthError."""

    def refuse(text: str, tokens: int, most: int) -> None:
        raise TextLengthError(where, tokens, most, text)

    with _watched(refuse):
        yield


@dataclass
class Cuts:
    """What was cut.

    Attributes:
        texts: hashes of the texts.
        longest: tokens of the longest.
        most: tokens that are read.
    """

    texts: set[int] = field(default_factory=set)
    longest: int = 0
    most: int = 0

    @property
    def note(self) -> str:
        """One sentence; empty where nothing was cut."""
        if not self.texts:
            return ""
        key = "remark.cut" if len(self.texts) == 1 else "remark.cuts"
        return Note(key, count=len(self.texts), longest=self.longest, most=self.most)

    def __str__(self) -> str:
        return str(self.note)


class CutWarning(UserWarning):
    """A text was cut."""


@contextmanager
def counting() -> Iterator[Cuts]:
    """Texts that are cut in this block are counted."""
    cuts = Cuts()

    def count(text: str, tokens: int, most: int) -> None:
        cuts.texts.add(hash(text))
        cuts.longest, cuts.most = max(cuts.longest, tokens), most

    with _watched(count):
        yield cuts


@contextmanager
def warning() -> Iterator[None]:
    """Texts that are cut in this block are told by a CutWarning at its end."""
    with counting() as result:
        yield
    if result.texts:
        warnings.warn(str(result), CutWarning, stacklevel=4)


@contextmanager
def _watched(watch: Watch) -> Iterator[None]:
    token = _watch.set(_watch.get() or watch)
    try:
        yield
    finally:
        _watch.reset(token)
