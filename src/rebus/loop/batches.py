"""Batches made ahead in a thread, moved to a device. Knows nothing of what a batch holds."""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

AHEAD = 2  # batches prepared beyond the one in use


class Prefetcher:
    """Calls ``make(step)`` for the next steps in one background thread, in order.

    While the step computes, the next two batches are made. ``make`` must be a pure function of the step: it
    must not use the global random state of torch, which the step is using at the same time.

    Args:
        make: step -> batch.
        first: the first step asked for.
        last: no batch is made for this step and beyond; None: no end.
    """

    def __init__(self, make: Callable[[int], Any], first: int, last: int | None = None) -> None:
        self._wanted: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._made: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = queue.SimpleQueue()
        self._make, self._last, self._asked = make, last, first
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="rebus-batches", daemon=True)
        self._thread.start()

    def get(self, step: int) -> Any:
        """The batch of ``step``; steps are asked for one after the other. Raises what ``make`` raised."""
        while self._asked <= step + AHEAD and (self._last is None or self._asked < self._last):
            self._wanted.put(self._asked)
            self._asked += 1
        result, batch, error = self._made.get()
        if error is not None:
            raise error
        if result != step:
            raise RuntimeError(f"batch {step} was asked for after batch {result}: steps follow each other")
        return batch

    def close(self) -> None:
        """Stop the thread once it has finished the batch in hand."""
        self._closed = True
        self._wanted.put(None)
        self._thread.join(timeout=10)

    def _work(self) -> None:
        while (step := self._wanted.get()) is not None:
            if self._closed:
                return
            try:
                self._made.put((step, self._make(step), None))
            except BaseException as error:  # handed to the thread that waits for this batch
                self._made.put((step, None, error))
                return


def map_tensors(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same nest of dicts, lists, tuples and dataclasses with every tensor changed; other values as they are."""
    if isinstance(batch, Tensor):
        return change(batch)
    if isinstance(batch, dict):
        return {key: map_tensors(value, change) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(map_tensors(value, change) for value in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(map_tensors(value, change) for value in batch)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        fields = (field.name for field in dataclasses.fields(batch) if field.init)
        return dataclasses.replace(batch, **{name: map_tensors(getattr(batch, name), change) for name in fields})
    return batch


def to_device(batch: Any, device: torch.device) -> Any:
    """Every tensor of a nested batch on ``device``; nothing is copied where it is there already."""
    if device.type == "cpu":
        return batch
    return map_tensors(batch, lambda tensor: tensor.to(device, non_blocking=True))
