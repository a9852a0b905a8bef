"""JSON whose numbers stay as they are written: ``18.50`` keeps its zero, a long id all its digits.

A cell of a table holds the text of a number; that it was a number, not a text, is kept beside it (``Table.source``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa


class Literal(str):
    """A number as JSON writes it."""

    __slots__ = ()


DECODER = json.JSONDecoder(parse_int=Literal, parse_float=Literal, parse_constant=Literal)
_CONSTANTS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def cell(value: Any) -> Any:
    """A decoded value as a cell: numbers, true and false as text, not-a-number as None; inside lists as numbers."""
    if isinstance(value, Literal):
        return None if value == "NaN" else str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return _plain(value) if isinstance(value, (list, dict)) else value


def typed(value: Any) -> Any:
    """A decoded value with its own type; a number that would be written otherwise afterwards stays text."""
    if isinstance(value, Literal):
        return str(value) if _changes(value) and value not in _CONSTANTS else _plain(value)
    return _plain(value) if isinstance(value, (list, dict)) else value


def written(value: Any) -> str:
    """A decoded value as JSON again, its numbers as they were."""
    if isinstance(value, Literal):
        return value
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, dict):
        return (
            f"{{{', '.join(f'{json.dumps(key, ensure_ascii=False)}: {written(item)}' for key, item in value.items())}}}"
        )
    return json.dumps(value, ensure_ascii=False)


def source_columns(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, pa.ChunkedArray]:
    """The JSON of the cells that a table's columns do not hold as JSON has them; null for the others."""
    result: dict[str, pa.ChunkedArray] = {}
    for name in names:
        texts = [written(value) if _differs(value := row.get(name)) else None for row in rows]
        if any(text is not None for text in texts):
            storage = pa.array(texts, pa.string())
            result[name] = pa.chunked_array([pa.ExtensionArray.from_storage(pa.json_(), storage)])
    return result


def _differs(value: Any) -> bool:
    if isinstance(value, list):
        return any(_changes(item) for item in value)
    return any(map(_changes, value.values())) if isinstance(value, dict) else isinstance(value, Literal | bool)


def _changes(value: Any) -> bool:
    """Whether a value inside a list is no longer written as it was once it is a number."""
    if isinstance(value, Literal):
        return json.dumps(_plain(value)) != value
    return isinstance(value, (list, dict)) and _differs(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Literal):
        if value in _CONSTANTS:
            return _CONSTANTS[value]
        if not value.lstrip("-").isdecimal():
            return float(value)
        return int(value) if len(value) < 19 else str(value)  # a long id stays text
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value
