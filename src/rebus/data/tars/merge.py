"""Arrow tables of unlike columns end to end, as one table of one chunk a column. It knows no archives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from rebus.errors import DataError


def merged(parts: Sequence[pa.Table], name: str) -> pa.Table:
    """Tables end to end; a column that a part lacks is null there, one that is numbers here and words there is words.

    Args:
        parts: at least one.
        name: what to call the table in messages.

    Raises:
        DataError: a column has values that cannot stand together.
    """
    kinds: dict[str, set[pa.DataType]] = {}
    for part in parts:
        for field in part.schema:
            kinds.setdefault(field.name, set()).add(field.type)
    mixed = {column for column, result in kinds.items() if _is_mixed(result)}
    alike = [_as_words(part, mixed) for part in parts]
    try:
        return pa.concat_tables(alike, promote_options="permissive").combine_chunks()
    except (pa.ArrowException, ValueError) as error:
        message = " ".join(str(error).split())[:200]
        do = "give each column one kind of value in all archives"
        raise DataError(name, "columns alike in all archives", message, do) from error


def _is_mixed(kinds: set[pa.DataType]) -> bool:
    words = any(pa.types.is_string(kind) for kind in kinds)
    return words and any(pa.types.is_primitive(kind) or pa.types.is_boolean(kind) for kind in kinds)


def _as_words(part: pa.Table, columns: set[str]) -> pa.Table:
    for at, name in enumerate(part.column_names):
        kind = part.schema.field(name).type
        if name in columns and not pa.types.is_string(kind) and not pa.types.is_null(kind):
            words = [_word(value) for value in part.column(at).to_pylist()]
            part = part.set_column(at, name, pa.array(words, pa.string()))
    return part


def _word(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
