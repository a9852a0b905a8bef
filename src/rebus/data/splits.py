"""Which rows train, which watch and which judge: a pure function of each row's content, so it is stable when rows are
added or reordered. It does not know what is learned.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rebus.data.names import SPLIT_WORDS, split_word, tidy
from rebus.data.table import Table, plain
from rebus.errors import DataError, nearest
from rebus.recipe import Split

_SPLIT_NAMES = ("split", "划分")
_FIGURE = r"^[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$|^[+-]?(?i:nan|inf|infinity)$"


def assign_splits(table: Table, split: Split, image_columns: Iterable[str], seed: int = 0) -> list[str]:
    """The split of each row.

    A column that says it wins: ``split.column``, or one named ``split``. Where it names no valid rows, some of the
    training rows are dealt to valid; where it names only training rows, all are dealt as if it were not there.
    Otherwise rows are dealt by a hash of the group: ``split.group``'s value, else the row's image, else its text.
    ``split.folds`` deals all rows so, whatever a column says: the rows of fold ``split.fold`` are the test.
    Rows of one group stay together.

    Args:
        table: the rows.
        split: the shares and columns.
        image_columns: columns that hold images; the first is the group where none is named.
        seed: another seed deals otherwise.

    Returns:
        (N,) of "train", "valid" and "test".

    Raises:
        DataError: a named column is missing, or the split column holds an unknown word (the row is named).
    """
    seed += split.deal
    if split.folds is not None:  # what a column says of splits is not asked
        return _dealt_to_folds(group_keys(table, split, image_columns), split, seed)
    if split.valid + split.test >= 1:
        raise DataError(
            "data.split", "shares of valid and test below 1 together", f"{split.valid + split.test:g}", "lower one"
        )
    text = _said(table, split)
    if text is not None and {"valid", "test"} <= set(text):
        return text
    keys = group_keys(table, split, image_columns)
    if text is None or set(text) == {"train"}:
        return [_deal(key, split.valid, split.test, seed) for key in keys]
    if "valid" in text or "train" not in text:
        return text
    return [
        _deal(key, split.valid, 0.0, seed) if word == "train" else word for key, word in zip(keys, text, strict=True)
    ]


def _dealt_to_folds(keys: list[bytes], split: Split, seed: int) -> list[str]:
    """Test: the rows of one fold, which all hold as many groups. The others train, but for the share that watches.

    Unlike shares, equal folds depend on what other groups there are: added rows move some groups to the next fold.
    """
    folds = split.folds or 2
    if split.fold >= folds:
        raise DataError("data.split.fold", f"a number from 0 to {folds - 1}", f"{split.fold}", "count the folds from 0")
    order = sorted(set(keys), key=lambda key: _place(key, seed))
    test = {key for rank, key in enumerate(order) if rank * folds // len(order) == split.fold}
    return ["test" if key in test else _deal(key, split.valid, 0.0, seed + 1) for key in keys]


def group_keys(table: Table, split: Split, image_columns: Iterable[str] = ()) -> list[bytes]:
    """The hash of what keeps rows together: (N,) of 16 bytes. Raises DataError where the group column is missing."""
    if split.group is not None:
        if split.group not in table.columns:
            raise DataError(
                f"{table.name}, data.split.group",
                "a column that exists",
                f"'{split.group}'",
                nearest(split.group, table.columns),
            )
        return [_digest(_bytes_of(value)) for value in table.column(split.group)]
    keys, images = row_keys(table), list(image_columns)[:1]
    if not images and 2 * len(set(keys)) < len(keys):  # words that come back are classes: rows differ in their numbers
        keys = row_keys(table, [name for name in table.columns if tidy(name) not in _SPLIT_NAMES])
    for name in images:
        images = table.column(name)
        keys = [key if value is None else _digest(_bytes_of(value)) for value, key in zip(images, keys, strict=True)]
    return keys


def row_keys(table: Table, columns: list[str] | None = None) -> list[bytes]:
    """A hash of each row's text (and of everything where no column is text): (N,) of 16 bytes.

    The order of columns does not matter; the split column does not count.
    """
    names = columns if columns is not None else _text_columns(table)
    return [_digest(row) for row in _packed(table, sorted(names))]


def _packed(table: Table, names: list[str]) -> Iterable[bytes]:
    listed = [[_bytes_of(value) for value in table.column(name)] for name in names]
    for cells in zip(*listed, strict=True):
        yield b"".join(len(cell).to_bytes(8, "little") + cell for cell in cells)


def _text_columns(table: Table) -> list[str]:
    schema = table.stored.schema
    others = [name for name in table.columns if tidy(name) not in _SPLIT_NAMES]
    return [name for name in others if _is_text(table, name, schema.field(name).type)] or others or table.columns


def _is_text(table: Table, name: str, kind: pa.DataType) -> bool:
    """Whether a column holds words; numbers that a file writes as text are none, as they are none in Parquet."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return False
    figures = pc.match_substring_regex(table.stored.column(name), _FIGURE)
    return not pc.all(figures, min_count=1).as_py()


def _bytes_of(value: Any) -> bytes:
    value = plain(value)
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    return b"\0" if value is None else json.dumps(value, sort_keys=True, default=repr).encode()


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _deal(key: bytes, valid: float, test: float, seed: int) -> str:
    at = _place(key, seed)
    if at < test:
        return "test"
    return "valid" if at < test + valid else "train"


def _place(key: bytes, seed: int) -> float:
    """Where a group falls, from 0 to 1."""
    mixed = hashlib.blake2b(key, digest_size=8, salt=(seed % 2**64).to_bytes(16, "little")).digest()
    return int.from_bytes(mixed, "little") / 2**64


def split_column(table: Table, split: Split) -> str | None:
    """The column that says each row's split, if there is one. Raises DataError where a named one is missing."""
    name = split.column
    if name is None:
        return next((column for column in table.columns if tidy(column) in _SPLIT_NAMES), None)
    if name not in table.columns:
        raise DataError(
            f"{table.name}, data.split.column", "a column that exists", f"'{name}'", nearest(name, table.columns)
        )
    return name


def _said(table: Table, split: Split) -> list[str] | None:
    name = split_column(table, split)
    if name is None:
        return None
    words = []
    for row, value in enumerate(table.column(name)):
        word = split_word(value) if isinstance(value, str) else None
        if word is None:
            raise DataError(
                f"{table.where(row)}, column '{name}'",
                "train, valid or test",
                "nothing" if value is None else repr(value)[:60],
                f"use one of {', '.join(sorted(set(SPLIT_WORDS.values())))}; or rename the column to deal rows by hash",
            )
        words.append(word)
    return words
