"""Batches prepared by several processes; the same batches as one process makes, in the same order."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, Protocol

import torch

from rebus.errors import RecipeError


class Feeding(Protocol):
    """What makes batches: a function of the step and of what is trained then."""

    def kind(self, progress: float) -> tuple[Any, ...]:
        """What of the batch depends on this point of the run: the tasks that are trained, for one."""
        ...

    def batch_at(self, step: int, progress: float) -> dict[str, Any]:
        """The batch of a step."""
        ...


_feed: Feeding | None = None  # in a worker: what it was forked with


class FeedPool:
    """Calls ``feed.batch_at`` ahead of time in forked processes.

    A batch is a pure function of the step and of what is trained then, so which process makes it does not
    matter. Where a task or a stage begins or ends between the asking and the using, the batch is made anew.

    Args:
        feed: what makes batches.
        workers: how many processes.

    Raises:
        RecipeError: the system cannot fork (Windows).
    """

    def __init__(self, feed: Feeding, workers: int) -> None:
        if "fork" not in multiprocessing.get_all_start_methods():
            raise RecipeError("data.workers", "0 on a system without fork", str(workers), "set it to 0")
        self.feed, self.workers = feed, workers
        self._pool = ProcessPoolExecutor(
            workers, mp_context=multiprocessing.get_context("fork"), initializer=_begin, initargs=(feed,)
        )
        self._ahead: dict[tuple[int, tuple[Any, ...]], Future[Any]] = {}

    def batch_at(self, step: int, progress: float) -> dict[str, Any]:
        """As ``Feed.batch_at``; the next steps' batches are asked for on the way."""
        kind = self.feed.kind(progress)
        for later in range(step, step + self.workers + 1):
            if (later, kind) not in self._ahead:
                self._ahead[later, kind] = self._pool.submit(_make, later, progress)
        batch: dict[str, Any] = self._ahead.pop((step, kind)).result()
        self._ahead = {key: made for key, made in self._ahead.items() if key[0] > step}
        return batch

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _begin(feed: Feeding) -> None:
    global _feed
    _feed = feed
    torch.set_num_threads(1)


def _make(step: int, progress: float) -> dict[str, Any]:
    assert _feed is not None  # noqa: S101 - set when the process began
    return _feed.batch_at(step, progress)
