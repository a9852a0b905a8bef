from __future__ import annotations

import itertools
import json

import pytest

from rebus.loop import clock as clocks
from rebus.loop.batches import AHEAD
from rebus.loop.clock import StepClock, TimeClock


@pytest.fixture(autouse=True)
def _unsynced(monkeypatch):
    append = clocks.append_line
    monkeypatch.setattr(clocks, "append_line", lambda path, text, sync: append(path, text))


class World:
    """Time that passes only when told to, and a machine whose steps, validations and checkpoints take some of it."""

    def __init__(self, step=1.0, per_row=0.0, save=0.0, rows=512, overhead=0.0):
        self.time = self.begun = 100.0
        self.step, self.per_row, self.save, self.rows, self.overhead = step, per_row, save, rows, overhead
        self.validating = 0.0
        self.validations = 0
        self.looked_at = None

    def now(self):
        return self.time

    def spend(self, seconds):
        self.time += seconds
        return seconds

    def validate(self, rows):
        cost = self.per_row(self.time - self.begun) if callable(self.per_row) else self.per_row
        return self.spend(cost * rows + self.overhead)

    @property
    def used(self):
        return self.time - self.begun

    def event(self, clock, step, last=False):
        """What the loop does at an event."""
        start = self.time
        if self.per_row and self.looked_at is None:
            self.looked_at = clock.validation_rows(self.rows, self.validate, last)
        elif last and self.looked_at:
            self.looked_at = clock.last_rows(self.looked_at)
        if self.looked_at:
            spent = self.validate(self.looked_at)
            clock.note_validation(step, spent, self.time - start)
            self.validations += 1
        self.validating += self.time - start
        if self.save:
            clock.note_save(step, self.spend(self.save))

    def run(self, clock, first=0, stop_at=None, processes=1):
        """What the loop does with a clock, without a model; gives (steps, progress seen at each)."""
        step, seen, validated = first, {}, None
        while step != stop_at:
            if processes == 1 and (line := clock.propose(step)):
                clock.adopt(line)
            if clock.finished(step):
                if validated != step:
                    self.event(clock, step, last=True)
                break
            if clock.event_due(step) and clock.affords(step):
                self.event(clock, step)
                validated = step
            line = clock.propose(step, end_at=step + 1) if processes > 1 else None
            ahead = [clock.progress(step + more) for more in range(AHEAD + 1)]
            if line:
                clock.adopt(line)
            if not clock.lines[-1].end:  # what was promised to the batches being made has not changed
                assert ahead == [clock.progress(step + more) for more in range(AHEAD + 1)]
            seen[step] = clock.progress(step)
            clock.note_step(self.spend(self.step(step, self.used) if callable(self.step) else self.step))
            step += 1
        return step, seen


def test_counted_steps():
    clock = StepClock(7)
    assert [clock.progress(step) for step in (0, 7, 9)] == [0.0, 1.0, 1.0]
    assert clock.middle(0) > 0
    assert not clock.finished(6)
    assert clock.finished(7)
    crossed = [step for step in range(1, 101) if StepClock(100).event_due(step)]
    assert crossed == list(range(10, 101, 10))


# of the limit: a step, a validation of all rows, a checkpoint
COMBINATIONS = [
    *itertools.product((0.0008, 0.004, 0.02), (0.0002, 0.01, 0.04, 0.12, 0.6), (0.0, 0.004, 0.03)),
    (0.04, 0.25, 0.1),
    (0.002, 3.0, 0.01),
]
assert len(COMBINATIONS) > 40


@pytest.mark.parametrize("number", range(len(COMBINATIONS)))
def test_a_limit_is_used_and_validations_take_a_tenth_at_most(tmp_path, number):
    step, validation, save = COMBINATIONS[number]
    limit = (6.0, 180.0, 36_000.0)[number % 3]
    world = World(step * limit, validation * limit / 512, save * limit)
    clock = TimeClock(limit, tmp_path / "plan.jsonl", now=world.now)
    steps, seen = world.run(clock)
    assert 0.95 * limit <= world.used <= limit
    assert world.validating <= 0.1 * limit
    assert world.validations >= 1
    assert clock.progress(steps) == 1.0
    assert list(seen.values()) == sorted(seen.values())
    assert max(seen.values()) > 0.8, "the learning rate follows progress: it has to come near its end"


def noise(step):
    return 0.6 + 0.8 * ((step * 7919) % 101) / 100


