"""What a person sees while a run goes on: a panel in a terminal, a bar in a notebook, plain lines elsewhere."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text


@dataclass
class Status:
    """The figures shown.

    Attributes:
        step: updates made.
        progress: 0 to 1.
        loss: running mean.
        rate: units a second.
        unit: what is counted: examples, tokens.
        left: seconds to the end.
        watched: the validation figure, such as ``accuracy 0.812 (best)``.
        sample: the last sample answer.
    """

    step: int = 0
    progress: float = 0.0
    loss: float = float("nan")
    rate: float = 0.0
    unit: str = "examples"
    left: float = 0.0
    watched: str = ""
    sample: str = ""


class Display:
    """Shows nothing but notes; what the other displays are built on.

    Args:
        console: where to print.
        quiet: print not even notes.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self.console, self.quiet, self.status = console, quiet, Status()

    def update(self, status: Status) -> None:
        """New figures."""
        self.status = status

    def note(self, text: str) -> None:
        """A sentence that stays."""
        if not self.quiet:
            self.console.print(Text(text), soft_wrap=not self.console.is_terminal)

    def validated(self, text: str) -> None:
        """A line about a validation that stays."""
        self.note(text)

    def close(self) -> None:
        """The end of the display; what was noted stays."""


class PlainDisplay(Display):
    """A line now and then, for logs.

    Args:
        console: where to print.
        every: seconds between lines.
        now: a clock in seconds.
    """

    def __init__(self, console: Console, *, every: float = 10.0, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console)
        self.every, self.now, self._last = every, now, now()

    def update(self, status: Status) -> None:
        """New figures; printed where ``every`` seconds have passed."""
        super().update(status)
        if self.now() - self._last >= self.every:
            self._last = self.now()
            self.note(line_of(status))


class LiveDisplay(Display):
    """A panel at the foot of the terminal that renews itself; notes scroll above it."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._live = Live(console=console, refresh_per_second=4, transient=True, get_renderable=self._panel)
        self._live.start()

    def close(self) -> None:
        """Take the panel away."""
        self._live.stop()

    def _panel(self) -> RenderableType:
        status = self.status
        bar = Table.grid(padding=(0, 1), expand=True)
        bar.add_column(ratio=1)
        bar.add_column(justify="right", no_wrap=True)
        bar.add_row(ProgressBar(total=1.0, completed=status.progress), f"{status.progress:4.0%}")
        rows: list[RenderableType] = [bar, Text(line_of(status))]
        if status.sample:
            rows.append(Text(status.sample, style="italic", overflow="ellipsis"))
        return Group(*rows)


class NotebookDisplay(Display):
    """A bar under the cell that renews itself; notes stay above it."""

    def __init__(self, console: Console, *, now: Callable[[], float] = time.monotonic) -> None:
        shown: Any = importlib.import_module("IPython.display")  # untyped, and there in notebooks only
        super().__init__(console)
        self.now, self._last, self._html = now, now(), shown.HTML
        self._handle = shown.display(shown.HTML(""), display_id=True)

    def update(self, status: Status) -> None:
        """New figures; shown at most twice a second."""
        super().update(status)
        if self.now() - self._last >= 0.5:
            self._last = self.now()
            line = escape("  ".join(filter(None, (line_of(status), status.sample))))
            self._handle.update(self._html(f'<progress max="1" value="{status.progress:.4f}"></progress> {line}'))

    def close(self) -> None:
        """Take the bar away."""
        self._handle.update(self._html(""))


def choose_display(console: Console, *, quiet: bool) -> Display:
    """A bar in a notebook, the live panel in a terminal, lines where there is neither, silence where asked for."""
    if quiet:
        return Display(console, quiet=True)
    if console.is_jupyter:
        return NotebookDisplay(console)
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)


def line_of(status: Status) -> str:
    """The figures in one line."""
    words = [
        f"step {status.step}",
        f"{status.progress:.0%}",
        f"loss {status.loss:.3f}",
        f"{status.rate:,.0f} {status.unit}/s",
        f"{clock_time(status.left)} left",
        status.watched,
    ]
    return "  ".join(word for word in words if word)


def clock_time(seconds: float) -> str:
    """Seconds as ``4:05`` or ``2:03:04``."""
    whole = max(round(seconds), 0)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
