"""Plain text to rows with one column, ``text``."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa

from rebus.data.readers.source import Source
from rebus.data.table import Places, Table

_BREAK = re.compile(r"\n[ \t]*\n\s*")


def read_plain_text(source: Source) -> Table:
    """A row a paragraph where blank lines divide the file, else a row a line.

    Raises:
        DataError: the file is empty or not text.
    """
    text = source.read_text().replace("\r\n", "\n").replace("\r", "\n")
    parts = _BREAK.split(text.strip()) if _BREAK.search(text.strip()) else text.split("\n")
    rows: list[str] = []
    numbers: list[int] = []
    position = 0
    line = 1
    for part in parts:
        if not part.strip():
            continue
        start = text.index(part, position)
        line += text.count("\n", position, start)
        position = start
        rows.append(part.strip())
        numbers.append(line)
    _warn_of_a_table(source, rows)
    places = Places((source.name,), "line", numbers=np.array(numbers, dtype=np.int64))
    return Table(pa.table({"text": pa.array(rows, pa.string())}), source.path.parent, places, name=source.name)


def _warn_of_a_table(source: Source, rows: list[str]) -> None:
    for mark, ending in (("\t", "tsv"), ("|", "csv"), (";", "csv")):
        if len(rows) > 2 and len({row.count(mark) for row in rows[1:]}) == 1 and mark in rows[1]:
            source.warnings.append(
                f"{source.name}: {mark!r} divides each line alike ('{rows[1][:60]}'); the file is read as texts. If it "
                f"is a table, rename it to {source.path.stem}.{ending}"
            )
            return