MACHINES = {
    "the first step compiles": {"step": lambda step, used: 40.0 if step == 0 else 0.2},
    "two steps compile": {"step": lambda step, used: 30.0 if step < 2 else 0.2},
    "steps become slower": {"step": lambda step, used: 0.1 + used / 200},
    "steps become faster": {"step": lambda step, used: 2.0 - used / 170},
    "another process begins": {"step": lambda step, used: 0.2 if used < 150 else 1.0},
    "another process ends": {"step": lambda step, used: 1.0 if used < 150 else 0.2},
    "the machine pauses": {"step": lambda step, used: 60.0 if step == 300 else 0.2},
    "every seventh is slow": {"step": lambda step, used: 3.0 if step % 7 == 0 else 0.3},
    "steps vary": {"step": lambda step, used: noise(step)},
    "validations become slower": {"step": 0.3, "per_row": lambda used: 0.004 + used / 20_000},
    "validations become faster": {"step": 0.3, "per_row": lambda used: 0.05 - used / 6_500},
    "a validation has a cost of its own": {"step": 0.3, "per_row": 0.001, "overhead": 2.0},
}


@pytest.mark.parametrize("machine", MACHINES)
def test_a_limit_is_used_on_a_machine_that_changes(tmp_path, machine):
    world = World(**{"per_row": 0.01, "save": 0.5, **MACHINES[machine]})
    _, seen = world.run(TimeClock(300.0, tmp_path / "plan.jsonl", now=world.now))
    assert 0.95 * 300 <= world.used <= 300
    assert world.validating <= 30
    assert world.validations >= 1
    values = list(seen.values())
    assert values == sorted(values)
    assert values[-1] > 0.85
    times = [values[len(values) // 4], values[len(values) // 2]]
    assert times[0] < 0.75, "progress follows the time that is left, whatever the first steps took"


def test_a_validation_of_all_rows_is_kept_where_fewer_validations_are_enough(tmp_path):
    world = World(0.1, 2.0 / 512)  # ten of them were a fifteenth of the limit of 300 seconds, eighty a half
    world.run(TimeClock(300.0, tmp_path / "a", now=world.now))
    assert (world.looked_at, world.validations) == (512, 10)
    world = World(0.1, 5.0 / 512)
    world.run(TimeClock(300.0, tmp_path / "b", now=world.now))
    assert world.looked_at == 512
    assert 3 <= world.validations <= 5
    world = World(0.1, 50.0 / 512)
    world.run(TimeClock(300.0, tmp_path / "c", now=world.now))
    assert 40 <= world.looked_at <= 80


def test_no_validation_where_none_fits(tmp_path):
    world = World(1.0, 8.0)
    world.run(TimeClock(100.0, tmp_path / "plan.jsonl", now=world.now))
    assert (world.looked_at, world.validations) == (0, 0)
    assert world.validating <= 10
    assert 95 <= world.used <= 100


@pytest.mark.parametrize("processes", [1, 2])
def test_a_step_longer_than_the_limit_is_the_only_one(tmp_path, processes):
    world = World(70.0)
    steps, _ = world.run(TimeClock(60.0, tmp_path / "plan.jsonl", now=world.now), processes=processes)
    assert steps == processes  # several processes agree on the end one step later


def test_several_processes_end_in_time_too(tmp_path):
    world = World(0.7, 0.001, 0.2)
    world.run(TimeClock(60.0, tmp_path / "plan.jsonl", now=world.now), processes=2)
    assert 55 <= world.used <= 60


def test_a_resume_replays_the_plan(tmp_path):
    path, world = tmp_path / "plan.jsonl", World(0.5, 0.002, 0.1)
    step, seen = world.run(TimeClock(100.0, path, now=world.now), stop_at=150)
    assert step == 150
    other = World(0.7, 0.002, 0.1)
    again = TimeClock(100.0, path, used=50.0, now=other.now)
    _, replayed = other.run(again, first=100, stop_at=150)
    assert replayed == {step: value for step, value in seen.items() if step >= 100}


def test_a_resume_validates_at_the_same_steps(tmp_path):
    path, world = tmp_path / "plan.jsonl", World(0.5, 0.006, 0.1)
    clock = TimeClock(100.0, path, now=world.now)
    steps, _ = world.run(clock)
    again = TimeClock(100.0, path, now=world.now)
    due = [step for step in range(1, steps) if clock.event_due(step)]
    assert due == [step for step in range(1, steps) if again.event_due(step)]
    assert again.lines == clock.lines


def test_a_line_cut_short_never_counted(tmp_path):
    path, world = tmp_path / "plan.jsonl", World(0.5)
    world.run(TimeClock(100.0, path, now=world.now), stop_at=60)
    before = TimeClock(100.0, path, now=world.now)
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"step": 63, "progress": 0.9, "ra')
    after = TimeClock(100.0, path, now=world.now)
    assert after.lines == before.lines
    assert all(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())


def test_the_end_is_remembered(tmp_path):
    path, world = tmp_path / "plan.jsonl", World(1.0)
    step, _ = world.run(TimeClock(20.0, path, now=world.now))
    assert TimeClock(20.0, path, now=world.now).finished(step)
    assert not TimeClock(20.0, path, now=world.now).finished(step - 3)
