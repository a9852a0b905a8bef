"""Every error a user can meet, one tree.

    RebusError                 a user's mistake, told in four parts; the command line exits with status 2
    ├── DataError              a table, its columns or its rows
    │   ├── ImageError       an image that cannot be read safely
    │   │   └── ImageSizeError   an image with more pixels, or a longer side, than is read
    │   └── TextLengthError    a text with more tokens than the model reads
    ├── RecipeError            a setting that does not exist or does not fit
    ├── RunError               a Run folder that is missing, half written, full or locked
    │   └── WeightsError       weights of another shape, missing or extra tensors
    ├── TrainingError          a run that cannot go on (the loss is not finite, no step fits)
    ├── StudioError            what a page of the Studio refuses
    ├── EngineClosedError      a request to an engine that writes no more
    ├── QueueFullError         a request too many; says after how many seconds to ask again
    └── MissingPackageError    an optional library that is not installed; says the exact pip line

Every error has the same four parts, so that a message can be acted on without reading any code:
where it happened, what was expected, what was found, and what to do.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from rebus.catalogue import Note, rendered, translate_list

_NO_MEMORY = ("not enough memory", "can't allocate memory", "cannot allocate memory", "out of memory")


class RebusError(ValueError):
    """A user's mistake, in one paragraph of four parts.

    Args:
        where: the file, row, column or setting, e.g. ``pets.csv, row 12, column 'image'``.
        expected: what would have been right.
        found: what was there instead.
        do: the next thing to do about it.
    """

    exit_code = 2
    key = ""
    arguments: Mapping[str, Any] = {}

    def __init__(self, where: str | Path, expected: str, found: str, do: str) -> None:
        self._parts = (where, expected, found, do)
        self.where, self.expected, self.found, self.do = str(where), expected, found, do
        super().__init__(f"{self.where}: expected {expected}; found {found}. What to do: {do}")

    @classmethod
    def of(cls, key: str, *more: Any, **arguments: Any) -> Self:
        """An error whose four parts are a text of the catalogue, so that it can be told in every language.

        Args:
            key: of the text, a list of where, expected, received and what to do.
            more: what else the class takes.
            arguments: for the gaps of the text.
        """
        error = cls(*translate_list(key, "en", **arguments), *more)
        error.key, error.arguments = key, arguments
        return error

    def parts(self, lang: str) -> list[str]:
        """The four parts in a language, as far as the catalogue has them; what it does not have stays English."""
        if self.key:
            return translate_list(self.key, lang, **self.arguments)
        return [rendered(part, lang) for part in self._parts]

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), str(self), self.__dict__)

    def at(self, where: str) -> Self:
        """The same error, told of another place."""
        error = copy.copy(self)
        if "where" in self.arguments:
            error.arguments = {**self.arguments, "where": where}
        else:
            error.key = ""
        RebusError.__init__(error, where, *self._parts[1:])
        return error

    def as_dict(self) -> dict[str, str]:
        """The four parts under the keys ``where``, ``expected``, ``found`` and ``do``."""
        return {"where": self.where, "expected": self.expected, "found": self.found, "do": self.do}


def _restored(kind: type[RebusError], message: str, state: dict[str, Any]) -> RebusError:
    error = kind.__new__(kind, message)
    error.__dict__.update(state)
    return error


class DataError(RebusError):
    """Something is wrong with a table, its columns or its rows."""


class ImageError(DataError):
    """An image is missing, broken, too large or of a kind that is not read."""


class ImageSizeError(ImageError):
    """An image's header promises more pixels, or a longer side, than is read.

    Args:
        where, expected, found, do: as of every error.
        width: in pixels.
        height: likewise.
    """

    def __init__(self, where: str | Path, expected: str, found: str, do: str, width: int, height: int) -> None:
        super().__init__(where, expected, found, do)
        self.width, self.height = width, height


class TextLengthError(DataError):
    """A text has more tokens than the model reads.

    Args:
        where: the text's place.
        tokens: it has.
        most: tokens that are read.
        text: the text.
    """

    def __init__(self, where: str | Path, tokens: int, most: int, text: str = "") -> None:
        self.key, self.arguments = "problem.text_length", {"where": where, "tokens": tokens, "most": most}
        super().__init__(*translate_list(self.key, "en", **self.arguments))
        self.tokens, self.most, self.text = tokens, most, text


class RecipeError(RebusError):
    """A setting does not exist or does not fit the data or the model."""


class RunError(RebusError):
    """A Run folder is missing, half written, locked, or the disk is full."""


class WeightsError(RunError):
    """Weights do not fit the model: other shapes, missing or extra tensors."""


class TrainingError(RebusError):
    """A run cannot go on."""


class StudioError(RebusError):
    """What a page of the Studio refuses."""


class EngineClosedError(RebusError):
    """The engine is being stopped: it takes no more requests, and could not finish this one."""


class QueueFullError(RebusError):
    """There are too many requests already.

    Args:
        retry_after: seconds after which there is probably room.
    """

    def __init__(self, where: str | Path, expected: str, found: str, do: str, retry_after: float = 1.0) -> None:
        super().__init__(where, expected, found, do)
        self.retry_after = retry_after


class MissingPackageError(RebusError):
    """An optional library is not installed."""

    def __init__(self, package: str, extra: str, what_for: str, of: str = "rebus-vlm") -> None:
        self.key = "problem.package"
        self.arguments = {"where": what_for, "package": package, "extra": extra, "of": of}
        super().__init__(*translate_list(self.key, "en", **self.arguments))


@contextmanager
def reachable(where: str | Path) -> Iterator[None]:
    """Say that the system refuses a path (too long a name, no permission), where it does inside. Raises RunError."""
    try:
        yield
    except OSError as error:
        raise RunError.of("problem.unreachable", where=str(where), why=error.strerror or str(error)) from error


@contextmanager
def enough_memory(what: str) -> Iterator[None]:
    """Say that memory ran out, where it does inside. Raises RunError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error).lower()
        if not isinstance(error, MemoryError) and not any(sign in text for sign in _NO_MEMORY):
            raise
        raise RunError.of("problem.memory", where=what) from error


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: ``did you mean 'lr'?`` or the list of what exists."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return Note("hint.did_you_mean", name=close[0])
    return Note("hint.there_are", names=names) if names else Note("hint.none")
