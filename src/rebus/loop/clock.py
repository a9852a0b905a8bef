"""How far a run is: progress from 0 to 1 as a function of the step number, by count or by the clock.

With a count of steps, progress is step / total. With a time limit it grows by a rate that is planned again from
measured times, so that it reaches 1 at the deadline. Each plan is on disk (plan.jsonl, fsynced) before it takes
effect, and takes effect only beyond the batches already being prepared; a resume replays the lines, so that
progress is the same function of the step number as before. Knows no model.

The limit is for training: its steps, validations and checkpoints. Validations take at most a tenth of it: there are
fewer of them, or they look at fewer rows. The run ends before the step that would pass the limit, with time left for
its last validation and checkpoint, and for no other reason.
"""

from __future__ import annotations

import json
import math
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from rebus import atomic
from rebus.errors import RecipeError
from rebus.jsonl import json_lines
from rebus.loop.batches import AHEAD
from rebus.loop.lines import append_line

EVENTS = 10  # validations and checkpoints of a run, where nothing else is said
EVERY = 25  # steps between plans, at most
PART = 0.1  # of the limit: the most that validations take, and that checkpoints should take
PLANNED = 0.08  # of the limit: what is planned for validations, as some take longer than the last one did
USUAL = 4  # validations below which there are rather fewer rows
ROWS = 64  # validation rows below which there are rather fewer validations
FEW = 4  # validation rows below which a validation says nothing
TRIED = 0.04  # of the limit: what finding out how long a row takes may take
GROWTH = 1.15  # the least that a validation may take, as a multiple of the last one
_FIRST_RATE = 1 / 2000  # before anything has been measured
_DONE = 1.0 - 1e-9
_RECENT = 32  # steps whose times are remembered
_SETTLED = 8  # measured steps below which the fastest of them is believed
_SPARE = 0.005  # of the limit: what is left free at the end
_UNKNOWN = 0.05  # of the limit: what is left free for a last validation and checkpoint of unknown length


@dataclass(frozen=True)
class Line:
    """From ``step`` on, progress is ``progress + (s - step) * rate``; ``end`` stops the run at ``step``."""

    step: int
    progress: float
    rate: float
    end: bool = False


class StepClock:
    """Progress of a run of a known number of steps."""

    limit: float | None = None
    reason = "finished"

    def __init__(self, total: int, events: int = EVENTS) -> None:
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

    def event_due(self, step: int) -> bool:
        """Whether the step before ``step`` crossed into another part of the run, so that it is validated and saved."""
        return step > 0 and step * self.events // self.total > (step - 1) * self.events // self.total

    def propose(self, step: int, end_at: int | None = None) -> Line | None:
        """Nothing to plan."""
        return None

    def adopt(self, line: Line) -> None:
        """Nothing to adopt."""

    def note_step(self, seconds: float) -> None:
        """Times change nothing."""

    def note_validation(self, step: int, seconds: float, whole: float | None = None) -> None:
        """Times change nothing."""

    def note_save(self, step: int, seconds: float) -> None:
        """Times change nothing."""

    def affords(self, step: int) -> bool:
        """Whether there is time for a validation that is due before ``step``."""
        return True

    def validation_rows(self, total: int, measure: Callable[[int], float], last: bool = False) -> int:
        """How many of ``total`` rows a validation looks at: all of them."""
        return total

    def last_rows(self, rows: int) -> int:
        """How many rows the last validation looks at: as many as the others."""
        return rows

    def seconds_left(self, step: int, per_step: float) -> float:
        """An estimate, from the seconds a step has taken of late."""
        return max(self.total - step, 0) * per_step


