"""What a reader is handed: one file, and how the recipe says to read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rebus.data.encodings import decode_text
from rebus.data.unused import Unused
from rebus.errors import DataError
from rebus.recipe import Data


@dataclass(frozen=True)
class Source:
    """One file.

    Attributes:
        path: the file.
        data: the recipe's section: delimiter, encoding, what to do with a broken row.
        notes: what the reader found out, for ``Table.notes``.
        warnings: where the reader may be wrong or left something out, for ``Table.warnings``.
        unused: what the reader passes over, for ``Table.unused``.
    """

    path: Path
    data: Data
    notes: list[str] = field(default_factory=list)
    unused: Unused = field(default_factory=Unused)
    warnings: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What messages call the file."""
        return self.path.name

    @property
    def skip_bad(self) -> bool:
        """Whether broken rows are left out and counted."""
        return self.data.on_bad == "skip"

    def read_bytes(self) -> bytes:
        """The whole file. Raises DataError when it is empty or cannot be read."""
        try:
            content = self.path.read_bytes()
        except OSError as error:
            why = error.strerror or str(error)
            raise DataError.of("problem.table_unreadable", where=str(self.path), why=why) from error
        if not content:
            raise DataError.of("problem.table_empty", where=str(self.path))
        return content

    def read_text(self) -> str:
        """The whole file as text. Raises DataError when it is empty or not text."""
        text, encoding = decode_text(self.read_bytes(), self.name, self.data.encoding)
        if wording := encoding.said():
            self.notes.append(f"{self.name}: {wording} (another encoding: --set data.encoding=NAME)")
        if not text.strip():
            raise DataError.of("problem.table_blank", where=str(self.path))
        return text
