"""A table of rows: what every reader gives and every task takes.

It does not know what its columns mean (see ``kinds``) nor how it was written (see ``readers``). The values stay in
Arrow memory; a row becomes Python values only when it is asked for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rebus.catalogue import Note, is_known
from rebus.data.cells import is_blank
from rebus.data.columns import arrow_table, is_image_struct
from rebus.data.lists import parse_list
from rebus.data.unused import Unused
from rebus.errors import DataError, nearest
from rebus.recipe import Kind

_BATCH = 4096
MOST_LISTED = 200_000  # rows of a table whose values are kept as Python lists


@dataclass(frozen=True)
class Places:
    """Where each row came from, so that a message can name the file and the row.

    Attributes:
        files: names of the files that were read.
        word: what a row is in such a file: ``row``, ``line`` or "" (one file a row).
        file_of: (N,) which file each row came from; None: the first one.
        numbers: (N,) its number there, from 1; None: 1, 2, 3...
    """

    files: tuple[str, ...]
    word: str = "row"
    file_of: npt.NDArray[np.int64] | None = None
    numbers: npt.NDArray[np.int64] | None = None

    def where(self, row: int) -> str:
        """The file and the row, e.g. ``pets.csv, row 12``."""
        name = self.files[0 if self.file_of is None else int(self.file_of[row])]
        if not self.word:
            return name
        number = row + 1 if self.numbers is None else int(self.numbers[row])
        key = f"place.{self.word}"
        return Note(key, name=name, number=number) if is_known(key) else f"{name}, {self.word} {number}"


@dataclass(frozen=True)
class Table:
    """Rows with named columns.

    Attributes:
        stored: the Arrow table that was read; ``rows`` picks from it.
        root: folder against which relative image paths resolve.
        places: where each stored row came from.
        rows: (N,) indices into ``stored``; None: all of them in order.
        name: what to call the table in messages.
        skipped: rows a reader left out because ``data.on_bad`` is ``skip``, each as the error it would have been.
        kinds: column: kind, where the files themselves say it.
        notes: what the reader found out and a person should know, e.g. the encoding; the check prints it.
        source: column: its stored cells as the file holds them, where ``stored`` has them in another form: JSON for
            numbers whose text is stored, or the type that a Parquet file gives them; null: as stored.
        warnings: the same, where the reader may be wrong or left something out; the check and training print it.
        unlabelled: columns in which the files say by a mark of their own (-1) which rows have no label.
        unused: what the files say and no row holds.
    """

    stored: pa.Table
    root: Path
    places: Places
    rows: npt.NDArray[np.int64] | None = None
    name: str = "table"
    skipped: list[DataError] = field(default_factory=list)
    kinds: dict[str, Kind] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unlabelled: frozenset[str] = frozenset()
    unused: Unused = field(default_factory=Unused)
    warnings: list[str] = field(default_factory=list)
    source: dict[str, pa.ChunkedArray] = field(default_factory=dict)

    @classmethod
    def from_rows(cls, rows: Sequence[dict[str, Any]], root: str | Path = ".", name: str = "table") -> Table:
        """A table from plain values; a key that a row lacks is None there.

        Raises:
            DataError: a column mixes values that cannot stand in one column.
        """
        places = Places((name,))
        names = list(dict.fromkeys(key for row in rows for key in row))
        columns = {key: [row.get(key) for row in rows] for key in names}
        return cls(arrow_table(columns, places.where, name), Path(root), places, name=name)

    def __len__(self) -> int:
        return int(self.stored.num_rows if self.rows is None else len(self.rows))

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self._stored_row(index)
        return {name: plain(self.stored.column(name)[row].as_py()) for name in self.stored.column_names}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for start in range(0, len(self), _BATCH):
            part = self._slice(start, start + _BATCH)
            for row in part.to_pylist():
                yield {name: plain(value) for name, value in row.items()}

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in the file's order."""
        return list(self.stored.column_names)

    @property
    def arrow(self) -> pa.Table:
        """The rows as an Arrow table."""
        return self.stored if self.rows is None else self.stored.take(pa.array(self.rows))

    def column(self, name: str) -> list[Any]:
        """All values of one column as plain Python values.

        Raises:
            DataError: there is no such column; the nearest one is named.
        """
        values = self.arrow_column(name)
        listed = values.to_pylist()
        return [plain(value) for value in listed] if is_image_struct(values.type) else listed

    def values(self, name: str) -> Sequence[Any]:
        """As ``column``; of a large table a view that makes a value when it is asked for, so that memory stays flat.

        Processes that are forked share its memory, which they would copy piece by piece with a list of Python values.
        """
        return Column(self.arrow_column(name)) if len(self) > MOST_LISTED else self.column(name)

    def arrow_column(self, name: str) -> pa.ChunkedArray:
        """One column as Arrow values. Raises DataError as ``column`` does."""
        if name not in self.stored.column_names:
            raise DataError(self.name, "a column that exists", f"no column '{name}'", nearest(name, self.columns))
        values = self.stored.column(name)
        return values if self.rows is None else values.take(pa.array(self.rows))

    def source_cells(self, name: str) -> pa.ChunkedArray | None:
        """A column's cells as the file holds them, null where ``arrow_column`` has them so; None: it has all so."""
        cells = self.source.get(name)
        return cells if cells is None or self.rows is None else cells.take(pa.array(self.rows))

    def value(self, index: int, name: str) -> Any:
        """One cell as a plain Python value."""
        return plain(self.stored.column(name)[self._stored_row(index)].as_py())

    def where(self, index: int) -> str:
        """The file and the row that row ``index`` came from, e.g. ``pets.csv, row 12``."""
        return self.places.where(self._stored_row(index))

    def select(self, indices: Iterable[int] | npt.NDArray[np.int64]) -> Table:
        """The table of these rows, in this order; nothing is copied."""
        wanted = np.fromiter(indices, dtype=np.int64)
        rows = wanted if self.rows is None else self.rows[wanted]
        return replace(self, rows=rows)

    def with_column(self, name: str, values: list[Any]) -> Table:
        """The same rows with one more column, or another content of one that exists.

        Raises:
            DataError: the values cannot stand in one column.
        """
        added = arrow_table({name: values}, self.where, self.name).column(name)
        arrow = self.arrow
        if name in arrow.column_names:
            arrow = arrow.set_column(arrow.column_names.index(name), name, added)
        else:
            arrow = arrow.append_column(name, added)
        places = self.places
        if self.rows is not None:
            numbers = self.rows + 1 if places.numbers is None else places.numbers[self.rows]
            file_of = None if places.file_of is None else places.file_of[self.rows]
            places = Places(places.files, places.word, file_of, numbers)
        source = {key: cells for key, cells in self.source.items() if key != name}
        if self.rows is not None:
            source = {key: cells.take(pa.array(self.rows)) for key, cells in source.items()}
        return replace(self, stored=arrow, places=places, rows=None, source=source)

    def _stored_row(self, index: int) -> int:
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        return index if self.rows is None else int(self.rows[index])

    def _slice(self, start: int, stop: int) -> pa.Table:
        if self.rows is None:
            return self.stored.slice(start, stop - start)
        return self.stored.take(pa.array(self.rows[start:stop]))


