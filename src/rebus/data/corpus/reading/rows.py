"""JSONL, JSON, CSV, TSV, Parquet and saved Hugging Face datasets as texts, a row at a time.

It does not know documents or tokens. A row that cannot be read is given as an error, for the caller to raise or count.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from rebus.data.corpus.reading.streams import BAD, ending, read_text, text_lines
from rebus.data.names import TEXT, first_named, is_metadata
from rebus.data.readers.delimited import separator_line, sniff_delimiter
from rebus.errors import DataError, nearest
from rebus.recipe import Data

Row = dict[str, Any] | str | DataError
Rows = Iterator[tuple[int, Row]]  # number of the line or row, what it holds
Told = Callable[[int], None]
JSON_LINES, JSON, DELIMITED, PARQUET = (
    (".jsonl", ".ndjson"),
    (".json",),
    (".csv", ".tsv", ".tab", ".psv"),
    (".parquet",),
)
ENDINGS = (*JSON_LINES, *JSON, *DELIMITED, *PARQUET)
_LISTS = ("data", "rows", "examples")
_LOOK, _BATCH = 64, 256
_SNIFF = 1 << 16
_LEAVE_OUT = "or leave it out with --set data.on_bad=skip"


class NoColumn(DataError):
    """The column that was asked for is not in a file."""


def read_rows(path: Path, name: str, data: Data, limit: int, column: str | None, message: Told | None = None) -> Rows:
    """Rows of a table file or of a saved dataset's folder.

    Args:
        path: the file, or the folder of a saved dataset.
        name: what messages call it.
        data: encoding, delimiter and what to do with a broken row.
        limit: most characters of a line, a record or a JSON object.
        column: the only one needed; None: all that may hold text.
        message: is given the bytes that were read.

    Raises:
        DataError: the file is damaged beyond its rows, or is no table.
    """
    if path.is_dir():
        return _dataset_rows(path, column, message)
    kind = ending(path)
    if kind in PARQUET:
        return _parquet_rows(path, name, column, message)
    pieces = read_text(path, name, data.encoding, data.on_bad == "skip", message)
    if kind in JSON_LINES:
        return _json_lines(pieces, name, limit)
    if kind in JSON:
        return _json(pieces, name, limit)
    return _delimited(pieces, name, kind, data, limit)


def choose_column(path: Path, name: str, data: Data, limit: int, wanted: str | None) -> str | None:
    """The column that holds the text: the one named, else one called ``text`` or the like, else the only one with text.

    Returns:
        None where rows are bare texts, as in a JSON list of them, or there are none.

    Raises:
        NoColumn: the named column is not there.
        DataError: no column, or several, may be it; all are named. Or one of the first rows is broken.
    """
    tables: list[dict[str, Any]] = []
    for _, row in islice(read_rows(path, name, data, limit, None), _LOOK):
        if isinstance(row, DataError) and data.on_bad == "refuse":
            raise row
        if isinstance(row, dict):
            tables.append(row)
    if not tables:
        return None
    columns = list({key: None for row in tables for key in row})
    if wanted is not None:
        if wanted not in columns:
            raise NoColumn(
                f"{name}, setting 'corpus.column'", "a column with text", f"'{wanted}'", nearest(wanted, columns)
            )
        return wanted
    texty = [key for key in columns if any(text_of(row.get(key)) for row in tables)]
    chosen = first_named(texty, TEXT)
    if chosen is not None:
        return chosen
    likely = [key for key in texty if not is_metadata(key)]
    if len(likely) == 1:
        return likely[0]
    received = ", ".join(f"'{key}'" for key in (likely or columns)) or "none"
    do = "name it with --set corpus.column=NAME"
    raise DataError(name, "one column of text", f"{'the columns ' if likely else 'no text in '}{received}", do)


def text_of(value: Any) -> str | None:
    """The text of a cell: a text, or a list of texts with line ends between them; None: it holds none."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(line, str) for line in value):
        return "\n".join(value)
    return None


