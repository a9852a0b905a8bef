"""What a frozen part says about each row, computed once and kept in memory. Knows no table and no model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Compute = Callable[[Sequence[int]], tuple[Tensor, ...]]


class FeatureCache:
    """Rows to tensors, through a function that is called once for each.

    Rows are computed in fixed chunks of neighbours, whichever of them is asked for first: the last bits of a
    product depend on what else is in the batch, and a resumed run must see the same bits. Only for a part that is
    frozen, in eval mode, and for rows that are not augmented. May be used by several threads.

    Args:
        compute: row numbers -> tensors whose first dimension counts those rows, on any device.
        rows: how many rows there are.
        chunk: rows computed together.
        limit_mb: memory to fill, in MiB; chunks beyond it are computed anew each time.
    """

    def __init__(self, compute: Compute, rows: int, *, chunk: int = 32, limit_mb: int = 2048) -> None:
        self.compute, self.rows, self.chunk, self.limit = compute, rows, chunk, limit_mb * 2**20
        self.bytes = 0
        self._chunks: dict[int, tuple[Tensor, ...]] = {}
        self._lock = threading.Lock()

    def get(self, rows: Sequence[int]) -> tuple[Tensor, ...]:
        """The tensors of these rows, in their order: first dimension ``len(rows)``.

        Raises:
            IndexError: a row that does not exist.
        """
        for row in rows:
            if not 0 <= row < self.rows:
                raise IndexError(f"row {row} of {self.rows}")
        with self._lock:
            chunks = {number: self._chunk(number) for number in sorted({row // self.chunk for row in rows})}
        picked = [[part[row % self.chunk] for part in chunks[row // self.chunk]] for row in rows]
        return tuple(torch.stack(column) for column in zip(*picked, strict=True))

    def _chunk(self, number: int) -> tuple[Tensor, ...]:
        if number in self._chunks:
            return self._chunks[number]
        first = number * self.chunk
        with torch.no_grad():
            result = tuple(part.detach() for part in self.compute(range(first, min(first + self.chunk, self.rows))))
        size = sum(part.numel() * part.element_size() for part in result)
        if self.bytes + size <= self.limit:
            self._chunks[number] = result
            self.bytes += size
        return result
