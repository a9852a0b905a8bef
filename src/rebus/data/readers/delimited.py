"""CSV, TSV and their like: any delimiter, quoted fields, line breaks inside quotes."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from rebus.data.columns import arrow_table
from rebus.data.lists import parse_column
from rebus.data.readers.source import Source
from rebus.data.table import Places, Table
from rebus.errors import DataError

CANDIDATES = (",", "\t", ";", "|")
_SAMPLE = 1 << 16
_NUMBER = re.compile(
    r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?|[+-]?(?:nan|inf(?:inity)?)", re.ASCII | re.I
)
_PICTURE_NAME = re.compile(r".+\.(?:png|jpe?g|webp|gif|bmp|tiff?)", re.I)
_Row = tuple[int, list[str]]  # the line it begins on, its fields


def read_delimited(source: Source) -> Table:
    """Read a table whose first line names the columns.

    A field stays the text that it is, whatever it looks like; an empty one becomes None.

    Raises:
        DataError: no header, no rows, a row with too many or too few fields, an unclosed quote; the line is named.
    """
    text = source.read_text()
    delimiter = _chosen(source, text)
    header, rows = _parse(source, text, delimiter)
    names = _names(source, header, delimiter)
    kept, skipped = _rectangular(source, rows, len(names), delimiter)
    if not kept and not skipped:
        raise DataError(
            source.path, "a header line and rows below it", "only the header", "add rows, or check the export"
        )
    numbers = np.array([line for line, _ in kept], dtype=np.int64)
    places = Places((source.name,), "line", numbers=numbers)
    columns = list(zip(*(fields for _, fields in kept), strict=True)) or [() for _ in names]
    arrow = arrow_table(
        {name: _cells(source, name, values) for name, values in zip(names, columns, strict=True)},
        places.where,
        source.name,
    )
    return Table(arrow, source.path.parent, places, name=source.name, skipped=skipped)


def sniff_delimiter(text: str, preferred: str = ",") -> str:
    """The delimiter under which the first records have the same number of fields, more than one.

    Args:
        text: the beginning of a file.
        preferred: wins a tie, and is the answer when no candidate divides the header.
    """
    cut = len(text) > _SAMPLE
    best, best_score = preferred, (0.0, 0)
    for candidate in sorted(CANDIDATES, key=lambda mark: mark != preferred):
        records = [row for row in _lenient(text[:_SAMPLE], candidate, 200) if row]
        if cut and len(records) > 2:
            records.pop()  # the sample ends inside it
        width = len(records[0]) if records else 0
        if width < 2:
            continue
        even = sum(len(row) == width for row in records) / len(records)
        if (even, width) > best_score:
            best, best_score = candidate, (even, width)
    return best


def _chosen(source: Source, text: str) -> str:
    named = source.data.delimiter
    preferred = {".tsv": "\t", ".tab": "\t", ".psv": "|"}.get(source.path.suffix.lower(), ",")
    if named is None:
        return sniff_delimiter(text, preferred)
    named = {"\\t": "\t", "tab": "\t"}.get(named, named)
    if len(named) != 1 or named in '"\r\n':
        raise DataError("data.delimiter", "one character", repr(named), "use e.g. --set data.delimiter=';' or tab")
    first = next(_lenient(text[:_SAMPLE], named, 1), [])
    sniffed = sniff_delimiter(text, preferred)
    if len(first) == 1 and sniffed != named and sniffed in first[0]:
        raise DataError(
            f"{source.name}, line 1",
            f"columns divided by {named!r}",
            f"one column, while {sniffed!r} divides it into {first[0].count(sniffed) + 1}",
            f"leave out data.delimiter or set it to {sniffed!r}",
        )
    return named


def _lenient(text: str, delimiter: str, most: int) -> Iterator[list[str]]:
    csv.field_size_limit(sys.maxsize)  # pictures written as base64 pass csv's default of 128 KiB
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for _, row in zip(range(most), reader, strict=False):
            yield row
    except csv.Error:
        return


def _parse(source: Source, text: str, delimiter: str) -> tuple[list[str], list[_Row]]:
    try:
        rows = _records(text, delimiter, csv.QUOTE_MINIMAL)
    except _QuoteError as error:
        if delimiter == "\t":  # tab-separated exports often do not quote at all, and use quotes as letters
            plain = _records(text, delimiter, csv.QUOTE_NONE)
            if len({len(fields) for _, fields in plain}) == 1:
                return plain[0][1], plain[1:]
        raise DataError(
            f"{source.name}, line {error.line}",
            "fields whose quotes are closed and doubled inside",
            f"a quote that breaks this rule ({error.told})",
            "correct the quotes of the row that begins there",
        ) from error
    return rows[0][1], rows[1:]


class _QuoteError(Exception):
    def __init__(self, line: int, told: str) -> None:
        super().__init__(told)
        self.line, self.told = line, told


def _records(text: str, delimiter: str, quoting: Any) -> list[_Row]:
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    rows: list[_Row] = []
    before = 0
    try:
        for fields in reader:
            if fields:
                rows.append((before + 1, fields))
            before = reader.line_num
    except csv.Error as error:
        raise _QuoteError(before + 1, str(error)) from error
    return rows


def _names(source: Source, header: list[str], delimiter: str) -> list[str]:
    stripped = [name.strip() for name in header]
    where = f"{source.name}, line 1"
    if any(_PICTURE_NAME.fullmatch(name) for name in stripped) or _only_numbers(stripped):
        raise DataError(
            where, "names of columns", f"'{delimiter.join(stripped)[:80]}'", "add a first line that names the columns"
        )
    names = [name or f"column_{i + 1}" for i, name in enumerate(stripped)]
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise DataError(where, "a different name for each column", f"'{twice}' twice", "rename one of them")
    if not any(stripped):
        raise DataError(where, "names of columns", "only empty ones", "add a first line that names the columns")
    return names


def _only_numbers(names: list[str]) -> bool:
    numbered = [str(i) for i in range(len(names))]  # what pandas writes for columns without names
    return all(_NUMBER.fullmatch(name) for name in names) and names != numbered


def _rectangular(source: Source, rows: list[_Row], width: int, delimiter: str) -> tuple[list[_Row], list[DataError]]:
    kept: list[_Row] = []
    skipped: list[DataError] = []
    for line, fields in rows:
        if len(fields) == width:
            kept.append((line, fields))
            continue
        error = DataError(
            f"{source.name}, line {line}",
            f"{width} fields divided by {delimiter!r}, as in the header",
            f"{len(fields)}",
            "quote fields that hold the delimiter, or leave the row out with --set data.on_bad=skip",
        )
        if not source.skip_bad:
            raise error
        skipped.append(error)
    return kept, skipped


def _cells(source: Source, name: str, values: tuple[str, ...]) -> list[str | None]:
    problem = parse_column(values)[1]
    if problem:
        source.warnings.append(f"column '{name}': {problem}")
    return [value or None for value in values]
