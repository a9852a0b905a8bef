"""How far a long call is: a bar in a terminal or a notebook, a line now and then elsewhere, nothing unless asked for.

Code that works through rows calls ``track``; whoever wants it seen wraps the call in ``shown``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_EVERY = 10.0  # seconds between lines where there is no terminal
Advance = Callable[[int], None]
_visible: ContextVar[bool] = ContextVar("visible", default=False)
_outer: ContextVar[Advance | None] = ContextVar("outer", default=None)  # of the call that is tracked around this one


@contextmanager
def shown(wanted: bool = True) -> Iterator[None]:
    """What ``track`` counts inside is shown on stderr."""
    token = _visible.set(wanted)
    try:
        yield
    finally:
        _visible.reset(token)


@contextmanager
def track(label: str, total: int, console: Console | None = None) -> Iterator[Advance]:
    """Count towards ``total``; gives a function to call with how many items were done since the last call.

    Inside another ``track`` it is the outer one's count that goes up.

    Args:
        label: what is being done.
        total: items.
        console: where to print; None: stderr.
    """
    outer = _outer.get()
    if outer is not None or not _visible.get():
        yield outer or (lambda count: None)
        return
    with _counting(label, total, console) as advance:
        token = _outer.set(advance)
        try:
            yield advance
        finally:
            _outer.reset(token)


@contextmanager
def _counting(label: str, total: int, console: Console | None) -> Iterator[Advance]:
    console = console or Console(stderr=True, highlight=False)
    if console.is_terminal or console.is_jupyter:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=not console.is_jupyter) as bar:
            task = bar.add_task(label, total=total)
            yield lambda count: bar.advance(task, count)
        return
    done, last = 0, time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        if time.monotonic() - last >= _EVERY:
            last = time.monotonic()
            console.print(f"{label}: {done:,} of {total:,}", markup=False, soft_wrap=True)

    yield advance
