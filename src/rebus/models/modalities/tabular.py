"""``tabular``: all columns of numbers, categories and dates of a row are one input.

Quantiles, means, categories and the range of dates come from the training rows, and are saved with the Run.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebus import recipe
from rebus.data.tabular_cells import CellReading, reading_of
from rebus.models.modalities.base import MODALITIES, Item, Key, Modality

BINS = 16  # most parts of a number's piecewise-linear encoding
ROWS_A_BIN = 25  # training rows that each stands for, at least
FEATURES = 1 + BINS  # numbers that stand for one number or date
MOST_CODES = 1000  # different values of a category that have a vector of their own
FAR = 5.0  # standard deviations beyond which numbers are all alike
HIDDEN = 0.02  # chance, in training, of hiding a value, so that what stands for missing and unseen ones is learned
MISSING, UNSEEN = 0, 1  # codes
STAND_INS = 8  # values that stand for all that training rows hold in a column
CACHED, CELLS = 2**26, 1024  # bytes of encoded rows that are kept, and encoded cells of a column
EPOCH = datetime(1970, 1, 1)


@dataclass
class ColumnStatistics:
    """What training rows say of a column.

    Attributes:
        reading: how its cells are read.
        mean, spread: number: of its values; date: of seconds since 1970.
        edges: of the bins, rising.
        values: category: those with a code of their own, the commonest first.
        counts: how many rows hold each.
        years: date: mean and spread of the year.
    """

    reading: CellReading
    mean: float = 0.0
    spread: float = 1.0
    edges: tuple[float, ...] = ()
    values: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    years: tuple[float, float] = (0.0, 1.0)

    @classmethod
    def of(cls, reading: CellReading, cells_of: Sequence[Any]) -> ColumnStatistics:
        """The statistics of a column's training cells."""
        known = [value for cell in cells_of if (value := reading.read(cell)) is not None]
        if reading.kind == "category":
            counts = Counter(str(value) for value in known)
            ordered = sorted(counts, key=lambda value: (-counts[value], value))[:MOST_CODES]
            return cls(reading, values=tuple(ordered), counts=tuple(counts[value] for value in ordered))
        numbers = np.asarray([_number(value) for value in known], dtype=np.float64)
        numbers = numbers[np.isfinite(numbers)]
        if not len(numbers):
            return cls(reading)
        bins = BINS if reading.kind == "number" else BINS - 7
        bins = max(1, min(bins, len(numbers) // ROWS_A_BIN))
        edges = np.unique(np.quantile(numbers, np.linspace(0, 1, bins + 1)))
        stats = cls(reading, float(numbers.mean()), float(numbers.std()) or 1.0, tuple(map(float, edges)))
        if reading.kind == "date":
            years = np.asarray([value.year for value in known if isinstance(value, datetime)], dtype=np.float64)
            stats.years = float(years.mean()), float(years.std()) or 1.0
        return stats

    def encode(self, cell: Any) -> tuple[NDArray[np.float32], bool]:
        """A number's or date's (F,), not to be written to, and whether there is one."""
        return self._encoded(cell) if isinstance(cell, Hashable) else self._encode(cell)

    def _encode(self, cell: Any) -> tuple[NDArray[np.float32], bool]:
        value = self.reading.read(cell)
        encoded = np.zeros(FEATURES, dtype=np.float32)
        number = math.nan if value is None else _number(value)
        if math.isnan(number):
            return encoded, False
        start = 1
        encoded[0] = np.clip((number - self.mean) / self.spread, -FAR, FAR)
        if isinstance(value, datetime):
            start = 8
            encoded[1] = np.clip((value.year - self.years[0]) / self.years[1], -FAR, FAR)
            turns = ((value.month - 1) / 12, value.weekday() / 7, (value.hour + value.minute / 60) / 24)
            encoded[2:8] = [wave(2 * math.pi * turn) for turn in turns for wave in (math.sin, math.cos)]
        if len(self.edges) > 1:
            low, high = np.asarray(self.edges[:-1]), np.asarray(self.edges[1:])
            with np.errstate(invalid="ignore"):
                encoded[start : start + len(low)] = np.clip((number - low) / (high - low), 0, 1)
        return encoded, True

    def code(self, cell: Any) -> int:
        """A category's code."""
        value = self.reading.read(cell)
        if value is None:
            return MISSING
        return self._codes.get(str(value), UNSEEN)

    def __post_init__(self) -> None:
        self._encoded = lru_cache(maxsize=CELLS)(self._encode)
        self._codes = {value: code for code, value in enumerate(self.values, UNSEEN + 1)}

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "reading": self.reading.as_dict(),
            "mean": self.mean,
            "spread": self.spread,
            "edges": list(self.edges),
            "values": list(self.values),
            "counts": list(self.counts),
            "years": list(self.years),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> ColumnStatistics:
        """What ``as_dict`` gave."""
        return cls(
            CellReading(**state["reading"]),
            float(state["mean"]),
            float(state["spread"]),
            tuple(map(float, state["edges"])),
            tuple(map(str, state["values"])),
            tuple(map(int, state["counts"])),
            (float(state["years"][0]), float(state["years"][1])),
        )


def _number(value: Any) -> float:
    if isinstance(value, datetime):
        return (value - EPOCH).total_seconds()
    return float(value)


@MODALITIES.register("tabular")
class TabularModality(Modality):
    """``values`` (N, M, F), ``known`` (N, M) and ``codes`` (N, K) of M numbers and dates and K categories."""

    name = "tabular"
    kinds = ("number", "category", "date")
    many = True
    files = False
    towers = ("tabular",)

    def __init__(self, settings: recipe.Recipe, columns: Sequence[str]) -> None:
        super().__init__(settings, columns)
        self.statistics: dict[str, ColumnStatistics] = {}
        self._take_stock()

    def _take_stock(self) -> None:
        """Divide the columns into the measured ones and the categories; forget encoded rows."""
        kinds = {name: known.reading.kind for name, known in self.statistics.items()}
        self.measured = [name for name, kind in kinds.items() if kind != "category"]
        self.categories = [name for name, kind in kinds.items() if kind == "category"]
        size = 4 * FEATURES * max(len(self.measured), 1) + 8 * len(self.categories) + 500
        self._encoded = lru_cache(maxsize=CACHED // size)(self._encode)

    @property
    def tokens(self) -> list[str]:
        """The column that each of the tower's tokens stands for."""
        return [*self.measured, *self.categories]

    def fit(self, values: Mapping[str, Sequence[Any]], rows: Sequence[int]) -> None:
        """Statistics of the training rows."""
        kinds, styles = self.settings.data.kinds, self.settings.data.numbers
        self.statistics = {}
        for column in self.columns:
            cells = [values[column][row] for row in rows]
            kind = next(kind for kind in ("number", "date", "category") if kind == kinds.get(column, "category"))
            self.statistics[column] = ColumnStatistics.of(reading_of(cells, kind, styles.get(column)), cells)
        self._take_stock()

    def state(self) -> dict[str, Any]:
        """Statistics by column."""
        return {column: known.as_dict() for column, known in self.statistics.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self.statistics = {column: ColumnStatistics.from_dict(known) for column, known in state.items()}
        self._take_stock()

    def context(self) -> dict[str, Any]:
        """How many columns there are of each sort, and of how many values."""
        sizes = tuple(len(self.statistics[column].values) + UNSEEN + 1 for column in self.categories)
        return {"measured": len(self.measured), "features": FEATURES, "categories": sizes}

    def key(self, cells: Mapping[str, Any]) -> Hashable | None:
        """The cells as they are: blank ones are alike too."""
        values = tuple(cells.get(column) for column in self.columns)
        return values if all(isinstance(value, Hashable) for value in values) else tuple(map(repr, values))

    def item(self, cells: Mapping[str, Any], root: Path, where: str) -> Item | None:
        """A row; a column that it lacks, or a cell that cannot be read, is a missing value. None: all are missing."""
        values = tuple(cells.get(column) for column in self.tokens)
        try:
            item, known = self._encoded(values)
        except TypeError:  # a list in a cell
            item, known = self._encode(values)
        return item if known else None

    def _encode(self, values: tuple[Any, ...]) -> tuple[Item, int]:
        measured = [self.statistics[name].encode(cell) for name, cell in zip(self.measured, values, strict=False)]
        codes = [self.statistics[n].code(c) for n, c in zip(self.categories, values[len(measured) :], strict=True)]
        item = {
            "values": np.stack([entry for entry, _ in measured]) if measured else np.zeros((0, FEATURES), np.float32),
            "known": np.asarray([known for _, known in measured], dtype=bool),
            "codes": np.asarray(codes, dtype=np.int64),
        }
        return item, int(item["known"].sum()) + sum(code != MISSING for code in codes)

    def usual(self, column: str) -> list[tuple[Any, float]]:
        """Of a number or a date its quantiles, of a category its commonest values."""
        known = self.statistics[column]
        if known.reading.kind == "category":
            return list(zip(known.values[:STAND_INS], map(float, known.counts), strict=False))
        if not known.edges:
            return []
        places = (np.arange(STAND_INS) + 0.5) / STAND_INS * (len(known.edges) - 1)
        numbers = np.interp(places, np.arange(len(known.edges)), known.edges)
        date = known.reading.kind == "date"
        return [(EPOCH + timedelta(seconds=number) if date else number, 1.0) for number in map(float, numbers)]

    @property
    def changes(self) -> bool:
        """Whether ``augment`` changes anything."""
        return True

    def augment(self, item: Item, key: Key, view: int = 0) -> Item:
        """Now and then a value is missing, and a category is one never seen."""
        rng = np.random.default_rng((*key, view, 2))
        lost, strange = rng.random(len(item["known"])) < HIDDEN, rng.random(len(item["codes"]))
        codes = np.where(strange < HIDDEN, UNSEEN, item["codes"])
        codes = np.where(strange < HIDDEN / 2, MISSING, codes)
        return {"values": item["values"], "known": item["known"] & ~lost, "codes": codes}
