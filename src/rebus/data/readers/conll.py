"""CoNLL files: a token and its tags a line, a blank line after each sentence. Rows are sentences.

Sources of the layouts: Tjong Kim Sang and De Meulder 2003, "Introduction to the CoNLL-2003 Shared Task"; Nivre et al.
2020, "Universal Dependencies v2" (CoNLL-U).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from rebus.data.readers.source import Source
from rebus.data.table import Places, Table
from rebus.data.tagging import fits, writing_of
from rebus.errors import DataError

_START = re.compile(r"-DOCSTART-(\s|$)")
_PAIR = re.compile(r"#+\s*[\w.:-]+\s*=\s")  # CoNLL-U's '# text = ...'
_NUMBER = re.compile(r"\d+(?:[-.]\d+)?")
_GAPS = re.compile(r"[ \t]+")
_BLANK = " \t\r\ufeff\u3000\xa0"
_UNIVERSAL = 10  # columns of CoNLL-U: ID FORM LEMMA UPOS ...
_LOOKED_AT = 20_000
_DO = "correct that line, or leave its sentence out with --set data.on_bad=skip"


@dataclass(frozen=True)
class _Layout:
    """Which fields of a line are what.

    Attributes:
        tabs: fields are divided by tabs, else by blanks.
        width: fields of a line.
        token: place of the token.
        tag: place of its tag; None: there is no tag.
        tags: every tag there is.
    """

    tabs: bool
    width: int
    token: int
    tag: int | None
    tags: frozenset[str]

    def fields(self, line: str) -> list[str]:
        line = line.rstrip(" \r") if self.tabs else line.strip(_BLANK)
        return line.split("\t") if self.tabs else _GAPS.split(line)


def read_conll(source: Source) -> Table:
    """Columns ``tokens`` and ``tags``, lists of words.

    Fields are divided by tabs or blanks. The token is the first field, or the second where the first counts them. Its
    tag is the last field that is not the same everywhere (CoNLL-U: the part of speech); ``data.tag_column`` names
    another. A line that begins with ``#`` is a comment only where it has not the fields of a token or ends in no tag.
    ``-DOCSTART-`` ends a sentence.

    Raises:
        DataError: a line without a tag, or with another number of fields than most (the line is named).
    """
    lines = source.read_text().replace("\r\n", "\n").replace("\r", "\n").split("\n")
    layout = _layout(source, lines)
    sentences: list[tuple[list[str], list[str]]] = []
    numbers: list[int] = []
    skipped: list[DataError] = []
    comments: list[str] = []
    passed = 0
    tokens: list[str] = []
    tags: list[str] = []
    broken: DataError | None = None
    begun = 1

    def end(number: int) -> None:
        nonlocal tokens, tags, broken, begun
        if broken is not None:
            skipped.append(broken)
        elif tokens:
            sentences.append((tokens, tags))
            numbers.append(begun)
        tokens, tags, broken, begun = [], [], None, number

    for number, line in enumerate(lines, start=1):
        if not line.strip(_BLANK) or _START.match(line):
            end(number + 1)
            continue
        fields = layout.fields(line)
        if line.startswith("#") and _is_comment(fields, layout, bool(tokens)):
            if len(fields) == layout.width and not _PAIR.match(line):
                comments.append(f"'{line.strip()[:40]}' (line {number})")
            begun = begun if tokens else number + 1
            continue
        if len(fields) != layout.width or not all(
            fields[at].strip(_BLANK) for at in (layout.token, layout.tag) if at is not None
        ):
            broken = broken or DataError(
                f"{source.name}, line {number}",
                "a token and its tag" if layout.width == 2 else f"{layout.width} fields, as most lines have",
                f"'{line.strip()[:60]}'",
                _DO,
            )
            if not source.skip_bad:
                raise broken
            continue
        if layout.token and not fields[0].isdecimal():  # 1-2 and 1.1 of CoNLL-U are no words of the sentence
            passed += 1
            continue
        tokens.append(fields[layout.token])
        if layout.tag is not None:
            tags.append(fields[layout.tag])
    end(len(lines))
    if passed:
        source.notes.append(f"{source.name}: {passed} lines of words joined or left out (1-2, 1.1) are passed over")
    if comments:
        source.warnings.append(
            f"{source.name}: {len(comments)} lines that begin with # are read as comments, since they end in no tag: "
            f"{', '.join(comments[:3])}"
        )
    places = Places((source.name,), "line", numbers=np.array(numbers, dtype=np.int64))
    words = pa.list_(pa.string())
    columns = {"tokens": pa.array([words_ for words_, _ in sentences], words)}
    if layout.tag is not None:
        columns["tags"] = pa.array([tags_ for _, tags_ in sentences], words)
    return Table(pa.table(columns), source.path.parent, places, name=source.name, skipped=skipped)


def _is_comment(fields: list[str], layout: _Layout, inside: bool) -> bool:
    """Whether a line that begins with # is a comment: it ends in no tag or, before a sentence, has other fields."""
    if len(fields) != layout.width:
        return not inside
    return layout.tag is not None and fields[layout.tag] not in layout.tags and not fits(fields[layout.tag], "prefix")


