"""The inputs of a table's rows, by modality: decoded when asked for and kept within a budget. Any thread may read."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rebus.models.batch import Inputs
from rebus.models.modalities.base import Item, Modality, entries

_BESIDE = 512  # bytes that a kept item takes beside its arrays: its name, its place in the order
_LONG = 256  # characters of a cell from which its digest stands for it


class CellRows(Sequence[dict[str, Any]]):
    """The cells of a modality's columns, row by row; a column that is not there is left out.

    Args:
        columns: name: one cell a row.
        names: the modality's columns.
        root: folder that relative paths start from.
    """

    def __init__(self, columns: Mapping[str, Sequence[Any]], names: Sequence[str], root: str | Path = ".") -> None:
        self._columns = {name: columns[name] for name in names if name in columns}
        self._count = len(next(iter(columns.values()), ()))
        self.names, self.root = tuple(names), Path(root)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        return {name: cells[index] for name, cells in self._columns.items()}

    @property
    def absent(self) -> list[str]:
        """Columns that are not there."""
        return [name for name in self.names if name not in self._columns]


class RowInputs:
    """What a model reads of rows beside text.

    Args:
        modalities: by name, fitted.
        columns: the table's, by name: one cell a row. A column that is not there is blank.
        root: folder that relative paths start from.
        where: row -> its place, for messages.
        cache_mb: memory for decoded items, in MiB; beyond it the ones used longest ago are decoded again.
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        columns: Mapping[str, Sequence[Any]],
        root: str | Path = ".",
        where: Callable[[int], str] = lambda row: f"row {row + 1}",
        cache_mb: int = 0,
    ) -> None:
        self.modalities, self.columns = dict(modalities), columns
        self.root, self.where = Path(root), where
        self._free = cache_mb * 2**20
        self._kept: OrderedDict[Any, list[Item]] = OrderedDict()
        self._lock = threading.Lock()

    def cells(self, name: str, row: int) -> dict[str, Any]:
        """What a row holds in a modality's columns."""
        names = self.modalities[name].columns
        return {column: self.columns[column][row] if column in self.columns else None for column in names}

    def count(self, name: str, row: int) -> int:
        """How many items of a modality a row has; nothing is decoded."""
        cells = self.cells(name, row)
        return 1 if self.modalities[name].many else len(entries(next(iter(cells.values()))))

    def key(self, row: int) -> Hashable | None:
        """What rows with equal inputs have in common; None: the row stands alone."""
        keys = [modality.key(self.cells(name, row)) for name, modality in self.modalities.items()]
        return None if not keys or None in keys else tuple(keys)

    def items(self, name: str, row: int) -> list[Item]:
        """A row's items of a modality, not to be written to. Raises DataError, ImageError: a cell cannot be read."""
        cells = self.cells(name, row)
        key = None if self.modalities[name].many else _digest(next(iter(cells.values())))
        with self._lock:
            if key is not None and (name, key) in self._kept:
                self._kept.move_to_end((name, key))
                return self._kept[name, key]
        where = f"{self.where(row)}, column '{self.modalities[name].columns[0]}'"
        items = self.modalities[name].items(cells, self.root, where)
        for array in (array for item in items for array in item.values()):
            array.setflags(write=False)
        if key is not None and _size(items) <= self._free:
            with self._lock:
                self._keep((name, key), items)
        return items

    def inputs(self, rows: Sequence[int]) -> dict[str, Inputs]:
        """By modality, the items of examples that stand in these rows, as prediction reads them."""
        return {
            name: modality.inputs([self.items(name, row) for row in rows]) for name, modality in self.modalities.items()
        }

    def _keep(self, key: Any, items: list[Item]) -> None:
        if key in self._kept:
            return
        self._kept[key] = items
        self._free -= _size(items)
        while self._free < 0:
            _, oldest = self._kept.popitem(last=False)
            self._free += _size(oldest)


def _size(items: Sequence[Item]) -> int:
    return _BESIDE + sum(array.nbytes for item in items for array in item.values())


def _digest(value: Any) -> Hashable | None:
    """What equal cells have in common."""
    if isinstance(value, (list, tuple)):
        keys = tuple(_digest(one) for one in value)
        return None if None in keys else keys
    if isinstance(value, bytes) or (isinstance(value, str) and len(value) > _LONG):
        content = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(content, digest_size=16).digest()
    return value if isinstance(value, (str, int, float)) else None