def _json_lines(pieces: Iterator[str], name: str, limit: int) -> Rows:
    decode = json.JSONDecoder().decode
    for number, line, whole in text_lines(pieces, limit):
        if not whole:
            yield number, too_long(name, number, "line", limit)
        elif stripped := line.strip():
            try:
                row = decode(stripped)
                if not isinstance(row, dict | str):
                    raise TypeError("neither an object nor a text")
            except (ValueError, TypeError, RecursionError) as error:
                result = "bytes that are not text" if BAD in line else _told(error)
                yield (
                    number,
                    DataError(
                        f"{name}, line {number}",
                        'a JSON object a line, e.g. {"text": "..."}',
                        result,
                        f"correct it, {_LEAVE_OUT}",
                    ),
                )
                continue
            yield number, row


def _json(pieces: Iterator[str], name: str, limit: int) -> Rows:
    held = next(pieces, "").lstrip()
    if held[:1] == "[":
        yield from _json_list(held[1:], pieces, name, limit)
        return
    for piece in pieces:
        held += piece
        if len(held) > limit:
            do = "write it as JSONL, an object a line, which is read a line at a time"
            raise DataError(name, f"JSON that is a list, or at most {limit:,} characters", "a longer object", do)
    if not held.strip():
        return
    try:
        content = json.loads(held)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # probably JSONL under another name
            yield from _json_lines(iter([held]), name, limit)
            return
        raise DataError(f"{name}, line {error.lineno}", "JSON", _told(error), "correct it") from error
    except (ValueError, RecursionError) as error:
        raise DataError(name, "JSON", _told(error), "correct it") from error
    if isinstance(content, dict):
        content = next((content[key] for key in _LISTS if isinstance(content.get(key), list)), [content])
    for number, row in enumerate(content if isinstance(content, list) else [content], 1):
        yield number, row if isinstance(row, dict | str) else _no_row(name, number)


def _json_list(held: str, pieces: Iterator[str], name: str, limit: int) -> Rows:
    """The objects of a list, one after the other, however long the list is."""
    decoder, number, at, final = json.JSONDecoder(), 0, 0, False
    while True:
        while held[at : at + 1] in (" ", "\n", "\t", ","):
            at += 1
        if held[at : at + 1] == "]":
            return
        try:
            row, at = decoder.raw_decode(held, at)
        except (ValueError, RecursionError) as error:
            where, result = f"{name}, row {number + 1}", _told(error)
            if final or not _may_go_on(error, held):
                do = "correct it; the rows after it cannot be found"
                raise DataError(
                    where, "a list of JSON objects", "the end of the file" if at == len(held) else result, do
                ) from error
            if len(held) - at > limit:
                raise too_long(name, number + 1, "row", limit, "") from error
            more = next(pieces, None)
            held, at, final = held[at:] + (more or ""), 0, more is None
            continue
        number += 1
        yield number, row if isinstance(row, dict | str) else _no_row(name, number)


def _may_go_on(error: Exception, held: str) -> bool:
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.msg.startswith("Unterminated string") or error.pos >= len(held) - 16


def _delimited(pieces: Iterator[str], name: str, kind: str, data: Data, limit: int) -> Rows:
    head = next(pieces, "")
    preferred = {".tsv": "\t", ".tab": "\t", ".psv": "|"}.get(kind, ",")
    entries, skipped = separator_line(head)
    head = head[skipped:]
    delimiter = {"\\t": "\t", "tab": "\t"}.get(data.delimiter or "", data.delimiter or entries)
    delimiter = delimiter or sniff_delimiter(head, preferred)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise DataError("data.delimiter", "one character", repr(delimiter), "use e.g. --set data.delimiter=';' or tab")

    def lines() -> Iterator[str]:
        for number, line, whole in text_lines(_chained(head, pieces), limit):
            if not whole:
                raise too_long(name, number, "line", limit, "")
            yield line + "\n"

    quoting: Any = csv.QUOTE_NONE if delimiter == "\t" and _unquoted(head) else csv.QUOTE_MINIMAL
    reader = csv.reader(lines(), delimiter=delimiter, quoting=quoting, strict=True)
    header: list[str] | None = None
    before = 0
    while True:
        csv.field_size_limit(limit)  # of the whole process: whoever else reads sets its own
        try:
            fields = next(reader, None)
        except csv.Error as error:
            message = "a field that is too long: a quote may be open" if "limit" in str(error) else str(error)
            do = f"correct the quotes there; a field may have {limit:,} characters (corpus.line_mb)"
            raise DataError(f"{name}, line {before + 1}", "fields whose quotes are closed", message, do) from error
        finally:
            csv.field_size_limit(sys.maxsize)
        if fields is None:
            return
        number, before = before + 1, reader.line_num
        if header is None:
            header = [field.strip() for field in fields]
        elif fields and len(fields) != len(header):
            expected = f"{len(header)} fields divided by {delimiter!r}, as in the header"
            do = f"quote fields that hold the delimiter, {_LEAVE_OUT}"
            yield number, DataError(f"{name}, line {number}", expected, str(len(fields)), do)
        elif fields:
            yield number, dict(zip(header, fields, strict=True))


