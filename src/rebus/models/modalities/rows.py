"""The inputs of a table's rows, by modality: decoded when asked for and kept within a budget. Any thread may read."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rebus.data.table import entries
from rebus.models.batch import Inputs
from rebus.models.modalities.base import Item, Modality

_BESIDE = 512  # bytes that a kept item takes beside its arrays: its name, its place in the order
_LONG = 256  # characters of a cell from which its digest stands for it


class _Changed(Sequence[Any]):
    """Cells some of which are others."""

    def __init__(self, cells: Sequence[Any], others: Mapping[int, Any]) -> None:
        self._cells, self._others = cells, others

    def __len__(self) -> int:
        return len(self._cells)

    def __getitem__(self, index: Any) -> Any:
        return self._others[index] if index in self._others else self._cells[index]


Where = Callable[[int], str]  # row -> its place, for messages


def row_number(row: int) -> str:
    """A row's place where nothing else is known of it."""
    return f"row {row + 1}"


class ItemCache:
    """Decoded items, the ones used longest ago given up first.

    Args:
        megabytes: MiB of them.
    """

    def __init__(self, megabytes: int) -> None:
        self._budget = self._free = megabytes * 2**20
        self._items: OrderedDict[Hashable, list[Item]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> list[Item] | None:
        """The items of a key, where they are kept."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
            return self._items.get(key)

    def put(self, key: Hashable, items: list[Item]) -> None:
        """Keep items, which are not to be written to from now on."""
        for array in (array for item in items for array in item.values()):
            array.setflags(write=False)
        with self._lock:
            if key in self._items or _size(items) > self._budget:
                return
            self._items[key] = items
            self._free -= _size(items)
            while self._free < 0:
                _, oldest = self._items.popitem(last=False)
                self._free += _size(oldest)


class RowInputs:
    """What a model reads of rows beside text.

    Args:
        modalities: by name, fitted.
        columns: the table's, by name: one cell a row. A column that is not there is blank.
        root: folder that relative paths start from.
        where: row -> its place, for messages.
        cache: keeps decoded items; None: none are kept.
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        columns: Mapping[str, Sequence[Any]],
        root: str | Path = ".",
        where: Where = row_number,
        cache: ItemCache | None = None,
    ) -> None:
        self.modalities, self.columns = dict(modalities), columns
        self.root, self.where, self.cache = Path(root), where, cache
        self._given: dict[str, Callable[[int], list[Item]]] = {}
        self._states = {name: repr(modality.state()) for name, modality in self.modalities.items()}

    def only(self, names: Collection[str]) -> RowInputs:
        """The same rows, of which no other modalities are read."""
        return self._like({name: modality for name, modality in self.modalities.items() if name in names}, self._given)

    def replaced(self, name: str, items: Callable[[int], list[Item]]) -> RowInputs:
        """The same rows with other items of a modality: row -> its items."""
        return self._like(self.modalities, {**self._given, name: items})

    def with_cells(self, column: str, cells: Mapping[int, Any]) -> RowInputs:
        """The same rows with other cells of a column in some of them."""
        other = self._like(self.modalities, self._given)
        other.columns = {**self.columns, column: _Changed(self.columns[column], cells)}
        return other

    def _like(self, modalities: Mapping[str, Modality], given: Mapping[str, Callable[[int], list[Item]]]) -> RowInputs:
        other = RowInputs(modalities, self.columns, self.root, self.where, self.cache)
        other._given = dict(given)
        return other

    def cells(self, name: str, row: int) -> dict[str, Any]:
        """What a row holds in a modality's columns."""
        names = self.modalities[name].columns
        return {column: self.columns[column][row] if column in self.columns else None for column in names}

    def count(self, name: str, row: int) -> int:
        """How many items of a modality a row has; nothing is decoded."""
        if name in self._given:
            return len(self._given[name](row))
        cells = self.cells(name, row)
        return 1 if self.modalities[name].many else len(entries(next(iter(cells.values()))))

    def key(self, row: int) -> Hashable | None:
        """What rows with equal inputs have in common; None: the row stands alone."""
        keys = [modality.key(self.cells(name, row)) for name, modality in self.modalities.items()]
        return None if not keys or None in keys else tuple(keys)

    def items(self, name: str, row: int) -> list[Item]:
        """A row's items of a modality, not to be written to. Raises DataError, ImageError: a cell cannot be read."""
        if name in self._given:
            return self._given[name](row)
        cells, modality = self.cells(name, row), self.modalities[name]
        digest = None if self.cache is None or modality.many else _digest(next(iter(cells.values())))
        key = (name, self._states[name], digest)
        if digest is not None and self.cache is not None and (kept := self.cache.get(key)) is not None:
            return kept
        items = modality.items(cells, self.root, f"{self.where(row)}, column '{modality.columns[0]}'")
        if digest is not None and self.cache is not None:
            self.cache.put(key, items)
        return items

    def check(self, row: int) -> None:
        """Read all of a row's items. Raises DataError, ImageError: a cell cannot be read."""
        for name in self.modalities:
            self.items(name, row)

    def inputs(self, rows: Sequence[int]) -> dict[str, Inputs]:
        """By modality, the items of examples that stand in these rows, as prediction reads them."""
        return {
            name: modality.inputs([self.items(name, row) for row in rows]) for name, modality in self.modalities.items()
        }


def _size(items: Sequence[Item]) -> int:
    return _BESIDE + sum(array.nbytes for item in items for array in item.values())


def _digest(value: Any) -> Hashable | None:
    """What equal cells have in common."""
    if isinstance(value, (list, tuple)):
        keys = tuple(_digest(item) for item in value)
        return None if None in keys else keys
    if isinstance(value, bytes) or (isinstance(value, str) and len(value) > _LONG):
        content = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(content, digest_size=16).digest()
    return value if isinstance(value, (str, int, float)) else None
