"""What a modality is: how the cells of its columns become items, and items become the tensors that a tower reads.

It knows no task, model or loop. Training, prediction, explanation and serving all build inputs here.

Letters: N items, B examples (rows that share all inputs but text).
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rebus import recipe
from rebus.data.cells import is_blank
from rebus.data.frame import Frame
from rebus.data.table import entries
from rebus.models.batch import Inputs
from rebus.recipe.kinds import declare_kinds
from rebus.registry import Registry

Item = dict[str, NDArray[Any]]
Key = tuple[int, int, int]  # (seed, epoch, index of the example): what is random in training is a function of it


class Modality(ABC):
    """One sort of input beside text.

    Args:
        settings: the recipe, resolved.
        columns: the table's columns that it reads; one, unless ``many``.

    Attributes:
        name: as recipes, batches and towers call it.
        kinds: kinds of columns that belong to it.
        many: whether all of its columns together are one input, as those of a table are. If not, it reads one column,
            of which a cell may hold a list: several items of an example.
        towers: kinds of tower that read it; the first is the default.
        files: whether a cell may name a file. A server, which reads none, takes a data URL then and hands on its bytes.
        per_example: whether the builder of batches makes its inputs, one set for an example. Text is not built there:
            each task has tokens of its own.
    """

    name: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]] = ()
    many: ClassVar[bool] = False
    towers: ClassVar[tuple[str, ...]] = ()
    files: ClassVar[bool] = True
    per_example: ClassVar[bool] = True

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if hasattr(cls, "name"):
            declare_kinds(cls.name, cls.kinds, cls.recognise)

    def __init__(self, settings: recipe.Recipe, columns: Sequence[str]) -> None:
        self.settings, self.columns = settings, tuple(columns)

    def reading(self, columns: Sequence[str]) -> Self:
        """The same, fitted as it is, that reads other columns."""
        other = copy.copy(self)
        other.columns = tuple(columns)
        return other

    @classmethod
    def recognise(cls, name: str, cells: Sequence[Any]) -> float:
        """The share of a column's cells, 0 to 1, that look like this modality; plug-ins are asked before Rebus guesses.

        Args:
            name: of the column.
            cells: a sample of those that are not null.
        """
        return 0.0

    def fit(self, values: Mapping[str, Sequence[Any]], rows: Sequence[int]) -> None:  # noqa: B027
        """Learn from the training rows what must be known of the columns: means, vocabularies. ``values`` by column."""

    def state(self) -> dict[str, Any]:
        """What ``fit`` learned, as JSON values."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Take back what ``state`` gave."""

    def context(self) -> dict[str, Any]:
        """What a tower must know of its inputs, as named arguments of its constructor: sizes, vocabularies."""
        return {}

    @abstractmethod
    def item(self, cells: Mapping[str, Any], root: Path, where: str) -> Item | None:
        """One input, decoded.

        Args:
            cells: column: what the row holds there.
            root: folder that relative paths start from.
            where: the row, for messages.

        Returns:
            Arrays by name; None: the row has no such input.

        Raises:
            DataError, ImageError: a cell cannot be read.
        """

    def items(self, cells: Mapping[str, Any], root: Path = Path(), where: str = "") -> list[Item]:
        """All inputs of a row: none, one, or one for each entry of a list. Raises as ``item`` does."""
        if self.many:
            return [item for item in (self.item(cells, root, where),) if item is not None]
        column = self.columns[0]
        result = [self.item({column: value}, root, where) for value in entries(cells.get(column))]
        return [item for item in result if item is not None]

    def key(self, cells: Mapping[str, Any]) -> Hashable | None:
        """What rows with the same input have in common; None: the row stands alone, or has none."""
        values = tuple(cells.get(column) for column in self.columns)
        values = tuple(tuple(value) if isinstance(value, list) else value for value in values)
        alone = any(is_blank(value) or not isinstance(value, Hashable) for value in values)
        return None if alone else values

    def usual(self, column: str) -> list[tuple[Any, float]]:
        """Cells that training rows hold in a column, with how usual each is; none: it keeps no such account."""
        return []

    @property
    def changes(self) -> bool:
        """Whether ``augment`` changes anything: then a frozen tower's features cannot be kept."""
        return False

    def augment(self, item: Item, key: Key, view: int = 0) -> Item:
        """The item as training shows it, a pure function of the key and the number of the view; by default as it is."""
        return item

    def frame(self, key: Key) -> Frame | None:
        """How ``augment`` moves what an item shows, for tasks whose targets have places in it; None: it stays."""
        return None

    @property
    def mixes(self) -> bool:
        """Whether training mixes each example's item with that of another example of the batch."""
        return False

    def share(self, key: Key) -> float:
        """How much of a mixture is the example's own, 0 to 1; its target's share too."""
        return 1.0

    def mix(self, item: Item, other: Item, key: Key) -> Item:
        """An item with that of another example mixed into it."""
        return item

    def collate(self, items: Sequence[Item]) -> dict[str, Tensor]:
        """N items, at least one, as tensors (N, ...); by default arrays of equal shape are stacked."""
        return {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}

    def inputs(self, items: Sequence[Sequence[Item]]) -> Inputs:
        """The items of each of B examples as one modality's share of a batch."""
        flat = [item for entry in items for item in entry]
        owner = [place for place, entry in enumerate(items) for _ in entry]
        most = max((len(entry) for entry in items), default=0)
        return Inputs(self.collate(flat) if flat else {}, torch.tensor(owner, dtype=torch.long), most)


MODALITIES: Registry[type[Modality]] = Registry("modality", ("name", "kinds", "towers"))
