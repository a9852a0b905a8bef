"""Threads that share the model's work out fairly: jobs are made of portions, and users take turns portion by portion.

It knows no protocol and no model. A job whose future is cancelled does no further portion.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rebus.errors import EngineClosedError

T = TypeVar("T")
Portions = Generator[None, None, T]  # a pause after each portion; what it returns is the job's result


def once(work: Callable[..., T], *args: Any, **kwargs: Any) -> Portions[T]:
    """A job of one portion."""
    yield from ()
    return work(*args, **kwargs)


@dataclass(eq=False)
class _Job:
    portions: Portions[Any]
    future: Future[Any] = field(default_factory=Future)

    def portion(self) -> bool:
        """Do one; gives whether there are more."""
        if self.future.cancelled():
            self.portions.close()
            return False
        try:
            next(self.portions)
            return True
        except StopIteration as end:
            with suppress(InvalidStateError):  # cancelled meanwhile
                self.future.set_result(end.value)
        except BaseException as error:
            with suppress(InvalidStateError):
                self.future.set_exception(error)
        return False


class Turns(Executor):
    """A few threads and a queue in which each user's next portion waits behind the other users' next portions.

    Args:
        threads: how many portions are done at once.
        name: of the threads.

    Attributes:
        closed: whether it takes no more jobs.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._threads, self._name, self._started = threads, name, 0
        self._waiting: OrderedDict[str, deque[_Job]] = OrderedDict()
        self._ready = threading.Condition()
        self.closed = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """A job of one portion."""
        return self.begin(once(fn, *args, **kwargs), "")

    def begin(self, portions: Portions[T], user: str) -> Future[T]:
        """A job; cancelling its future ends it after the portion that is being done.

        Raises:
            EngineClosedError: the threads are stopped.
        """
        job = _Job(portions)
        with self._ready:
            if self.closed:
                raise EngineClosedError("the server", "a job while it runs", "one after its end", "start it again")
            self._put(user, job)
            if self._started < self._threads:
                threading.Thread(target=self._run, name=f"{self._name}-{self._started}", daemon=True).start()
                self._started += 1
        return job.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs. Portions that are being done end; with ``cancel_futures`` no other begins."""
        with self._ready:
            self.closed = True
            if cancel_futures:
                for jobs in self._waiting.values():
                    for job in jobs:
                        job.future.cancel()
            self._ready.notify_all()

    def _put(self, user: str, job: _Job) -> None:
        self._waiting.setdefault(user, deque()).append(job)
        self._ready.notify()

    def _run(self) -> None:
        while True:
            with self._ready:
                while not self._waiting:
                    if self.closed:
                        return
                    self._ready.wait()
                user, jobs = self._waiting.popitem(last=False)
                job = jobs.popleft()
                if jobs:
                    self._waiting[user] = jobs  # behind all other users
            if job.portion():
                with self._ready:
                    self._put(user, job)
            del job
