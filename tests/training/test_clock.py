from __future__ import annotations

import json

import pytest

from rebus.training.batches import AHEAD
from rebus.training.clock import StepClock, TimeClock


class World:
    """Time that passes only when told to."""

    def __init__(self):
        self.time = 100.0

    def now(self):
        return self.time


def run(world, clock, step_seconds, event_seconds, first=0, stop_at=None):
    """What the loop does with a clock, without a model; gives (steps, progress seen at each)."""
    step, seen = first, {}
    while not clock.finished(step) and step != stop_at:
        if clock.tenth(step):
            world.time += event_seconds
            clock.note_event(event_seconds)
        line = clock.propose(step)
        ahead = [clock.progress(step + more) for more in range(AHEAD + 1)]
        if line:
            clock.adopt(line)
        if not clock.lines[-1].end:  # what was promised to the batches being made has not changed
            assert ahead == [clock.progress(step + more) for more in range(AHEAD + 1)]
        seen[step] = clock.progress(step)
        seconds = step_seconds(step) if callable(step_seconds) else step_seconds
        world.time += seconds
        clock.note_step(seconds)
        step += 1
    if stop_at is None:
        world.time += event_seconds
    return step, seen


def test_counted_steps():
    clock = StepClock(7)
    assert [clock.progress(step) for step in (0, 7, 9)] == [0.0, 1.0, 1.0]
    assert clock.middle(0) > 0
    assert not clock.finished(6)
    assert clock.finished(7)
    crossed = [step for step in range(1, 101) if StepClock(100).tenth(step)]
    assert crossed == list(range(10, 101, 10))


@pytest.mark.parametrize(
    ("step_seconds", "event_seconds"),
    [(1.0, 0.0), (0.25, 8.0), (lambda step: 0.5 + step / 200, 5.0), (lambda step: 3.0 if step % 7 == 0 else 0.3, 2.0)],
)
def test_progress_ends_at_the_deadline(tmp_path, step_seconds, event_seconds):
    world = World()
    clock = TimeClock(300.0, tmp_path / "plan.jsonl", now=world.now)
    step, seen = run(world, clock, step_seconds, event_seconds)
    assert 280 <= world.time - 100 <= 303
    assert clock.progress(step) > 0.95
    values = list(seen.values())
    assert values == sorted(values)


def test_a_machine_slower_than_any_plan_still_stops(tmp_path):
    world = World()
    run(world, TimeClock(60.0, tmp_path / "plan.jsonl", now=world.now), 25.0, 0.0)
    assert world.time - 100 <= 60 + 2 * 25


def test_a_resume_replays_the_plan(tmp_path):
    path, world = tmp_path / "plan.jsonl", World()
    step, seen = run(world, TimeClock(100.0, path, now=world.now), 0.5, 1.0, stop_at=150)
    assert step == 150
    again, other = TimeClock(100.0, path, used=50.0, now=World().now), World()
    again.now, again.started = other.now, other.time - 50.0
    _, replayed = run(other, again, 0.7, 1.0, first=100, stop_at=150)
    assert replayed == {step: value for step, value in seen.items() if step >= 100}


def test_a_line_cut_short_never_counted(tmp_path):
    path, world = tmp_path / "plan.jsonl", World()
    run(world, TimeClock(100.0, path, now=world.now), 0.5, 0.0, stop_at=60)
    before = TimeClock(100.0, path, now=world.now)
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"step": 63, "progress": 0.9, "ra')
    after = TimeClock(100.0, path, now=world.now)
    assert after.lines == before.lines
    assert all(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())


def test_the_end_is_remembered(tmp_path):
    path, world = tmp_path / "plan.jsonl", World()
    step, _ = run(world, TimeClock(20.0, path, now=world.now), 1.0, 0.0)
    assert TimeClock(20.0, path, now=world.now).finished(step)
    assert not TimeClock(20.0, path, now=world.now).finished(step - 3)
