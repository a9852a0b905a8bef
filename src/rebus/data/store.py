"""Images by row, decoded, fitted to the square and kept in memory within a budget.

It does not know tasks or models. Rows that share an image share its place; any number of threads may read.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rebus.data.depth import Levels
from rebus.data.images import PIXEL_BUDGET, decode_image
from rebus.data.jpeg import Choice
from rebus.data.table import Table
from rebus.data.transforms import fit_image

Array = npt.NDArray[np.uint8]
_BESIDE = 512  # bytes that a kept image takes beside its pixels: its name, its place in the order


def fitted_image(
    value: str | bytes,
    root: str | Path = ".",
    *,
    size: int,
    fit: Literal["pad", "crop", "squash"] | str = "pad",
    background: str = "white",
    pixel_budget: int = PIXEL_BUDGET,
    where: str = "",
    resample: str = "auto",
    edge: int | None = None,
    jpeg: Choice = "auto",
    levels: Levels | None = None,
) -> Array:
    """One image as the model sees it: (size, size, 3) uint8. Training and answering both come this way.

    Raises:
        ImageError: as ``decode_image``.
    """
    near = size if resample == "auto" else None  # a filter is meant for all pixels
    array = decode_image(
        value, root, background=background, pixel_budget=pixel_budget, where=where, near=near, jpeg=jpeg, levels=levels
    )
    return fit_image(array, size, fit, background, resample, edge)


class ImageStore:
    """The images of one column.

    Args:
        table: the rows.
        column: its image column.
        size: side of the square, in pixels.
        fit: pad, crop or squash.
        background: colour behind transparent pixels and around padded images.
        pixel_budget: most pixels a header may promise.
        cache_mb: memory for fitted images, in MiB; beyond it the ones used longest ago are decoded again.
        resample: see ``fit_image``.
        edge: likewise.
        jpeg: see ``decode_image``.
        levels: likewise.
    """

    def __init__(
        self,
        table: Table,
        column: str,
        size: int,
        fit: Literal["pad", "crop", "squash"] | str = "pad",
        background: str = "white",
        pixel_budget: int = PIXEL_BUDGET,
        cache_mb: int = 2048,
        resample: str = "auto",
        edge: int | None = None,
        jpeg: Choice = "auto",
        levels: Levels | None = None,
    ) -> None:
        self.table, self.column, self.size = table, column, size
        self.fit, self.background, self.pixel_budget = fit, background, pixel_budget
        self.resample, self.edge, self.jpeg, self.levels = resample, edge, jpeg, levels
        table.arrow_column(column)  # a missing column is told here
        self._most = cache_mb * 2**20 // (size * size * 3 + _BESIDE)
        self._kept: OrderedDict[Any, Array] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, row: int) -> Array:
        """Row ``row``'s image, (size, size, 3) uint8, not to be written to; see ``get``."""
        return self.get(row)

    def __getstate__(self) -> dict[str, Any]:
        """A copy sent to a worker process starts with an empty cache."""
        return {**self.__dict__, "_kept": OrderedDict(), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def key(self, row: int) -> str | bytes | None:
        """What rows with the same image have in common: the path, or a hash of long values; None: no image."""
        return _key(self.table.value(row, self.column))

    def get(self, row: int) -> Array:
        """Row ``row``'s image, (size, size, 3) uint8, not to be written to.

        Raises:
            ImageError: it cannot be read; the row is named.
        """
        value = self.table.value(row, self.column)
        key = _key(value)
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
        made = fitted_image(
            value,
            self.table.root,
            size=self.size,
            fit=self.fit,
            background=self.background,
            pixel_budget=self.pixel_budget,
            where=f"{self.table.where(row)}, column '{self.column}'",
            resample=self.resample,
            edge=self.edge,
            jpeg=self.jpeg,
            levels=self.levels,
        )
        made.setflags(write=False)
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return made

    def batch(self, rows: list[int] | npt.NDArray[np.int64]) -> Array:
        """Several rows' images, (B, size, size, 3) uint8. Raises ImageError as ``get``."""
        out = np.empty((len(rows), self.size, self.size, 3), dtype=np.uint8)
        for at, row in enumerate(rows):
            out[at] = self.get(int(row))
        return out


def _key(value: Any) -> str | bytes | None:
    if isinstance(value, bytes) or (isinstance(value, str) and len(value) > 256):
        content = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(content, digest_size=16).digest()
    return value if isinstance(value, str) else None
