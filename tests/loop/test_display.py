from __future__ import annotations

import io

from rich.console import Console

from rebus.loop.progress import LiveDisplay, PlainDisplay, Status, choose_display, clock_time

STATUS = Status(
    step=12, progress=0.25, loss=1.5, rate=320.0, left=185.0, watched="accuracy 0.700 (best)", sample="a dog"
)


def test_a_line_every_few_seconds_where_there_is_no_terminal():
    console, times = Console(file=io.StringIO(), width=200), iter([0.0, 3.0, 11.0, 11.0, 12.0])
    display = PlainDisplay(console, every=10.0, now=lambda: next(times))
    for _ in range(3):
        display.update(STATUS)
    lines = console.file.getvalue().splitlines()
    assert lines == ["step 12  25%  loss 1.500  320 examples/s  3:05 left  accuracy 0.700 (best)"]


def test_a_terminal_gets_a_panel_with_the_sample():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    display = choose_display(console, quiet=False)
    assert isinstance(display, LiveDisplay)
    display.update(STATUS)
    display._live.refresh()
    display.note("saved [brackets] kept")
    display.close()
    assert "a dog" in console.file.getvalue()
    assert "[brackets]" in console.file.getvalue()


def test_quiet_is_quiet():
    console = Console(file=io.StringIO(), force_terminal=True)
    display = choose_display(console, quiet=True)
    display.update(STATUS)
    display.note("nothing")
    display.close()
    assert console.file.getvalue() == ""


def test_times_read_like_a_clock():
    assert [clock_time(seconds) for seconds in (-3, 59.6, 61, 3661)] == ["0:00", "1:00", "1:01", "1:01:01"]
