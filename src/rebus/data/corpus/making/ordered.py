"""Work handed to several processes whose results come back in order, a bounded number at a time.

It does not know what the work is. Results may not depend on how many processes there are.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from rebus.child import begin_child
from rebus.errors import DataError, RebusError, RecipeError, RunError

T = TypeVar("T")
R = TypeVar("R")
_AHEAD = 2  # pieces of work a process has waiting
_work: Callable[[Any], Any] | None = None  # in a process: what it was forked with


def in_order(work: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """``map(work, items)`` by forked processes.

    Args:
        work: any function; it is inherited, not sent.
        items: read only as far ahead as is needed to keep the processes busy.
        workers: processes; below 2: this one, where a tokenizer may use threads of its own.

    Raises:
        RebusError: what ``work`` raised.
        RecipeError: the system cannot fork (Windows).
        RunError: a process was ended from outside.
    """
    if workers < 2:
        yield from map(work, items)
        return
    if "fork" not in multiprocessing.get_all_start_methods():
        raise RecipeError("data.workers", "0 on a system without fork", str(workers), "set it to 0")
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # threads do not survive a fork, and the processes are enough
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("fork"), initializer=_begin, initargs=(work, os.getpid())
    )
    waiting: deque[Future[Any]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(_call, item))
            if len(waiting) > _AHEAD * workers:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())
    except BrokenProcessPool as error:
        raise RunError(
            "data.workers",
            "processes that work to the end",
            "one that was ended, perhaps for want of memory",
            "start it again: it goes on where it was; with a smaller data.workers if it happens again",
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before


def _begin(work: Callable[[Any], Any], parent: int) -> None:
    global _work
    _work = work
    begin_child(parent)


def _call(item: Any) -> Any:
    assert _work is not None  # noqa: S101 - set when the process began
    try:
        return _work(item)
    except RebusError as error:  # its four parts travel, the object does not
        return _Failed(error.as_dict())


class _Failed:
    def __init__(self, parts: dict[str, str]) -> None:
        self.parts = parts


def _result(future: Future[Any]) -> Any:
    result = future.result()
    if isinstance(result, _Failed):
        raise DataError(**result.parts)
    return result
