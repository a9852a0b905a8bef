"""What goes into which archive, decided before anything is written: so any number of processes write the same.

It does not know how an archive is written.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from typing import Any

from rebus.data.corpus.order import key_of, permutation
from rebus.data.image_sources import image_bytes, image_span
from rebus.data.names import SPLIT_WORDS, split_word, tidy
from rebus.data.table import Table
from rebus.errors import DataError, ImageError
from rebus.recipe import Kind

BLOCK = 512
_TEXTS = 2048  # bytes taken for the texts of a sample, when archives are measured out
_SPLIT_NAMES = ("split", "划分")
_PLAIN = re.compile(r"[a-z0-9_\-]+")


@dataclass(frozen=True)
class Planned:
    """One archive to be.

    Attributes:
        name: of its file.
        samples: for each sample, the rows of the table that share its images.
        first: number of its first sample in its series; keys count on from there.
    """

    name: str
    samples: list[list[int]]
    first: int


@dataclass(frozen=True)
class Layout:
    """How columns are written.

    Attributes:
        images: word before an image's ending: its column; the first column's word is "".
        text: the only column of text, which is also written as ``key.txt``.
        label: the only column of whole-number classes, which is also written as ``key.cls``.
        others: columns that go into ``key.json``.
    """

    images: dict[str, str]
    text: str | None
    label: str | None
    others: tuple[str, ...]


def layout_of(table: Table, kinds: dict[str, Kind]) -> tuple[Layout, list[str]]:
    """How a table's columns are written, and the names of those that are not (bytes that are no images).

    Raises:
        DataError: there is no image column.
    """
    import pyarrow as pa

    images = [name for name in table.columns if kinds[name] == "image"]
    if not images:
        received = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
        do = "say which with --kind COLUMN=image; or, for raw text, name the column with --column"
        raise DataError(table.name, "a column of images", received, do)
    types = {name: table.stored.schema.field(name).type for name in table.columns}
    left = [name for name in table.columns if pa.types.is_binary(types[name]) or pa.types.is_large_binary(types[name])]
    left = [name for name in left if name not in images]
    others = tuple(name for name in table.columns if name not in (*images, *left))
    texts = [name for name in others if kinds[name] == "text" and pa.types.is_string(types[name])]
    labels = [name for name in others if kinds[name] == "category" and pa.types.is_integer(types[name])]
    words = {"": images[0]}
    for number, name in enumerate(images[1:], 1):
        words[name if _PLAIN.fullmatch(name) and name not in words else f"p{number}"] = name
    layout = Layout(words, texts[0] if len(texts) == 1 else None, labels[0] if len(labels) == 1 else None, others)
    return layout, left


def plan(
    table: Table, layout: Layout, shard_bytes: int, *, split: str | None = None, shuffle: int | None = None
) -> list[Planned]:
    """Deal a table to archives of about ``shard_bytes``; rows that share their images stay in one sample.

    Args:
        table: the rows.
        layout: which columns hold images.
        shard_bytes: an archive is closed once its images as they are now take so many bytes.
        split: column that says train, valid or test, which become archives of their own; None: one named split.
        shuffle: seed of the order; None: the table's own.

    Raises:
        ImageError: an image is missing; the row is named.
    """
    groups: dict[Any, list[int]] = {}
    listed = [table.column(name) for name in layout.images.values()]
    for row, values in enumerate(zip(*listed, strict=True)):
        key = row if all(value is None for value in values) else tuple(map(_key, values))
        groups.setdefault(key, []).append(row)
    samples = list(groups.values())
    if shuffle is not None:
        samples = [samples[at] for at in permutation(len(samples), key_of("tars", shuffle))]
    series: dict[str, list[list[int]]] = {}
    entries = _splits(table, split)
    for rows in samples:
        series.setdefault(entries[rows[0]] if entries else "shard", []).append(rows)
    planned: list[Planned] = []
    for name, members in series.items():
        start = size = number = 0
        for at, rows in enumerate(members, 1):
            size += sum(_room(table, rows[0], values[rows[0]]) for values in listed) + _TEXTS
            if size >= shard_bytes or at == len(members):
                planned.append(Planned(f"{name}-{number:06d}.tar", members[start:at], start))
                start, size, number = at, 0, number + 1
    return planned


def stamp(value: Any, table: Table, where: str) -> str:
    """What changes when an image does: a hash of embedded bytes; the place, size and time of a file."""
    if value is None:
        return "none"
    embedded = image_bytes(value, where)
    if embedded is not None:
        return hashlib.blake2b(embedded, digest_size=16).hexdigest()
    path, start, size = image_span(str(value), table.root, where)
    result = os.stat(path)
    return f"{path}\0{start}\0{size}\0{result.st_size}\0{result.st_mtime_ns}"


def _room(table: Table, row: int, value: Any) -> int:
    if value is None:
        return 0
    try:
        embedded = image_bytes(value)
        size = len(embedded) if embedded is not None else image_span(str(value), table.root)[2]
    except ImageError:
        return 0  # told, or left out and counted, when its turn comes
    return BLOCK + -(-size // BLOCK) * BLOCK


def _splits(table: Table, named: str | None) -> list[str] | None:
    name = named or next((column for column in table.columns if tidy(column) in _SPLIT_NAMES), None)
    if name is None:
        return None
    words = [split_word(value) if isinstance(value, str) else None for value in table.column(name)]
    wrong = next((row for row, word in enumerate(words) if word is None), None)
    if wrong is not None:
        known = ", ".join(sorted(set(SPLIT_WORDS.values())))
        received = repr(table.value(wrong, name))[:60]
        raise DataError(f"{table.where(wrong)}, column '{name}'", known, received, "correct it, or rename the column")
    return [str(word) for word in words]


def _key(value: Any) -> Any:
    if isinstance(value, bytes) or (isinstance(value, str) and len(value) > 256):
        content = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(content, digest_size=16).digest()
    return value
