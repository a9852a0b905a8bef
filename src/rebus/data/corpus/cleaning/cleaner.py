"""One document made clean or left out, with the reason; and the report that counts both.

What needs the documents before it (the same one, nearly the same one) is decided where they are put in order. Here are
the steps that know one document only, so that several processes can take them.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rebus.catalogue import Note
from rebus.data.corpus.cleaning.languages import check_languages, language_of
from rebus.data.corpus.cleaning.near import Signature, key_of_text, signature
from rebus.data.corpus.cleaning.scrub import SCRUBBERS
from rebus.data.corpus.reading.documents import Document
from rebus.data.corpus.reading.streams import BAD
from rebus.recipe import Clean
from rebus.text.normalise import clean as whole_characters

_FULL_WIDTH = re.compile("([！（），：；？～…]+)")
_EXAMPLES, _NAMES, _SHOWN = 3, 20, 60
REASONS = {
    "undecodable": "bytes that are not text in the file's encoding",
    "binary file": "no text at all",
    "uncertain encoding": "text in two encodings, about as likely; name the right one with data.encoding",
    "no column": "a table of the folder without corpus.column",
    "bad row": "a row that cannot be read",
    "empty": "no text",
    "short": "shorter than corpus.clean.min_chars",
    "long": "longer than corpus.clean.max_chars",
    "language": "another language than corpus.clean.languages",
    "same": "the same text as an earlier document",
    "nearly the same": "nearly the same text as an earlier document",
}


@dataclass(slots=True)
class Cleaned:
    """What became of a document.

    Attributes:
        text: made clean; "" where it is left out.
        reason: why it is left out, a key of ``REASONS``; "": it is kept.
        changed: what was changed: how many.
        key: hash of the text, where the same ones are left out.
        signature: its MinHash, where nearly the same ones are left out.
    """

    text: str
    reason: str = ""
    changed: Mapping[str, int] = field(default_factory=dict)
    key: int = 0
    signature: Signature | None = None


class Cleaner:
    """Cleans documents as the recipe says.

    Args:
        settings: ``corpus.clean``.

    Raises:
        RecipeError: a language or a scrubber is not known.
        MissingPackageError: a library that a setting needs is not installed.
    """

    def __init__(self, settings: Clean) -> None:
        self.settings = settings
        if settings.languages:
            check_languages(settings.languages)
        if settings.near:
            signature("")  # a missing library is told before any work
        names = [*(["pii"] if settings.pii else []), *settings.scrubbers]
        self._scrubbers = [SCRUBBERS.get(name) for name in dict.fromkeys(names)]

    def rewrite(self, text: str) -> tuple[str, dict[str, int]]:
        """The text with its characters made plain and personal data replaced, and what was changed: how many."""
        changed: Counter[str] = Counter()
        text = whole_characters(text)
        if self.settings.nfkc:
            plain = nfkc(text, self.settings.full_width)
            changed["nfkc"] += plain != text
            text = plain
        for scrub in self._scrubbers:
            text, result = scrub(text)
            changed.update(result)
        return text, {name: count for name, count in changed.items() if count}

    def __call__(self, document: Document) -> Cleaned:
        """What becomes of a document, as far as it can be said without the others."""
        if document.problem:
            return Cleaned("", document.problem)
        if BAD in document.text:
            return Cleaned("", "undecodable")
        settings, whole = self.settings, document.begins and not document.more
        text, changed = self.rewrite(document.text)
        if whole:
            text = text.strip()
        if not text.strip():
            return Cleaned("", "empty")
        if whole and len(text) < settings.min_chars:
            return Cleaned("", "short")
        if settings.max_chars is not None and (not whole or len(text) > settings.max_chars):
            return Cleaned("", "long")
        if settings.languages:
            code = language_of(text)
            if code is None:
                changed["language not certain"] = 1
            elif code not in settings.languages:
                return Cleaned("", "language")
        key = key_of_text(text) if settings.exact else 0
        return Cleaned(text, "", changed, key, signature(text) if settings.near else None)


def nfkc(text: str, full_width: bool = True) -> str:
    """Unicode NFKC: full-width letters and digits, ligatures and the like become plain; line ends stay.

    Args:
        text: any text.
        full_width: keep the marks that Chinese is written with (，！？：；（）～…), which NFKC would turn into ASCII: a
            model trained on the result would write Chinese with English commas.
    """
    if text.isascii():
        return text
    if not full_width:
        return unicodedata.normalize("NFKC", text)
    parts = _FULL_WIDTH.split(text)
    parts[::2] = [unicodedata.normalize("NFKC", part) for part in parts[::2]]
    return "".join(parts)


@dataclass
class CleaningReport:
    """What was read, kept, left out and changed.

    Attributes:
        read: documents read; a part of a long one that goes on with it is not counted again.
        read_characters: of them.
        kept: documents kept.
        kept_characters, kept_bytes: of the text that was kept, bytes in UTF-8.
        left_out: reason: documents (or parts of long ones).
        changed: what: how many.
        examples: reason: the first few, as "where: beginning".
        passed_over: files of the folder that were not read: (name, why).
    """

    read: int = 0
    read_characters: int = 0
    kept: int = 0
    kept_characters: int = 0
    kept_bytes: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    passed_over: list[list[str]] = field(default_factory=list)

    def see(self, document: Document, characters: int) -> None:
        """Count a document that was read, of so many characters."""
        self.read += document.begins
        self.read_characters += characters

    def leave_out(self, document: Document, reason: str) -> None:
        """Count a document that is left out."""
        self.left_out[reason] = self.left_out.get(reason, 0) + 1
        shown = self.examples.setdefault(reason, [])
        if len(shown) < (_NAMES if reason in ("binary file", "no column") else _EXAMPLES):
            beginning = " ".join(document.text[: 4 * _SHOWN].replace(BAD, "\ufffd").split())[:_SHOWN]
            shown.append(f"{document.where}: {whole_characters(beginning)}" if beginning else document.where)

    def keep(self, document: Document, changed: Mapping[str, int]) -> None:
        """Count a document that is kept."""
        self.kept += document.begins
        for name, count in changed.items():
            self.changed[name] = self.changed.get(name, 0) + count

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; ``CleaningReport(**these)`` is the report again."""
        return dataclasses.asdict(self)

    def lines(self) -> list[str]:
        """The report in words, a line a fact."""
        facts = {"documents": self.read, "characters": self.read_characters, "kept": self.kept}
        bytes_ = {"kept_characters": self.kept_characters, "kept_bytes": self.kept_bytes}
        lines: list[str] = [Note("corpus.read", **facts, **bytes_)]
        for reason, count in sorted(self.left_out.items(), key=lambda item: -item[1]):
            lines.append(Note("corpus.left_out", name=reason, count=count, why=REASONS.get(reason, reason)))
            lines += [f"    {example}" for example in self.examples.get(reason, [])]
        lines += [Note("corpus.changed", name=name, count=count) for name, count in sorted(self.changed.items())]
        if self.passed_over:
            shown = ", ".join(f"{name} ({why})" for name, why in self.passed_over[:5])
            more = f" and {len(self.passed_over) - 5:,} more" if len(self.passed_over) > 5 else ""
            lines.append(Note("corpus.passed_over", count=len(self.passed_over), files=shown, more=more))
        return lines