def _unquoted(head: str) -> bool:
    """Whether a tab-separated file uses quotes as letters."""
    try:
        list(csv.reader(head[:_SNIFF].split("\n")[:-1] or [head], delimiter="\t", strict=True))
    except csv.Error as error:
        return "unexpected end" not in str(error)
    return False


def _parquet_rows(path: Path, name: str, column: str | None, report: Told | None) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            columns = [column] if column else _text_columns(file.schema_arrow)
            missing = [item for item in columns if item not in file.schema_arrow.names]
            if missing:
                raise NoColumn(
                    name, "a column with text", f"'{missing[0]}'", nearest(missing[0], file.schema_arrow.names)
                )
            number = 0
            for group in range(file.num_row_groups):
                for batch in file.iter_batches(_BATCH, row_groups=[group], columns=columns):
                    for row in batch.to_pylist():
                        number += 1
                        yield number, row
                if report is not None:
                    report(path.stat().st_size // file.num_row_groups)
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        message = " ".join(str(error).split())[:200]
        raise DataError(
            name, "a Parquet file that is whole", f"damage ({message})", "write or download it again"
        ) from error


def _dataset_rows(folder: Path, column: str | None, report: Told | None) -> Rows:
    import datasets

    try:
        part = datasets.load_from_disk(str(folder))
        known = part.column_names
        columns = [column] if column else _text_columns(part.features.arrow_schema)
        if column is not None and column not in known:
            raise NoColumn(folder.name, "a column with text", f"'{column}'", nearest(column, known))
        number = 0
        for batch in part.select_columns(columns).with_format("arrow").iter(_BATCH):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except DataError:
        raise
    except Exception as error:  # a damaged folder can fail anywhere in the library that reads it
        message = " ".join(str(error).split())[:200]
        do = "save it again from its source"
        raise DataError(folder, "a dataset saved by save_to_disk", f"a damaged one ({message})", do) from error
    if report is not None:
        report(sum(file.stat().st_size for file in folder.glob("*.arrow")))


def _text_columns(schema: Any) -> list[str]:
    import pyarrow as pa

    names = []
    for column in schema:
        kind = column.type
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            kind = kind.value_type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            names.append(column.name)
    return names


def too_long(name: str, number: int, word: str, limit: int, leave_out: str = _LEAVE_OUT) -> DataError:
    """What to tell about a line, row or record beyond the limit."""
    return DataError(
        f"{name}, {word} {number}",
        f"at most {limit:,} characters",
        "more: a line of that size is seldom meant",
        f"divide it, or raise corpus.line_mb {leave_out}".strip(),
    )


def _no_row(name: str, number: int) -> DataError:
    return DataError(f"{name}, row {number}", "a JSON object or a text", "something else", f"correct it, {_LEAVE_OUT}")


def _chained(head: str, pieces: Iterator[str]) -> Iterator[str]:
    yield head
    yield from pieces


def _told(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"'{error.msg}' at character {error.colno}"
    if isinstance(error, RecursionError):
        return "lists or objects nested too deeply"
    return str(error)[:120] or type(error).__name__
