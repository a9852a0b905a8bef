"""Work in portions: users take turns, and what nobody waits for is not done."""

from __future__ import annotations

import threading
import time

import pytest

from rebus.errors import EngineClosedError
from rebus.serve.turns import Portions, Turns, once


@pytest.fixture
def gate() -> threading.Event:
    """What the first job waits for, so that the others queue behind it."""
    return threading.Event()


def held(turns: Turns, gate: threading.Event) -> None:
    started = threading.Event()

    def wait() -> None:
        started.set()
        assert gate.wait(10)

    turns.submit(wait)
    assert started.wait(10)


def test_a_short_job_waits_for_one_portion_of_each_other_user(gate: threading.Event) -> None:
    turns, done = Turns(1, "test"), []

    def job(name: str, portions: int) -> Portions[str]:
        for _ in range(portions):
            done.append(name)
            yield
        return name

    held(turns, gate)
    jobs = [
        turns.begin(job("long", 50), "a"),
        turns.begin(job("also long", 50), "a"),
        turns.begin(job("short", 1), "b"),
    ]
    gate.set()
    assert [one.result(10) for one in jobs] == ["long", "also long", "short"]
    assert done.index("short") == 1
    assert "also long" in done[:4]  # two jobs of one user take turns too


def test_a_job_that_nobody_waits_for_does_no_further_portion(gate: threading.Event) -> None:
    turns, done, closed = Turns(1, "test"), [], threading.Event()

    def job() -> Portions[None]:
        try:
            while True:
                done.append(1)
                time.sleep(0.005)
                yield
        finally:
            closed.set()

    future = turns.begin(job(), "a")
    while not done:
        time.sleep(0.001)
    assert future.cancel()
    assert closed.wait(10)
    count = len(done)
    assert turns.submit(lambda: len(done)).result(10) == count


def test_errors_and_results_come_through_and_a_stopped_queue_takes_nothing(gate: threading.Event) -> None:
    turns = Turns(2, "test")
    assert turns.begin(once(max, 1, 2), "a").result(10) == 2
    with pytest.raises(ZeroDivisionError):
        turns.submit(lambda: 1 / 0).result(10)
    held(turns, gate)
    held(turns, gate)
    waiting = turns.submit(print)
    turns.shutdown(cancel_futures=True)
    gate.set()
    assert waiting.cancelled()
    with pytest.raises(EngineClosedError):
        turns.submit(print)
