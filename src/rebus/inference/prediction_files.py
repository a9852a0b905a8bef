"""A table's rows with their predictions as a .csv, .jsonl or .parquet file, a portion at a time.

Each cell of the table is written back as its file held it; only images inside cells are left out.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rebus.data import cells
from rebus.data.columns import is_image_struct
from rebus.data.table import Table, plain

Predicted = Mapping[str, Sequence[Any]]  # name of an added column: a value a row
Write = Callable[[Table, Predicted], None]
_JSON = pa.json_()


def written_columns(table: Table) -> list[str]:
    """The table's columns but for those that hold images as bytes."""
    return [name for name in table.columns if not _holds_images(table.arrow_column(name))]


@contextmanager
def write_csv(path: Path, table: Table) -> Iterator[Write]:
    """Open a CSV file for the rows of a table."""
    names = written_columns(table)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        started = False

        def write(part: Table, predicted: Predicted) -> None:
            nonlocal started
            if not started:
                writer.writerow([*names, *predicted])
                started = True
            columns = [map(_as_text, _cells(part, name)) for name in names]
            writer.writerows(zip(*columns, *(map(_as_text, values) for values in predicted.values()), strict=True))

        yield write
        _flush(file)


@contextmanager
def write_jsonl(path: Path, table: Table) -> Iterator[Write]:
    """Open a JSONL file for the rows of a table."""
    names = written_columns(table)
    with open(path, "w", encoding="utf-8") as file:

        def write(part: Table, predicted: Predicted) -> None:
            keys = [json.dumps(name, ensure_ascii=False) for name in (*names, *predicted)]
            columns = [map(_as_json, _cells(part, name)) for name in names]
            for row in zip(*columns, *(map(_as_json, values) for values in predicted.values()), strict=True):
                file.write(f"{{{', '.join(f'{key}: {cell}' for key, cell in zip(keys, row, strict=True))}}}\n")

        yield write
        _flush(file)


@contextmanager
def write_parquet(path: Path, table: Table) -> Iterator[Write]:
    """Open a Parquet file for the rows of a table; columns keep the types of the table's file."""
    names = written_columns(table)
    types = {name: _parquet_type(table, name) for name in names}
    writers: list[pq.ParquetWriter] = []

    def write(part: Table, predicted: Predicted) -> None:
        columns = {name: _arrow_cells(part, name, types[name]) for name in names}
        for name, values in predicted.items():
            known = writers[0].schema.field(name).type if writers else None
            column = pa.array([_flat(value) for value in values], known)
            columns[name] = column.cast(pa.string()) if pa.types.is_null(column.type) else column
        arrow = pa.table(columns)
        if not writers:
            writers.append(pq.ParquetWriter(path, arrow.schema))
        writers[0].write_table(arrow)

    try:
        yield write
    finally:
        for writer in writers:
            writer.close()
    if not writers:
        pq.write_table(pa.table({}), path)


class _Json(str):
    """A cell as its JSON file writes it."""

    __slots__ = ()


def _cells(part: Table, name: str) -> list[Any]:
    """A column's cells as the file holds them."""
    values = [plain(value) for value in part.arrow_column(name).to_pylist()]
    source = part.source_cells(name)
    if source is None:
        return values
    items = source.to_pylist()
    if source.type == _JSON:
        items = [None if item is None else _Json(item) for item in items]
    return [value if item is None else item for value, item in zip(values, items, strict=True)]


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, str) else cells.scalar(_flat(value))


def _as_json(value: Any) -> str:
    if isinstance(value, _Json):
        return value
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return "null"  # JSON has no word for them
    return str(value) if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False, default=str)


def _flat(value: Any) -> Any:
    """Lists and dictionaries as JSON text: a cell holds one value."""
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (list, dict)) else value


def _parquet_type(table: Table, name: str) -> pa.DataType:
    """The type that a column keeps; numbers that were JSON's become numbers where none of their digits is lost."""
    column, source = table.arrow_column(name), table.source_cells(name)
    if is_image_struct(column.type) or pa.types.is_null(column.type):
        return pa.string()
    if source is None or not pa.types.is_string(column.type):
        return column.type if source is None or source.type == _JSON else source.type
    if source.type != _JSON:
        return source.type
    texts = [text for text in source.to_pylist() if text is not None]
    if len(texts) < len(column) - column.null_count:
        return pa.string()
    if all(text in ("true", "false") for text in texts):
        return pa.bool_()
    if all(text.lstrip("-").isdecimal() and len(text) < 19 and str(int(text)) == text for text in texts):
        return pa.int64()
    return pa.float64() if all(_keeps(text) for text in texts) else pa.string()


def _keeps(text: str) -> bool:
    return text in ("NaN", "Infinity", "-Infinity") or (text not in ("true", "false") and repr(float(text)) == text)


def _arrow_cells(part: Table, name: str, kind: pa.DataType) -> pa.ChunkedArray | pa.Array:
    column, source = part.arrow_column(name), part.source_cells(name)
    if is_image_struct(column.type):
        return pa.array([plain(value) for value in column.to_pylist()], kind)
    if source is not None and source.type == kind:
        return source
    if column.type == kind:
        return column
    if pa.types.is_string(column.type) and source is not None:  # numbers of JSON
        return pa.array([None if text is None else _typed(text, kind) for text in column.to_pylist()], kind)
    return column.cast(kind)


def _typed(text: str, kind: pa.DataType) -> Any:
    return text == "true" if pa.types.is_boolean(kind) else int(text) if pa.types.is_integer(kind) else float(text)


def _holds_images(column: pa.ChunkedArray) -> bool:
    kind = column.type
    if is_image_struct(kind):
        return bool(pc.any(pc.is_valid(pc.struct_field(column, "bytes"))).as_py())
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


WRITERS = {".csv": write_csv, ".jsonl": write_jsonl, ".parquet": write_parquet}
