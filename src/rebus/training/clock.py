"""How far a run is: progress from 0 to 1 as a function of the step number, by count or by the clock.

With a count of steps, progress is step / total. With a time limit it grows by a rate that is planned again from
measured times, so that it reaches 1 at the deadline. Each plan is on disk (plan.jsonl, fsynced) before it takes
effect, and takes effect only beyond the batches already being prepared; a resume replays the lines, so that
progress is the same function of the step number as before. Knows no model.
"""

from __future__ import annotations

import json
import math
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from rebus import atomic
from rebus.errors import RecipeError
from rebus.training.batches import AHEAD
from rebus.training.lines import append_line

EVERY = 25  # steps between plans, at most
_FIRST_RATE = 1 / 2000  # before anything has been measured
_DONE = 1.0 - 1e-9


@dataclass(frozen=True)
class Line:
    """From ``step`` on, progress is ``progress + (s - step) * rate``; ``end`` stops the run at ``step``."""

    step: int
    progress: float
    rate: float
    end: bool = False


class StepClock:
    """Progress of a run of a known number of steps."""

    def __init__(self, total: int, events: int = 10) -> None:
        self.total, self.events = total, events

    def progress(self, step: int) -> float:
        """Share done before ``step``, 0 to 1."""
        return min(step / self.total, 1.0)

    def middle(self, step: int) -> float:
        """Share done halfway through ``step``: what the learning rate follows, never 0."""
        return min((step + 0.5) / self.total, 1.0)

    def finished(self, step: int) -> bool:
        """Whether the run is over before ``step``."""
        return step >= self.total

    def tenth(self, step: int) -> bool:
        """Whether the step before ``step`` crossed into another tenth of the run."""
        return step > 0 and step * self.events // self.total > (step - 1) * self.events // self.total

    def propose(self, step: int) -> Line | None:
        """Nothing to plan."""
        return None

    def adopt(self, line: Line) -> None:
        """Nothing to adopt."""

    def note_step(self, seconds: float) -> None:
        """Times change nothing."""

    def note_event(self, seconds: float) -> None:
        """Times change nothing."""

    def seconds_left(self, step: int, per_step: float) -> float:
        """An estimate, from the seconds a step has taken of late."""
        return max(self.total - step, 0) * per_step


class TimeClock:
    """Progress of a run with a deadline.

    The time of validations and checkpoints counts: the mean of those seen is set aside for those still to come.
    The run stops at the step after which the limit would be passed, whatever the plan said.

    Args:
        limit: seconds.
        path: plan.jsonl; its lines, if any, are replayed.
        used: seconds used before this session.
        events: how many validations and checkpoints a run has.
        now: a clock in seconds.
        writes: whether this process writes the plan.
    """

    def __init__(
        self,
        limit: float,
        path: Path,
        *,
        used: float = 0.0,
        events: int = 10,
        now: Callable[[], float] = time.monotonic,
        writes: bool = True,
    ) -> None:
        self.limit, self.path, self.events, self.now, self.writes = limit, path, events, now, writes
        self.started = now() - used
        self.lines = _read(path, writes) or [Line(0, 0.0, _FIRST_RATE)]
        self._step_seconds, self._steps_seen = 0.0, 0
        self._event_seconds = 0.0
        self._planned_at = -math.inf

    def progress(self, step: int) -> float:
        """Share done before ``step``, 0 to 1."""
        return self._at(step, 0.0)

    def middle(self, step: int) -> float:
        """Share done halfway through ``step``: what the learning rate follows, never 0."""
        return self._at(step, 0.5)

    def finished(self, step: int) -> bool:
        """Whether the run is over before ``step``."""
        return self.progress(step) >= _DONE or (self.lines[-1].end and step >= self.lines[-1].step)

    def tenth(self, step: int) -> bool:
        """Whether the step before ``step`` crossed into another tenth of the run."""
        return step > 0 and int(self.progress(step) * self.events) > int(self.progress(step - 1) * self.events)

    def propose(self, step: int) -> Line | None:
        """A new plan where one is due; on disk when this returns. It counts only once adopted."""
        last = self.lines[-1]
        if not self.writes or last.end or self._step_seconds == 0.0:
            return None
        elapsed = self.now() - self.started
        if elapsed + self._event_seconds + self._step_seconds >= self.limit:
            return self._write(Line(step + 1, self.progress(step + 1), 0.0, end=True))
        start = step + AHEAD + 1
        if start <= last.step:  # replaying
            return None
        if step - last.step < EVERY and self.now() - self._planned_at < 0.02 * self.limit:
            return None
        done = self.progress(start)
        to_come = max(1, self.events - int(done * self.events))
        left = self.limit - elapsed - to_come * self._event_seconds - (start - step) * self._step_seconds
        steps = max(left / self._step_seconds, 1.0)
        self._planned_at = self.now()
        return self._write(Line(start, done, max(1.0 - done, 0.0) / steps))

    def adopt(self, line: Line) -> None:
        """From now on this line counts."""
        if line.end:
            self.lines = [one for one in self.lines if one.step < line.step]
        self.lines.append(line)

    def note_step(self, seconds: float) -> None:
        """Take the seconds of a step into the running mean."""
        self._steps_seen += 1
        self._step_seconds += (seconds - self._step_seconds) / min(self._steps_seen, 20)

    def note_event(self, seconds: float) -> None:
        """Take the seconds of a validation with its checkpoint into the running mean."""
        weight = 1.0 if self._event_seconds == 0.0 else 0.5
        self._event_seconds += weight * (seconds - self._event_seconds)

    def seconds_left(self, step: int, per_step: float) -> float:
        """Until the deadline."""
        return max(self.limit - (self.now() - self.started), 0.0)

    def _at(self, step: int, offset: float) -> float:
        line = self.lines[max(bisect_right(self.lines, step, key=lambda one: one.step) - 1, 0)]
        return min(line.progress + (step - line.step + offset) * line.rate, 1.0)

    def _write(self, line: Line) -> Line:
        append_line(self.path, json.dumps(asdict(line)), sync=True)
        return line


def make_clock(
    total: int | None, minutes: float | None, path: Path, *, used: float, writes: bool
) -> StepClock | TimeClock:
    """The clock of a run of ``total`` steps, or of so many minutes.

    Raises:
        RecipeError: neither is known.
    """
    if total is not None:
        return StepClock(total)
    if minutes is None:
        raise RecipeError("train", "steps, epochs or time_limit", "none of them", "set one, e.g. --set train.epochs=10")
    return TimeClock(60 * minutes, path, used=used, writes=writes)


def due(step: int, every: int, clock: StepClock | TimeClock, finished: bool) -> bool:
    """Whether something that happens every so many steps happens before ``step``; 0: ten times a run."""
    if step == 0:
        return False
    return finished or (step % every == 0 if every else clock.tenth(step))


def _read(path: Path, repair: bool) -> list[Line]:
    """The whole lines of a plan; a last line cut short by a kill never took effect and is taken out."""
    if not path.exists():
        return []
    lines: list[Line] = []
    for line in _whole_lines(path):
        if line.end:
            lines = [one for one in lines if one.step < line.step]
        lines.append(line)
    if repair:
        atomic.write_text(path, "".join(json.dumps(asdict(line)) + "\n" for line in lines))
    if lines and lines[0].step > 0:
        lines.insert(0, Line(0, 0.0, _FIRST_RATE))
    return lines


def _whole_lines(path: Path) -> list[Line]:
    found = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(Line(**json.loads(text)))
        except (ValueError, TypeError):
            break
    return found
