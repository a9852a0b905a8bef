"""Rows of fields, of a delimited file or a sheet, to a table: which row names the columns, what else is no data.

What is left out (titles, comments, empty rows, repeated headers) is counted and told.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from rebus.data.cells import number
from rebus.data.columns import arrow_table
from rebus.data.lists import parse_column
from rebus.data.readers.source import Source
from rebus.data.table import Places, Table
from rebus.errors import DataError

Row = tuple[int, list[str]]  # the line it begins on, its fields
_NUMBER = re.compile(
    r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?|[+-]?(?:nan|inf(?:inity)?)", re.ASCII | re.I
)
_MEASURED = re.compile(r"[+-]?[\d.,\s]*\d[\d.,\s]*%?", re.ASCII)
_UNIT = re.compile(r"[\[(]?[^\d\s]{1,3}[^\s]{0,9}[\])]?")
_IMAGE_NAME = re.compile(r".+\.(?:png|jpe?g|webp|gif|bmp|tiff?)", re.I)
_LOOKED_AT = 200
_SUMS = ("total", "totals", "grand total", "sum", "summe", "合计", "总计")
_SETTING = "say which line names the columns with --set data.header=LINE"


def table_of(source: Source, rows: list[Row], divided: str, word: str = "line") -> Table:
    """A table of rows, one of which names the columns.

    A field stays the text that it is, whatever it looks like; an empty one becomes None.

    Args:
        source: the file.
        rows: in the file's order.
        divided: what divides the fields, for messages, e.g. ``divided by ','``.
        word: what a row is in such a file.

    Raises:
        DataError: no header, no rows, a row with too many or too few fields; the line is named.
    """
    filled = [row for row in rows if any(field.strip() for field in row[1])]
    if empty := sum(len(row[1]) > 1 for row in rows) - sum(len(row[1]) > 1 for row in filled):
        source.warnings.append(f"{source.name}: {empty} empty {word}s are left out")
    at = _header(source, filled, word)
    header, body = filled[at], _without_repeats(source, filled[at], filled[at + 1 :], word)
    width = _width(source, header, body, word)
    body = [(line, fields[:width] if not any(fields[width:]) else fields) for line, fields in body]
    names = _names(source, (header[0], header[1][:width]), word, divided)
    kept, skipped = _rectangular(source, body, len(names), divided, word)
    if not kept and not skipped:
        raise DataError(
            source.path, "a header line and rows below it", "only the header", "add rows, or check the export"
        )
    columns = list(zip(*(fields for _, fields in kept), strict=True)) or [() for _ in names]
    cells = {name: _cells(source, name, values) for name, values in zip(names, columns, strict=True)}
    _warn_of_units(source, names, kept, word)
    _warn_of_no_names(source, cells, header[0], word)
    if len(kept) > 3 and (last := next(filter(None, kept[-1][1]), "").strip()).casefold() in _SUMS:
        source.warnings.append(
            f"{source.name}, {word} {kept[-1][0]}: '{last}' looks like a sum, not a row; leave it out"
        )
    places = Places((source.name,), word, numbers=np.array([line for line, _ in kept], dtype=np.int64))
    arrow = arrow_table(cells, places.where, source.name)
    return Table(arrow, source.path.parent, places, name=source.name, skipped=skipped)


def _header(source: Source, rows: list[Row], word: str) -> int:
    """The place of the row that names the columns: the first, below a title or comments."""
    if not rows:
        raise DataError(source.path, "a table", "only empty rows", "check that it was written completely")
    if (named := source.data.header) is not None:
        place = next((place for place, (line, _) in enumerate(rows) if line == named), None)
        if place is None:
            raise DataError(f"{source.name}, {word} {named}", "the names of columns", "nothing", f"correct {_SETTING}")
        return place
    usual = Counter(len(fields) for _, fields in rows[: _LOOKED_AT + 1]).most_common(1)[0][0]
    place = 0
    while place + 1 < len(rows) and _is_above(rows, place, usual):
        place += 1
    if place:
        shown = " | ".join(field for field in rows[0][1] if field.strip())[:60]
        source.warnings.append(
            f"{source.name}: {place} {word}s above the names of columns are left out ('{shown}'); "
            f"{word} {rows[place][0]} names the columns ({_SETTING} if another does)"
        )
    first = [field for field in rows[place][1] if field.strip()]
    if len(first) == 1 and usual > 1 and len(rows) > place + 2:
        line, fields = rows[place]
        below = rows[place + 1]
        if len(fields) != usual or len(below[1]) == usual == 2:
            both = [" | ".join(item)[:60] for item in (fields, below[1])]
            raise DataError(
                f"{source.name}, {word} {line}",
                f"names of {usual} columns",
                f"one ('{both[0]}'), above '{both[1]}'",
                f"{_SETTING}: {line} if it is this one, {below[0]} if this one is a title",
            )
    return place


def _is_above(rows: list[Row], place: int, usual: int) -> bool:
    """Whether a row stands above the header: a comment, or a title that is alone in its row."""
    (line, fields), (next_line, below) = rows[place], rows[place + 1]
    filled = [field.strip() for field in fields if field.strip()]
    if filled[0].startswith("#") and len(fields) < usual:
        return True
    if len(filled) != 1 or usual < 2:
        return False
    if len(fields) == usual:  # a title that a spreadsheet wrote, with empty cells beside it
        return usual > 2 and bool(fields[0].strip()) and sum(bool(name.strip()) for name in below) > 2
    return next_line > line + 1  # an empty line follows


def _without_repeats(source: Source, header: Row, rows: list[Row], word: str) -> list[Row]:
    """The rows without those that name the columns again, as in files put end to end."""
    if len(header[1]) < 2:
        return rows
    names = [name.strip() for name in header[1]]
    kept = [row for row in rows if [field.strip().lstrip("\ufeff") for field in row[1]] != names]
    if repeats := len(rows) - len(kept):
        source.warnings.append(
            f"{source.name}: {repeats} {word}s name the columns again, as in files put end to end; they are left out"
        )
    return kept


def _width(source: Source, header: Row, rows: list[Row], word: str) -> int:
    """How many columns there are where all rows, or only the header, end with a delimiter."""
    width = len(header[1])
    widths = {len(fields) for _, fields in rows}
    if widths == {width + 1}:
        if any(fields[-1].strip() for _, fields in rows):
            raise DataError(
                f"{source.name}, {word} {header[0]}",
                f"names of {width + 1} columns, as all rows have",
                f"{width}",
                "add the missing name: that of the row numbers, first, if the program that wrote the file left it out",
            )
        return width
    if widths == {width - 1} and width > 1 and not header[1][-1].strip():
        return width - 1
    return width


def _names(source: Source, header: Row, word: str, divided: str) -> list[str]:
    line, fields = header
    stripped = [name.strip() for name in fields]
    where = f"{source.name}, {word} {line}"
    do = f"add a first {word} that names the columns"
    if any(_IMAGE_NAME.fullmatch(name) for name in stripped) or _only_numbers(stripped):
        raise DataError(where, "names of columns", f"'{' | '.join(stripped)[:80]}' ({divided})", do)
    names = [name or f"column_{i + 1}" for i, name in enumerate(stripped)]
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise DataError(where, "a different name for each column", f"'{twice}' twice", "rename one of them")
    if not any(stripped):
        raise DataError(where, "names of columns", "only empty ones", do)
    return names


def _only_numbers(names: list[str]) -> bool:
    numbered = [str(i) for i in range(len(names))]  # what pandas writes for columns without names
    return all(_NUMBER.fullmatch(name) for name in names) and names != numbered


def _rectangular(
    source: Source, rows: list[Row], width: int, divided: str, word: str
) -> tuple[list[Row], list[DataError]]:
    kept: list[Row] = []
    skipped: list[DataError] = []
    for line, fields in rows:
        if len(fields) == width:
            kept.append((line, fields))
            continue
        error = DataError(
            f"{source.name}, {word} {line}",
            f"{width} fields {divided}, as in the header",
            f"{len(fields)}",
            "quote fields that hold the delimiter, or leave the row out with --set data.on_bad=skip",
        )
        if not source.skip_bad:
            raise error
        skipped.append(error)
    return kept, skipped


def _cells(source: Source, name: str, values: tuple[str, ...]) -> list[str | None]:
    problem = parse_column(values)[1]
    filled = [value.strip() for value in values if value.strip()]
    if problem and number(next(value for value in filled if value[0] in "[({")) is not None:
        problem = ""  # (1,000) is a number below zero
    if filled and all(len(value) > 1 and value[0] == value[-1] == "'" for value in filled):
        problem = "all cells stand in single quotes, which are read as letters"
    if problem:
        source.warnings.append(f"column '{name}': {problem}")
    return [value or None for value in values]


def _warn_of_no_names(source: Source, cells: dict[str, list[str | None]], line: int, word: str) -> None:
    """A warning where what should name the columns looks like a row: it comes back below, or is a number above some."""
    odd = [
        name
        for name, values in cells.items()
        if len(values) > 3
        and (values.count(name) > 1 or (_NUMBER.fullmatch(name) and all(map(_NUMBER.fullmatch, filter(None, values)))))
    ]
    if odd and list(cells) != [str(i) for i in range(len(cells))]:
        source.warnings.append(
            f"{source.name}, {word} {line}: taken for the names of columns, though '{odd[0][:40]}' is also what its "
            f"column holds; if it is a row, add a first {word} that names the columns"
        )


def _warn_of_units(source: Source, names: list[str], rows: list[Row], word: str) -> None:
    """A warning where the first row holds units: short words above numbers, in each column of numbers."""
    if len(rows) < 6:
        return
    units = []
    for place, name in enumerate(names):
        below = [fields[place].strip() for _, fields in rows[1:_LOOKED_AT] if fields[place].strip()]
        if len(below) < 5 or not all(map(_MEASURED.fullmatch, below)):
            continue
        first = rows[0][1][place].strip()
        if not first or _MEASURED.fullmatch(first):
            return
        if _UNIT.fullmatch(first):
            units.append(f"{name}: {first}")
    if units:
        source.warnings.append(
            f"{source.name}: {word} {rows[0][0]} looks like units, not data ({', '.join(units[:5])}); "
            "leave it out of the file"
        )
