"""Readers: how texts become ids for a text tower that does not read the tokenizer's pieces.

Readers come from other packages (entry points ``rebus.readers``); plugins/rebus-words has one that reads words.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from pydantic import ValidationError

from rebus.errors import RecipeError
from rebus.recipe import Section
from rebus.registry import Registry
from rebus.text.offsets import Offset
from rebus.text.words import Segment

S = TypeVar("S", bound=Section)


class TextReader(ABC):
    """Ids for a text tower.

    Attributes:
        options: the class of the recipe's ``text.options``.
        words: the name of each id.
        pad_id: fills texts up.
        unknown_id: stands for what was not learned.
    """

    options: ClassVar[type[Section]] = Section
    words: list[str]
    pad_id: int
    unknown_id: int

    @classmethod
    @abstractmethod
    def fit(cls, texts: Iterable[str], segment: Segment, options: Any) -> Self:
        """Learn from the training rows' texts; ``segment``: how Chinese is cut; ``options``: of ``cls.options``."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote. Raises RunError where it is missing or broken."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write files into a Run. Raises RunError where it cannot be written."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The ids of a text; [] for one that holds nothing to read."""

    @abstractmethod
    def encode_with_offsets(self, text: str) -> tuple[list[int], list[Offset]]:
        """``encode``, and where in the text each id came from, (start, end) in characters."""

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """Ids as a text for people."""

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        return len(self.words)

    def start(
        self,
        tower: Any,
        options: Any,
        file: str | None,
        texts: Callable[[], Sequence[str]],
        seed: int,
        log: Callable[[str], None],
    ) -> None:
        """Change a fresh tower in place, where the reader knows what it should start from.

        Args:
            tower: the text tower.
            options: of ``cls.options``.
            file: the recipe's ``text.file``.
            texts: of the training rows.
            seed: the recipe's.
            log: prints a line for people.
        """
        if file is not None:
            raise RecipeError("text.file", "nothing, as the text reader starts from none", f"'{file}'", "leave it out")


READERS: Registry[type[TextReader]] = Registry("reader")


def read_options(kind: type[S], options: Mapping[str, Any], where: str) -> S:
    """Options of a part from another package as its own class has them.

    Raises:
        RecipeError: one does not exist, or its value does not fit.
    """
    try:
        return kind.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        do = f"options there are: {', '.join(kind.model_fields) or 'none'}"
        raise RecipeError(f"{where}.{name}", first["msg"], repr(first["input"])[:60], do) from error
