"""CSV, TSV and their like: any delimiter, quoted fields, line breaks inside quotes."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from rebus.data.readers.rows import Row, table_of
from rebus.data.readers.source import Source
from rebus.data.table import Table
from rebus.errors import DataError

CANDIDATES = (",", "\t", ";", "|")
_OTHERS = "\x01\x1f^~:!"  # delimiters that are looked for only to tell of them
_SAMPLE = 1 << 16
_SEP = re.compile(r"\s*\"?sep=(\\t|[^\r\n])\"?[,;\t|]*[ ]*(?:\r\n|\r|\n)", re.I)
_LINE_END = re.compile(r"\r\n|\r|\n")
_SPACED = re.compile(r"(?:^|[,;|])[ ]+\"", re.M)


def read_delimited(source: Source) -> Table:
    """Read a table whose first line names the columns.

    A line ``sep=;`` above it, as Excel writes, is obeyed. A field stays the text that it is; an empty one becomes None.

    Raises:
        DataError: no header, no rows, a row with too many or too few fields, an unclosed quote; the line is named.
    """
    text = _without_marks(source, source.read_text())
    wording, skipped = separator_line(text)
    if wording is not None:
        source.notes.append(f"{source.name}: its first line, sep={wording!r}, says what divides the fields")
    lines = len(_LINE_END.findall(text[:skipped]))
    delimiter = _chosen(source, text[skipped:], wording)
    rows = [(line + lines, fields) for line, fields in _parse(source, text[skipped:], delimiter, lines)]
    if not rows:
        raise DataError(source.path, "a header line and rows below it", "only blank lines", "check the export")
    if all(len(fields) == 1 for _, fields in rows):
        _refuse_other_delimiter(source, rows)
    return table_of(source, rows, f"divided by {delimiter!r}")


def separator_line(text: str) -> tuple[str | None, int]:
    """The delimiter that a first line such as ``sep=;`` names, and where the text goes on behind it."""
    match = _SEP.match(text)
    if match is None:
        return None, 0
    return {"\\t": "\t"}.get(match[1], match[1]), match.end()


def _without_marks(source: Source, text: str) -> str:
    """The text without byte-order marks at the beginnings of lines, which files put end to end have."""
    marks = text.count("\n\ufeff") + text.count("\r\ufeff")
    if not marks:
        return text
    source.warnings.append(f"{source.name}: {marks} byte-order marks inside the file are left out")
    return text.replace("\n\ufeff", "\n").replace("\r\ufeff", "\r")


def sniff_delimiter(text: str, preferred: str = ",") -> str:
    """The delimiter under which the first records have the same number of fields, more than one.

    Args:
        text: the beginning of a file.
        preferred: wins a tie, and is the answer when no candidate divides the records.
    """
    return _scores(text, preferred)[0][1]


def _scores(text: str, preferred: str) -> list[tuple[tuple[float, int], str]]:
    """For each delimiter the share of records with the usual number of fields, and that number; the best first."""
    cut = len(text) > _SAMPLE
    scores = []
    for candidate in sorted(CANDIDATES, key=lambda mark: mark != preferred):
        records = [row for row in _lenient(text[:_SAMPLE], candidate, 200) if row]
        if cut and len(records) > 2:
            records.pop()  # the sample ends inside it
        widths = Counter(map(len, records))
        width = len(records[0]) if records else 0
        if width < 2 and widths:  # a title or a comment may stand above
            width = max(widths, key=lambda item: (widths[item], item))
        score = (widths[width] / len(records), width) if width > 1 else (0.0, 0)
        scores.append((score, candidate))
    return sorted(scores, key=lambda pair: pair[0], reverse=True)


def _chosen(source: Source, text: str, wording: str | None) -> str:
    ending = {".tsv": "\t", ".tab": "\t", ".psv": "|"}.get(source.path.suffix.lower())
    named = source.data.delimiter or wording
    best, second = _scores(text, ending or ",")[:2]
    if named is None:
        if ending is None and second[0][0] == best[0][0] == 1.0 and second[0][1] > 1:
            line = _LINE_END.split(text.lstrip("\r\n"))[0][:60]
            raise DataError(
                f"{source.name}, line 1",
                "one delimiter that divides all lines alike",
                f"two: {best[1]!r} gives {best[0][1]} columns, {second[1]!r} gives {second[0][1]} ('{line}')",
                f"choose with --set data.delimiter='{best[1]}' (or '{second[1]}')",
            )
        return best[1]
    named = {"\\t": "\t", "tab": "\t"}.get(named, named)
    if len(named) != 1 or named in '"\r\n':
        raise DataError("data.delimiter", "one character", repr(named), "use e.g. --set data.delimiter=';' or tab")
    first = next(_lenient(text[:_SAMPLE], named, 1), [])
    sniffed = best[1]
    if len(first) == 1 and sniffed != named and sniffed in first[0]:
        raise DataError(
            f"{source.name}, line 1",
            f"columns divided by {named!r}",
            f"one column, while {sniffed!r} divides it into {first[0].count(sniffed) + 1}",
            f"set data.delimiter to {sniffed!r}" if wording else f"leave out data.delimiter or set it to {sniffed!r}",
        )
    return named


def _refuse_other_delimiter(source: Source, rows: list[Row]) -> None:
    """An error where a table of one column is divided alike in all rows by a mark that is no usual delimiter."""
    for mark in _OTHERS:
        counts = {fields[0].count(mark) for _, fields in rows}
        if len(rows) > 2 and len(counts) == 1 and counts != {0}:
            raise DataError(
                f"{source.name}, line {rows[0][0]}",
                "columns divided by one of , ; | and tab",
                f"one column, while {mark!r} divides each line into {counts.pop() + 1}",
                f"set data.delimiter to {mark!r} if it is the delimiter, or rename the column",
            )


def _lenient(text: str, delimiter: str, most: int) -> Iterator[list[str]]:
    csv.field_size_limit(sys.maxsize)  # images written as base64 pass csv's default of 128 KiB
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for _, row in zip(range(most), reader, strict=False):
            yield row
    except csv.Error:
        return


def _parse(source: Source, text: str, delimiter: str, lines: int) -> list[Row]:
    """All rows. Quotes are doubled inside quotes; two other ways are taken where they alone give even rows."""
    try:
        rows = _records(text, delimiter)
        wrong: _QuoteError | None = None
    except _QuoteError as error:
        rows, wrong = [], error
    if _SPACED.search(text) and (not _even(rows) or _quotes_left(rows)):
        spaced = _attempt(text, delimiter, skipinitialspace=True)
        if _even(spaced) and not _quotes_left(spaced):
            source.notes.append(f"{source.name}: blanks between delimiters and quotes are left out")
            return spaced
    if wrong is None:
        return rows
    if delimiter == "\t":  # tab-separated exports often do not quote at all, and use quotes as letters
        plain = _attempt(text, delimiter, quoting=csv.QUOTE_NONE)
        if _even(plain):
            return plain
    if '\\"' in text:  # as MySQL and others escape quotes
        escaped = _attempt(text, delimiter, escapechar="\\", doublequote=False)
        if _even(escaped):
            source.notes.append(f'{source.name}: \\" inside quotes is read as a quote')
            return escaped
    raise DataError(
        f"{source.name}, line {wrong.line + lines}",
        "fields whose quotes are closed and doubled inside",
        f"a quote that breaks this rule ({wrong.told})",
        "correct the quotes of the row that begins there",
    ) from wrong


def _attempt(text: str, delimiter: str, **dialect: Any) -> list[Row]:
    try:
        return _records(text, delimiter, **dialect)
    except _QuoteError:
        return []


def _even(rows: list[Row]) -> bool:
    return len({len(fields) for _, fields in rows}) == 1


def _quotes_left(rows: list[Row]) -> bool:
    return any(field.startswith(' "') for _, fields in rows for field in fields)


class _QuoteError(Exception):
    def __init__(self, line: int, told: str) -> None:
        super().__init__(told)
        self.line, self.told = line, told


def _records(text: str, delimiter: str, **dialect: Any) -> list[Row]:
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, **dialect)
    rows: list[Row] = []
    before = 0
    try:
        for fields in reader:
            if fields:
                rows.append((before + 1, fields))
            before = reader.line_num
    except csv.Error as error:
        raise _QuoteError(before + 1, str(error)) from error
    return rows
