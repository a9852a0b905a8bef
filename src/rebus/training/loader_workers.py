"""Batches prepared by several processes; the same batches as one process makes, in the same order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from typing import Any, Protocol

import torch

from rebus import errors
from rebus.child import begin_child
from rebus.errors import RebusError, RecipeError, RunError

Key = tuple[int, tuple[Any, ...]]  # a step, and what its batch depends on beside


class Batches(Protocol):
    """What makes batches: a function of the step and of what is trained then."""

    def kind(self, progress: float) -> tuple[Any, ...]:
        """What of the batch depends on this point of the run: the tasks that are trained, for one."""
        ...

    def parts_at(self, step: int, progress: float) -> Any:
        """The batch of a step, in its parts."""
        ...


@dataclass
class _Worker:
    process: ForkProcess
    pipe: Connection
    asked: deque[Key] = field(default_factory=deque)


class BatchBuilderPool:
    """Calls ``builder.parts_at`` ahead of time in forked processes.

    A batch is a pure function of the step and of what is trained then, so which process makes it does not
    matter. Where a task or a stage begins or ends between the asking and the using, the batch is made anew.
    The processes end with this one, however it ends.

    Args:
        builder: what makes batches.
        workers: how many processes.

    Raises:
        RecipeError: the system cannot fork (Windows).
    """

    def __init__(self, builder: Batches, workers: int) -> None:
        if "fork" not in multiprocessing.get_all_start_methods():
            raise RecipeError("data.workers", "0 on a system without fork", str(workers), "set it to 0")
        self.builder = builder
        self._workers: list[_Worker] = []
        self._made: dict[Key, Any] = {}
        context = multiprocessing.get_context("fork")
        for _ in range(workers):
            ours, theirs = context.Pipe()
            foreign = [ours, *(worker.pipe for worker in self._workers)]
            process = context.Process(target=_work, args=(builder, theirs, foreign, os.getpid()), daemon=True)
            process.start()
            theirs.close()  # so that the pipe ends with its process
            self._workers.append(_Worker(process, ours))

    def parts_at(self, step: int, progress: float) -> Any:
        """As ``BatchBuilder.parts_at``; the next steps' batches are asked for on the way.

        Raises:
            RunError: a process was ended from outside. RebusError: what ``builder.parts_at`` raised.
        """
        kind = self.builder.kind(progress)
        asked = {key for worker in self._workers for key in worker.asked}
        for later in range(step, step + len(self._workers) + 1):
            if (later, kind) not in asked and (later, kind) not in self._made:
                self._ask(later, kind, progress)
        worker = self._workers[step % len(self._workers)]
        while (step, kind) not in self._made:
            result = self._received(worker)
            self._made[worker.asked.popleft()] = result
        batch = self._made.pop((step, kind))
        self._made = {key: value for key, value in self._made.items() if key[0] > step}
        if isinstance(batch, _Failed):
            raise batch.error()
        return batch

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(timeout=5)
            if worker.process.is_alive():
                worker.process.kill()
            worker.pipe.close()

    def _ask(self, step: int, kind: tuple[Any, ...], progress: float) -> None:
        worker = self._workers[step % len(self._workers)]
        try:
            worker.pipe.send((step, progress))
        except OSError as error:
            raise _ended(worker.process) from error
        worker.asked.append((step, kind))

    def _received(self, worker: _Worker) -> Any:
        try:
            return worker.pipe.recv()
        except (EOFError, OSError) as error:
            raise _ended(worker.process) from error


@dataclass
class _Failed:
    """An exception on its way from a worker: errors of ours by their parts, others as text."""

    kind: str
    parts: dict[str, str]

    def error(self) -> Exception:
        if not self.kind:
            return RuntimeError(self.parts["text"])
        kind: type[RebusError] = getattr(errors, self.kind, RebusError)
        return (kind if kind.__init__ is RebusError.__init__ else RebusError)(**self.parts)


def _work(builder: Batches, pipe: Connection, foreign: Sequence[Connection], parent: int) -> None:
    """The life of a worker."""
    for other in foreign:
        other.close()
    begin_child(parent)
    torch.set_num_threads(1)
    while True:
        try:
            step, progress = pipe.recv()
        except (EOFError, OSError):
            return
        result: Any
        try:
            result = builder.parts_at(step, progress)
        except RebusError as error:
            result = _Failed(type(error).__name__, error.as_dict())
        except Exception:
            result = _Failed("", {"text": f"a process that prepares batches failed:\n{traceback.format_exc()}"})
        try:
            pipe.send(result)
        except OSError:  # nobody wants it any more
            return


def _ended(process: ForkProcess) -> RunError:
    process.join(timeout=5)
    code = process.exitcode
    how = f"was ended by {signal.Signals(-code).name}" if code is not None and code < 0 else f"ended with status {code}"
    return RunError(
        "data.workers",
        "processes that prepare batches to the end",
        f"that process {process.pid} {how}, perhaps for want of memory",
        "go on with `rebus train --resume RUN`; with a smaller data.workers if it happens again",
    )