class TimeClock:
    """Progress of a run with a deadline.

    Args:
        limit: seconds.
        path: plan.jsonl; its lines, if any, are replayed.
        used: seconds used before this session.
        validating: seconds of them that validations took.
        events: how many validations and checkpoints a run has at most.
        now: a clock in seconds.
        writes: whether this process writes the plan.
    """

    reason = "time"

    def __init__(
        self,
        limit: float,
        path: Path,
        *,
        used: float = 0.0,
        validating: float = 0.0,
        events: int = EVENTS,
        now: Callable[[], float] = time.monotonic,
        writes: bool = True,
    ) -> None:
        self.limit, self.path, self.events, self.now, self.writes = limit, path, events, now, writes
        self.started = now() - used
        self.lines = _read(path, writes) or [Line(0, 0.0, _FIRST_RATE)]
        self.validating, self.saving = validating, 0.0  # seconds in all
        self._first: float | None = None  # seconds of the session's first step, which may compile and fill caches
        self._steps: deque[float] = deque(maxlen=_RECENT)
        self._validation = self._save = 0.0  # seconds of the last of each
        self._event_at, self._growth = 0.0, GROWTH  # progress; what the next one takes, as a multiple of the last
        self._known = False  # whether it is known what a validation and a checkpoint take
        self._planned_at = -math.inf

    def progress(self, step: int) -> float:
        """Share done before ``step``, 0 to 1; 1 only once the run is over."""
        return 1.0 if self.finished(step) else min(self._at(step, 0.0), _DONE)

    def middle(self, step: int) -> float:
        """Share done halfway through ``step``: what the learning rate follows, never 0."""
        return min(self._at(step, 0.5), 1.0)

    def finished(self, step: int) -> bool:
        """Whether the run is over before ``step``."""
        return self.lines[-1].end and step >= self.lines[-1].step

    def event_due(self, step: int) -> bool:
        """Whether the step before ``step`` crossed into another part of the run, so that it is validated and saved."""
        if step == 0:
            return False
        before, after = (min(self._at(item, 0.0), _DONE) for item in (step - 1, step))
        return int(after * self.events) > int(before * self.events)

    def affords(self, step: int) -> bool:
        """Whether there is time for a validation and a checkpoint that are due before ``step``.

        Those of a run are so far apart, and leave so much for the last one, that all of them take no more than their
        part of the limit.
        """
        fits = self.validating + 2 * self._growth * self._validation <= PART * self.limit
        return fits and self._at(step, 0.0) - self._event_at >= self._gap() - 1 / (2 * self.events)

    def propose(self, step: int, end_at: int | None = None) -> Line | None:
        """A new plan where one is due; on disk when this returns. It counts only once adopted.

        Args:
            step: the next one to be made.
            end_at: the step at which the run can end at the soonest; None: before ``step`` itself.
        """
        last, end_at = self.lines[-1], step if end_at is None else end_at
        if not self.writes or last.end or self._first is None:
            return None
        elapsed = self.now() - self.started
        coming = self._validation + self._save if self.event_due(step) and self.affords(step) else 0.0
        to_make = end_at - step + 1  # steps until the next occasion to end
        if elapsed + coming + to_make * self._slow() + self._closing() > self.limit:
            return self._write(Line(end_at, self.progress(end_at), 0.0, end=True))
        start = step + AHEAD + 1
        if start <= last.step or not self._steps:  # replaying, or all that is known is a first step, often a slow one
            return None
        if start - last.step < min(EVERY, step // 4) and self.now() - self._planned_at < 0.02 * self.limit:
            return None
        done, mean = min(self._at(start, 0.0), _DONE), self._mean()
        left = self.limit - elapsed - self._closing() - (start - step) * mean
        left -= self._validations_to_come(self._at(step, 0.0)) * (self._validation + self._save)
        self._planned_at = self.now()
        return self._write(Line(start, done, (1.0 - done) / max(left / mean, 1.0)))

    def adopt(self, line: Line) -> None:
        """From now on this line counts."""
        if line.end:
            self.lines = [item for item in self.lines if item.step < line.step]
        self.lines.append(line)

    def note_step(self, seconds: float) -> None:
        """Remember what a step took."""
        if self._first is None:
            self._first = seconds
        else:
            self._steps.append(seconds)

    def note_validation(self, step: int, seconds: float, whole: float | None = None) -> None:
        """Remember what a validation before ``step`` took; ``whole``: with what was done beside it this once."""
        if self._validation > 0:
            self._growth = min(max(GROWTH, seconds / self._validation), 3.0)
        self._validation, self._event_at, self._known = seconds, self._at(step, 0.0), True
        self.validating += seconds if whole is None else whole

    def note_save(self, step: int, seconds: float) -> None:
        """Remember what a checkpoint before ``step`` took."""
        self._save, self._event_at, self._known = seconds, self._at(step, 0.0), True
        self.saving += seconds

    def validation_rows(self, total: int, measure: Callable[[int], float], last: bool = False) -> int:
        """How many of ``total`` rows a validation looks at, so that all of them take at most a tenth of the limit.

        Fewer validations come before fewer than all rows, and fewer rows, down to ``ROWS``, before two validations.

        Args:
            total: rows there are.
            measure: validates on so many rows and gives the seconds that took.
            last: there is this one validation.

        Returns:
            0 where not even validations of ``FEW`` rows fit.
        """
        rows, tried, self._known = 1, 0.0, True
        while True:
            seconds = measure(rows)
            tried += seconds
            left = (PLANNED * self.limit - self.validating - tried) / max(seconds / rows, 1e-12)  # rows in all
            usual, least = (min(int(left / times), total) for times in ((1, 1) if last else (USUAL, 2)))
            fitting = usual if usual >= min(ROWS, total) else min(least, ROWS)
            if rows == total or fitting == total or tried + 4 * seconds > TRIED * self.limit:
                return fitting if fitting >= min(FEW, total) else 0
            rows = min(4 * rows, total)

    def last_rows(self, rows: int) -> int:
        """How many rows the last validation looks at: fewer where validations came to take longer than planned."""
        left, wanted = PART * self.limit - self.validating, self._growth * self._validation
        return rows if wanted <= left else max(int(rows * left / wanted), 0)

    def seconds_left(self, step: int, per_step: float) -> float:
        """Until the deadline."""
        return max(self.limit - (self.now() - self.started), 0.0)

    def _gap(self) -> float:
        """Progress between two validations."""
        return max(1 / self.events, self._validation / (PLANNED * self.limit), self._save / (PART * self.limit))

    def _validations_to_come(self, done: float) -> int:
        """How many there will be beyond ``done``, the last one not counted."""
        count, at = 0, self._event_at
        for event in range(int(done * self.events) + 1, self.events):
            if event / self.events - at >= self._gap() - 1 / (2 * self.events):
                count, at = count + 1, event / self.events
        return count

    def _closing(self) -> float:
        """Seconds to leave free for the last validation and checkpoint."""
        if not self._known:
            return (_SPARE + _UNKNOWN) * self.limit
        validation = min(self._growth * self._validation, max(PART * self.limit - self.validating, 0.0))
        return _SPARE * self.limit + validation + self._save + min(0.1 * self._save, 0.02 * self.limit)

    def _mean(self) -> float:
        """Seconds of a step; of few measured ones the fastest, as progress that was too fast is not taken back."""
        steps = self._usual()
        return max(min(steps) if len(steps) < _SETTLED else sum(steps) / len(steps), 1e-9)

    def _slow(self) -> float:
        """Seconds of a slow step."""
        return max(self._usual())

    def _usual(self) -> list[float]:
        """The times of recent steps without a lone slow one; half of the first step's where there is no other."""
        if not self._steps:
            return [(self._first or 0.0) / 2]
        steps = sorted(self._steps)
        return steps[:-1] if len(steps) > 2 and steps[-1] > 5 * steps[-2] else steps

    def _line(self, step: int) -> Line:
        return self.lines[max(bisect_right(self.lines, step, key=lambda item: item.step) - 1, 0)]

    def _at(self, step: int, offset: float) -> float:
        line = self._line(step)
        return min(line.progress + (step - line.step + offset) * line.rate, 1.0)

    def _write(self, line: Line) -> Line:
        append_line(self.path, json.dumps(asdict(line)), sync=True)
        return line


Clock = StepClock | TimeClock


def make_clock(
    total: int | None,
    minutes: float | None,
    path: Path,
    *,
    used: float,
    validating: float = 0.0,
    writes: bool,
    now: Callable[[], float] = time.monotonic,
) -> Clock:
    """The clock of a run of ``total`` steps, or of so many minutes.

    Raises:
        RecipeError: neither is known.
    """
    if total is not None:
        return StepClock(total)
    if minutes is None:
        raise RecipeError("train", "steps, epochs or time_limit", "none of them", "set one, e.g. --set train.epochs=10")
    return TimeClock(60 * minutes, path, used=used, validating=validating, writes=writes, now=now)


def due(step: int, every: int, clock: Clock, finished: bool) -> bool:
    """Whether something that happens every so many steps happens before ``step``; 0: at the clock's own events."""
    if step == 0:
        return False
    return finished or (step % every == 0 if every else clock.event_due(step))


def _read(path: Path, repair: bool) -> list[Line]:
    """The whole lines of a plan; a last line cut short by a kill never took effect and is taken out."""
    if not path.exists():
        return []
    lines: list[Line] = []
    for line in _whole_lines(path):
        if line.end:
            lines = [item for item in lines if item.step < line.step]
        lines.append(line)
    if repair:
        atomic.write_text(path, "".join(json.dumps(asdict(line)) + "\n" for line in lines))
    if lines and lines[0].step > 0:
        lines.insert(0, Line(0, 0.0, _FIRST_RATE))
    return lines


def _whole_lines(path: Path) -> list[Line]:
    items = []
    for _, text in json_lines(path.read_text(encoding="utf-8")):
        try:
            items.append(Line(**json.loads(text)))
        except (ValueError, TypeError):
            break
    return items
