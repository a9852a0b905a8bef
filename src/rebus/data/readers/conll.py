"""CoNLL files: a token and its tag a line, a blank line after each sentence. Rows are sentences.

Source of the layout: Tjong Kim Sang and De Meulder 2003, "Introduction to the CoNLL-2003 Shared Task".
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa

from rebus.data.readers.source import Source
from rebus.data.table import Places, Table
from rebus.errors import DataError

_START = re.compile(r"-DOCSTART-(\s|$)")


def read_conll(source: Source) -> Table:
    """Columns ``tokens`` and ``tags``: the first and the last field of each line, fields divided by a tab or spaces.

    Lines that begin with ``# `` and those of ``-DOCSTART-`` are passed over.

    Raises:
        DataError: a line without a tag, or with another number of fields than the lines before (the line is named).
    """
    text = source.read_text().replace("\r\n", "\n").replace("\r", "\n")
    sentences: list[tuple[list[str], list[str]]] = []
    numbers: list[int] = []
    skipped: list[DataError] = []
    tokens: list[str] = []
    tags: list[str] = []
    width: int | None = None
    broken: DataError | None = None
    begun = 1

    def end() -> None:
        nonlocal tokens, tags, broken
        if broken is not None:
            skipped.append(broken)
        elif tokens:
            sentences.append((tokens, tags))
            numbers.append(begun)
        tokens, tags, broken = [], [], None

    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or _START.match(line):
            end()
            begun = number + 1
            continue
        if line.startswith("# ") and not tokens:
            begun = number + 1
            continue
        fields = line.rstrip().split("\t") if "\t" in line else line.split()
        if len(fields) < 2 or (width is not None and len(fields) != width):
            broken = DataError(
                f"{source.name}, line {number}",
                "a token and its tag" if width is None else f"{width} fields, as in the lines before",
                f"'{line.strip()[:60]}'",
                "correct that line, or leave its sentence out with --set data.on_bad=skip",
            )
            if not source.skip_bad:
                raise broken
            continue
        width = len(fields)
        tokens.append(fields[0])
        tags.append(fields[-1])
    end()
    places = Places((source.name,), "line", numbers=np.array(numbers, dtype=np.int64))
    words = pa.list_(pa.string())
    columns = {
        "tokens": pa.array([words_ for words_, _ in sentences], words),
        "tags": pa.array([tags_ for _, tags_ in sentences], words),
    }
    return Table(pa.table(columns), source.path.parent, places, name=source.name, skipped=skipped)
