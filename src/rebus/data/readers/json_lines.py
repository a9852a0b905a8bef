"""JSONL (an object a line) and JSON (a list of objects, or ``{"data": [...]}``)."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from rebus.data.columns import MOST_COLUMNS, arrow_table
from rebus.data.readers.annotations import document_table
from rebus.data.readers.conversations import is_conversation, read_conversations
from rebus.data.readers.json_literals import DECODER, Literal, cell, source_columns
from rebus.data.readers.source import Source
from rebus.data.readers.squad import as_questions, is_squad
from rebus.data.table import Places, Table
from rebus.errors import DataError
from rebus.jsonl import json_lines
from rebus.recipe import Kind

_LISTS = ("data", "rows", "examples")


def read_json_lines(source: Source) -> Table:
    """Read an object a line; blank lines are passed over.

    Raises:
        DataError: a line is not a JSON object (the line is named), or a column mixes kinds of values.
    """
    decode = DECODER.decode
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    skipped: list[DataError] = []
    for number, line in json_lines(source.read_text()):
        try:
            row = decode(line)
            if not isinstance(row, dict):
                raise TypeError(f"{_word(row)} instead of an object")
        except (ValueError, TypeError, RecursionError) as error:
            received = _told(error)
            data_error = DataError(
                f"{source.name}, line {number}",
                'one JSON object a line, e.g. {"image": "a.png", "caption": "a cat"}',
                received,
                "correct that line, or leave it out with --set data.on_bad=skip",
            )
            if not source.skip_bad:
                raise data_error from error
            skipped.append(data_error)
            continue
        rows.append(row)
        numbers.append(number)
    return _table(source, rows, numbers, skipped, "line")


def read_json(source: Source) -> Table:
    """Read a list of objects, or an object whose ``data`` is one.

    Raises:
        DataError: it is not JSON (the line is named), not a list of objects, or a column mixes kinds of values.
    """
    text = source.read_text()
    try:
        content = DECODER.decode(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # probably JSONL under another name
            return read_json_lines(source)
        raise _broken(source, f"{source.name}, line {error.lineno}", _told(error)) from error
    except (ValueError, RecursionError) as error:
        raise _broken(source, source.name, _told(error)) from error
    annotated = document_table(content, source)
    if annotated is not None:
        return annotated
    if isinstance(content, dict):
        content = next((content[key] for key in _LISTS if isinstance(content.get(key), list)), content)
    if isinstance(content, dict):
        return _table(source, [content], [1], [], "row")
    if not isinstance(content, list):
        raise _broken(source, source.name, _word(content))
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    skipped: list[DataError] = []
    for number, row in enumerate(content, start=1):
        if isinstance(row, dict):
            rows.append(row)
            numbers.append(number)
            continue
        message = _broken(source, f"{source.name}, row {number}", f"{_word(row)} instead of an object")
        if not source.skip_bad:
            raise message
        skipped.append(message)
    return _table(source, rows, numbers, skipped, "row")


def _table(
    source: Source, rows: list[dict[str, Any]], numbers: list[int], skipped: list[DataError], word: str
) -> Table:
    decoded, records = rows, dict(zip(numbers, rows, strict=True))
    rows = [{name: cell(value) for name, value in row.items()} for row in rows]
    cells = rows
    if rows and is_conversation(rows[0]):
        rows, numbers = read_conversations(rows, numbers, source, skipped, word)
    elif rows and is_squad(rows[0]):
        rows, numbers = as_questions(rows, numbers, source, skipped, word)
    places = Places((source.name,), word, numbers=np.array(numbers, dtype=np.int64))
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row))
        if len(names) > MOST_COLUMNS:
            break  # told as an error by arrow_table
    columns = (
        {name: [] for name in names}
        if len(names) > MOST_COLUMNS
        else {name: [row.get(name) for row in rows] for name in names}
    )
    if rows and not columns:
        raise _broken(source, source.name, "objects without any key")
    arrow = arrow_table(columns, places.where, source.name)
    if rows is not cells:  # fields that were kept as they are
        decoded = [
            {name: value for name, value in records[number].items() if name in row and row[name] == cell(value)}
            for number, row in zip(numbers, rows, strict=True)
        ]
    as_written = source_columns(decoded, arrow.column_names)
    kinds: dict[str, Kind] = {"image": "image"} if rows is not cells and "image" in columns else {}
    return Table(arrow, source.path.parent, places, name=source.name, skipped=skipped, source=as_written, kinds=kinds)


def _broken(source: Source, where: str, text: str) -> DataError:
    return DataError(
        where,
        'a list of objects, e.g. [{"image": "a.png", "caption": "a cat"}], or {"data": [...]}',
        text,
        "correct it; with an object on each line, let the name end in .jsonl",
    )


def _told(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"'{error.msg}' at character {error.colno}"
    if isinstance(error, RecursionError):
        return "lists or objects nested too deeply"
    return str(error)[:120] or type(error).__name__


def _word(value: Any) -> str:
    if value is None:
        return "null"
    words = {list: "a list", str: "text", Literal: "a number", bool: "true or false", dict: "an object"}
    return words.get(type(value), "a number")
