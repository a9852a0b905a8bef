"""Objects inside a cell, in the layouts of well-known data sets, as columns of their own.

- ``translation: {"en": ..., "zh": ...}`` becomes the columns ``en`` and ``zh``;
- ``answers: {"text": [...], "answer_start": [...]}`` becomes ``answers`` and ``answer_start``;
- ``choices: {"text": [...], "label": [...]}`` becomes ``choices`` (what the labels say, the answer's letter says too).
"""

from __future__ import annotations

import re
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from rebus.data import names
from rebus.data.lists import parse_column
from rebus.data.table import Table

_OBJECTS = (*names.TRANSLATION, *names.CHOICES, *names.ANSWER)  # columns that such objects stand in
_CODE = re.compile(r"[a-z]{2,3}([_-][A-Za-z]{2,4})?")


def flattened(table: Table) -> Table:
    """The same rows, such objects as columns; other objects stay as they are."""
    arrow = table.stored
    for name in table.columns:
        column = arrow.column(name)
        if pa.types.is_string(column.type) and names.named(name, _OBJECTS):
            column = _objects(column)
        kind = column.type
        if not pa.types.is_struct(kind):
            continue
        parts = _parts(name, [kind.field(i).name for i in range(kind.num_fields)])
        if parts is None:
            continue
        at = arrow.column_names.index(name)
        arrow = arrow.remove_column(at)
        for field, wanted in reversed(parts.items()):
            free = wanted if wanted not in arrow.column_names else f"{name}.{wanted}"
            arrow = arrow.add_column(at, free, pc.struct_field(column, field))
    return table if arrow is table.stored else replace(table, stored=arrow)


def _objects(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of text as objects, if each of its cells writes one."""
    first = next((cell for chunk in column.chunks for cell in chunk if cell.is_valid), None)
    if first is None or not first.as_py().lstrip().startswith("{"):
        return column
    parsed = parse_column(column.to_pylist())[0]
    try:
        found = pa.array(parsed) if parsed is not None else column
    except pa.ArrowException:
        return column  # of several kinds
    return pa.chunked_array([found]) if isinstance(found, pa.StructArray) else column


def _parts(name: str, fields: list[str]) -> dict[str, str] | None:
    """Field: name of its column; None where the object is none of the known ones."""
    if names.named(name, names.TRANSLATION) and len(fields) >= 2 and all(map(_CODE.fullmatch, fields)):
        return {field: field for field in fields}
    if set(fields) == {"text", "answer_start"}:
        return {"text": name, "answer_start": "answer_start"}
    if names.named(name, names.CHOICES) and set(fields) == {"text", "label"}:
        return {"text": name}
    return None
