"""Parquet files and Hugging Face datasets saved on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rebus.data.readers.source import Source
from rebus.data.table import Places, Table
from rebus.errors import DataError

_MAGIC = b"PAR1"


def read_parquet(source: Source) -> Table:
    """Read a Parquet file; class numbers that carry names (Hugging Face's ClassLabel) become the names.

    Raises:
        DataError: the file is empty, truncated or not Parquet.
    """
    path = source.path
    try:
        with open(path, "rb") as file:
            head = file.read(4)
            size = file.seek(0, 2)
            file.seek(max(0, size - 4))
            tail = file.read(4)
    except OSError as error:
        raise DataError(path, "a file that can be read", f"'{error.strerror}'", "check its permissions") from error
    if size == 0:
        raise DataError(path, "a table", "an empty file (0 bytes)", "check that it was written completely")
    if head != _MAGIC or tail != _MAGIC:
        received = "a file cut off before its end" if head == _MAGIC else "something else"
        raise DataError(path, "a Parquet file", received, "write or download it again")
    try:
        arrow = pq.read_table(path, memory_map=True)
        arrow.validate(full=True)  # texts in UTF-8, lists within their values
    except (pa.ArrowException, OSError, ValueError) as error:
        message = " ".join(str(error).split())[:200]
        raise DataError(
            path, "a Parquet file that is whole", f"damage ({message})", "write or download it again"
        ) from error
    _refuse_twice(arrow, source.name)
    names = _class_names((arrow.schema.metadata or {}).get(b"huggingface"))
    unlabelled = frozenset(name for name in names if _has_unlabelled(arrow, name))
    places = Places((source.name,), "row")
    plain = _plain_types(arrow, names)
    kept = {name: arrow.column(name) for name in arrow.column_names if _changes(arrow.schema.field(name).type)}
    return Table(plain, path.parent, places, name=source.name, unlabelled=unlabelled, source=kept)


def read_saved_dataset(folder: Path) -> Table:
    """Read what ``save_to_disk`` wrote for a Dataset or a DatasetDict, whose keys become the column ``split``.

    Raises:
        DataError: the folder is damaged.
    """
    import datasets

    try:
        loaded = datasets.load_from_disk(str(folder))
        parts: dict[str, Any] = dict(loaded) if isinstance(loaded, datasets.DatasetDict) else {"": loaded}
        tables, unlabelled = {}, set()
        for key, part in parts.items():
            if len(part):
                stored, names = part.with_format("arrow")[:], _class_lists(part)
                tables[key] = _plain_types(stored, names)
                unlabelled |= {name for name in names if _has_unlabelled(stored, name)}
        if not tables:
            raise DataError(folder, "at least one row", "none", "save a dataset that has rows")
        arrow, file_of, numbers = merge_splits(tables)
    except DataError:
        raise
    except Exception as error:  # a damaged folder can fail anywhere in the library that reads it
        message = " ".join(str(error).split())[:200]
        raise DataError(
            folder, "a dataset saved by save_to_disk", f"a damaged one ({message})", "save it again from its source"
        ) from error
    files = tuple(f"{folder.name}/{key}" if key else folder.name for key in tables)
    places = Places(files, "row", file_of, numbers)
    return Table(arrow, folder, places, name=folder.name, unlabelled=frozenset(unlabelled))


def merge_splits(tables: dict[str, pa.Table]) -> tuple[pa.Table, Any, Any]:
    """Stack tables and add the column ``split`` with their keys (not where the only key is "").

    Returns:
        The table, which part each row came from (N,), and its number there (N,).

    Raises:
        ValueError: a column has types that do not unify.
    """
    marked = []
    for key, part in tables.items():
        if key and "split" in part.column_names:
            part = part.drop_columns(["split"])
        marked.append(part.append_column("split", pa.array([key] * len(part), pa.string())) if key else part)
    bare = _alike([part.replace_schema_metadata(None) for part in marked])
    stacked = pa.concat_tables(bare, promote_options="permissive")
    sizes = [len(part) for part in marked]
    file_of = np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)
    numbers = np.concatenate([np.arange(1, size + 1, dtype=np.int64) for size in sizes])
    return stacked, file_of, numbers


def _alike(tables: list[pa.Table]) -> list[pa.Table]:
    """The tables; a column that is text in some and numbers in others is text in all."""
    types: dict[str, set[pa.DataType]] = {}
    for table in tables:
        for field in table.schema:
            types.setdefault(field.name, set()).add(field.type)
    mixed = {name for name, kinds in types.items() if pa.string() in kinds and any(map(_is_single, kinds))}
    return [
        table.cast(pa.schema([pa.field(f.name, pa.string()) if f.name in mixed else f for f in table.schema]))
        for table in tables
    ]


def _is_single(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _class_lists(part: Any) -> dict[str, list[str]]:
    """Column: the names that its class numbers stand for."""
    names: dict[str, list[str]] = {}
    for name, kind in part.features.items():
        kind = getattr(kind, "feature", kind)  # a list of class numbers
        if type(kind).__name__ == "ClassLabel":
            names[name] = list(kind.names)
    return names


def _has_unlabelled(arrow: pa.Table, name: str) -> bool:
    """Whether a column of class numbers marks rows without a label by -1."""
    if name not in arrow.column_names or not pa.types.is_integer(arrow.schema.field(name).type):
        return False
    least = pc.min(arrow.column(name)).as_py()
    return least is not None and least < 0


def _plain_types(arrow: pa.Table, class_names: dict[str, list[str]]) -> pa.Table:
    """Dictionaries and decimals as plain values, extension types as what they store, class numbers as names."""
    for index, name in enumerate(arrow.column_names):
        column = arrow.column(index)
        kind = column.type
        if isinstance(kind, pa.BaseExtensionType):
            column = pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type)
        elif pa.types.is_dictionary(kind):
            column = column.cast(kind.value_type)
        elif pa.types.is_decimal(kind):
            column = column.cast(pa.string())  # 1.10 is not 1.1
        elif kind in (pa.float16(), pa.float32()):
            column = column.cast(pa.float32()).cast(pa.string()).cast(pa.float64())  # 0.1, not 0.10000000149011612
        elif name in class_names and (pa.types.is_integer(kind) or _is_numbers(kind)):
            column = _named(column, class_names[name])
        if column is not arrow.column(index):
            arrow = arrow.set_column(index, name, column)
    return arrow


def _changes(kind: pa.DataType) -> bool:
    """Whether ``_plain_types`` gives a column another type that says the same."""
    return bool(pa.types.is_dictionary(kind) or pa.types.is_decimal(kind) or kind in (pa.float16(), pa.float32()))


def _named(column: pa.ChunkedArray, names: list[str]) -> pa.ChunkedArray:
    def name(value: int | None) -> str | None:  # -1 marks "no label" in test splits
        return names[value] if value is not None and 0 <= value < len(names) else None

    if _is_numbers(column.type):
        lists = [None if row is None else [name(value) for value in row] for row in column.to_pylist()]
        return pa.chunked_array([pa.array(lists, pa.list_(pa.string()))])
    return pa.chunked_array([pa.array([name(value) for value in column.to_pylist()], pa.string())])


def _is_numbers(kind: pa.DataType) -> bool:
    return (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and bool(pa.types.is_integer(kind.value_type))


def _class_names(metadata: bytes | None) -> dict[str, list[str]]:
    if metadata is None:
        return {}
    try:
        features = json.loads(metadata)["info"]["features"]
        inner = {name: feature.get("feature", feature) for name, feature in features.items()}
        return {
            name: [str(word) for word in feature["names"]]
            for name, feature in inner.items()
            if isinstance(feature, dict)
            and feature.get("_type") == "ClassLabel"
            and isinstance(feature.get("names"), list)
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # names are a courtesy: without them the numbers stand


def _refuse_twice(arrow: pa.Table, where: str) -> None:
    names = arrow.column_names
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise DataError(where, "a different name for each column", f"'{twice}' twice", "rename one of them")
    if not names:
        raise DataError(where, "columns", "none", "write the table again with its columns")
