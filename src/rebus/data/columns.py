"""Plain Python values to Arrow columns; it does not know which file they came from."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from rebus.errors import DataError

MOST_COLUMNS = 5000
_CANNOT = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, UnicodeError, TypeError)


def arrow_table(columns: dict[str, list[Any]], place: Callable[[int], str], name: str) -> pa.Table:
    """One Arrow table from lists of equal length.

    A column that mixes numbers and words becomes words, and one that mixes single values and lists becomes lists.

    Args:
        columns: name to values.
        place: says where row i came from.
        name: what to call the table in messages.

    Raises:
        DataError: a column mixes values that cannot stand together, or holds text that is not Unicode.
    """
    if len(columns) > MOST_COLUMNS:
        raise DataError(
            name, f"at most {MOST_COLUMNS} columns", f"{len(columns)}", "give every row the same keys, and few of them"
        )
    for column in columns:
        if not _is_unicode(column):
            raise DataError(name, "column names in Unicode", repr(column), "rename that column")
    return pa.table({column: arrow_column(values, column, place) for column, values in columns.items()})


def arrow_column(values: list[Any], name: str, place: Callable[[int], str]) -> pa.Array:
    """One Arrow array. Raises DataError as ``arrow_table`` does, naming the first row that does not fit."""
    result = _try(values)
    if result is None:
        unified = _unify(values, name, place)
        result = _try(unified)
        if result is None:
            result = _try([_as_words(value) for value in unified])
        if result is None:
            raise _explained(values, name, place)
    return result


def is_image_struct(kind: pa.DataType) -> bool:
    """Whether an Arrow type is the Hugging Face image, a struct of ``bytes`` and ``path``."""
    return pa.types.is_struct(kind) and {kind.field(i).name for i in range(kind.num_fields)} == {"bytes", "path"}


def _try(values: list[Any]) -> pa.Array | None:
    try:
        return pa.array(values)
    except _CANNOT:
        return None


def _unify(values: list[Any], name: str, place: Callable[[int], str]) -> list[Any]:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return [None if value is None else float(value) for value in values]
    if list in kinds and len(kinds) > 1 and dict not in kinds:
        return [value if value is None or isinstance(value, list) else [value] for value in values]
    if dict in kinds and len(kinds) > 1:
        first = next(type(value) for value in values if value is not None)
        odd = next(i for i, value in enumerate(values) if value is not None and type(value) is not first)
        raise DataError(
            f"{place(odd)}, column '{name}'",
            f"{_word(first)}, as in the rows before",
            _word(type(values[odd])),
            "give the column one kind of value",
        )
    return values


def _as_words(value: Any) -> Any:
    """Every leaf as text: JSON's own spelling for numbers, true and false."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        return [_as_words(item) for item in value]
    if isinstance(value, dict):
        return {key: _as_words(item) for key, item in value.items()}
    return json.dumps(value) if isinstance(value, bool | int | float) else str(value)


def _explained(values: list[Any], name: str, place: Callable[[int], str]) -> DataError:
    low, high = 0, len(values)  # values[:low] fits, values[:high] does not
    while high - low > 1:
        middle = (low + high) // 2
        part = values[:middle]
        fits = _try(part) is not None or _try([_as_words(value) for value in part]) is not None
        low, high = (middle, high) if fits else (low, middle)
    shown = repr(values[low])
    return DataError(
        f"{place(low)}, column '{name}'",
        "a value like those in the rows before, in valid Unicode",
        shown if len(shown) <= 80 else shown[:77] + "...",
        "give the column one kind of value: text, numbers, or lists of one of them",
    )


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _word(kind: type) -> str:
    words: dict[type, str] = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    return words.get(kind, "a number")