class Column(Sequence[Any]):
    """A column's values, made one by one from Arrow memory; see ``Table.values``."""

    def __init__(self, stored: pa.ChunkedArray) -> None:
        self._chunks = [chunk for chunk in stored.chunks if len(chunk)]
        self._starts = list(accumulate((len(chunk) for chunk in self._chunks), initial=0))

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = int(index) + (len(self) if index < 0 else 0)
        if not 0 <= at < len(self):
            raise IndexError(index)
        chunk = bisect_right(self._starts, at) - 1
        return plain(self._chunks[chunk][at - self._starts[chunk]].as_py())

    def __iter__(self) -> Iterator[Any]:
        for chunk in self._chunks:
            for start in range(0, len(chunk), _BATCH):
                yield from map(plain, chunk.slice(start, _BATCH).to_pylist())


def plain(value: Any) -> Any:
    """A cell as tasks take it: the Hugging Face image ``{"bytes", "path"}`` becomes its bytes, or else its path."""
    if isinstance(value, dict) and len(value) == 2 and "bytes" in value and "path" in value:
        return value["bytes"] if value["bytes"] is not None else value["path"]
    return value


def entries(value: Any) -> list[Any]:
    """What a cell holds one of or several: the entries of a list, also of one written as text, else the cell itself.

    Blank entries are left out; a Hugging Face image becomes its bytes or its path.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = parse_list(value) or value
    several = value if isinstance(value, (list, tuple)) else [value]
    return [plain(item) for item in several if isinstance(item, (np.ndarray, dict)) or not is_blank(item)]


def stacked_source(parts: Sequence[Table]) -> dict[str, pa.ChunkedArray]:
    """``Table.source`` of whole tables end to end; a column that they hold in several types is left out."""
    result: dict[str, pa.ChunkedArray] = {}
    for name in dict.fromkeys(name for part in parts for name in part.source):
        kinds = {part.source[name].type for part in parts if name in part.source}
        if len(kinds) == 1:
            kind = kinds.pop()
            columns = [part.source.get(name, pa.chunked_array([pa.nulls(len(part), kind)])) for part in parts]
            result[name] = pa.chunked_array([chunk for column in columns for chunk in column.chunks], kind)
    return result