def _layout(source: Source, lines: list[str]) -> _Layout:
    """How the file is laid out, by most of its lines."""
    known = [line for line in lines[:_LOOKED_AT] if line.strip(_BLANK) and not _START.match(line) and line[0] != "#"]
    known = known or [line for line in lines[:_LOOKED_AT] if line.strip(_BLANK)]
    tabs = 2 * sum("\t" in line.strip(_BLANK) for line in known) > len(known)
    plain = _Layout(tabs, 0, 0, None, frozenset())
    rows = [plain.fields(line) for line in known]
    width = Counter(map(len, rows)).most_common(1)[0][0]
    rows = [row for row in rows if len(row) == width]
    if width >= 11 and all("/" in row[0] for row in rows[:100]):
        raise DataError(
            source.path,
            "a token and its tags a line",
            "CoNLL-2012's layout, whose tags are brackets over several lines",
            "write the words and the tags you want as two columns, e.g. B-PER, I-PER, O",
        )
    counted = width > 2 and all(_NUMBER.fullmatch(row[0]) for row in rows) and len({row[0] for row in rows}) > 1
    token = int(counted)
    if width == 1:
        return _Layout(tabs, 1, 0, None, frozenset())
    columns = {at: {row[at] for row in rows} for at in range(token + 1, width)}
    tag = _tag_column(source, columns, width, counted and width == _UNIVERSAL)
    return _Layout(tabs, width, token, tag, frozenset(columns[tag]))


def _tag_column(source: Source, columns: dict[int, set[str]], width: int, universal: bool) -> int:
    """The place of the tags; what other columns might be they is told."""
    named = source.data.tag_column
    if named is not None:
        if named - 1 not in columns:
            received = f"column {named} of {width}"
            raise DataError("data.tag_column", f"a column from {min(columns) + 1} to {width}", received, "correct it")
        return named - 1
    alike = [at for at, tags in columns.items() if writing_of(Counter(tags)).shape != "label" and len(tags) > 1]
    if universal and not alike:
        chosen = 3
    elif len(alike) > 1 and max(alike) == width - 1:
        chosen = max(alike, key=lambda at: (len(columns[at]), at))
    else:
        chosen = max(alike or [at for at, tags in columns.items() if len(tags) > 1] or [width - 1])
    if width > 2:
        source.notes.append(
            f"{source.name}: column {chosen + 1} of {width} holds the tags (another: --set data.tag_column=NUMBER)"
        )
    if len(alike) > 1:
        source.warnings.append(
            f"{source.name}: columns {', '.join(str(at + 1) for at in alike)} all look like tags of spans; "
            f"{chosen + 1} is used (another: --set data.tag_column=NUMBER)"
        )
    return chosen
