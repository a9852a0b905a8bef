"""The loop: steps, validations, checkpoints, until the end. Callables in, weights and a history out.

It knows nothing of tokenizers, tables or tasks. A run is a function of its recipe and of the step number: the
batch, the rate and the seed of every step follow from them, so a run that is killed at any instant and resumed
ends with the weights of one that was not, bit for bit (on a CPU, with the same number of threads).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from rebus.errors import RunError, TrainingError
from rebus.loop import checkpoint, parallel
from rebus.loop.batches import Prefetcher
from rebus.loop.clock import Line, due, make_clock
from rebus.loop.ema import WeightAverage
from rebus.loop.events import Events
from rebus.loop.facts import settle
from rebus.loop.lines import locked
from rebus.loop.memory import kept_memory
from rebus.loop.optim import build_optimizers, set_rates, train_mode
from rebus.loop.plan import FitResult, Plan, State
from rebus.loop.progress import Status, choose_display
from rebus.loop.schedule import rate_factor
from rebus.loop.signals import stop_requested
from rebus.loop.update import Outcome, Updater, not_finite, seed_step
from rebus.loop.window import Window
from rebus.recipe import Train

__all__ = ["FitResult", "Plan", "fit"]

_BAD_IN_A_ROW = 3
_LOG_EVERY = 10  # steps
_SAVE_SECONDS = 600.0  # a checkpoint at least this often, whatever the steps


def fit(
    model: nn.Module,
    plan: Plan,
    settings: Train,
    folder: Path,
    *,
    seed: int,
    device: str | torch.device = "cpu",
    resume: bool = False,
    console: Console | None = None,
    quiet: bool = False,
    now: Callable[[], float] = time.monotonic,
) -> FitResult:
    """Train ``model`` in place and leave checkpoints, metrics and events in ``folder``.

    At the end the model has the weights of the best validation, or of the last step where ``settings.final_weights``
    says so or nothing was validated; the averaged ones where averages are kept. A first SIGINT or SIGTERM ends the run
    after the step in hand, with a checkpoint; a second SIGINT at once.

    Args:
        model: built the same way (same seed, same base weights) when resuming; checkpoints begin with the first save.
        plan: batches, loss and validation.
        settings: the recipe's ``train``; ``epochs`` and ``steps`` are not read: see ``plan.total_steps``.
        folder: of the run.
        seed: decides dropout, with the step number.
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        resume: go on from the newest whole checkpoint in ``folder``.
        console: where to show progress; None: stderr.
        quiet: show nothing.
        now: a clock in seconds.

    Raises:
        RunError: the folder holds another run, is locked by another process, is full or cannot be written.
        RecipeError: neither a number of steps nor a time limit; a part in ``settings.rates`` that does not exist.
        TrainingError: three updates in a row were not finite.
    """
    folder = Path(folder)
    where = parallel.local_device(device)
    with ExitStack() as stack:
        if where.type == "cpu":
            stack.enter_context(kept_memory())
        if parallel.is_first():
            stack.enter_context(locked(folder))
            if not resume and checkpoint.steps_saved(folder):
                raise RunError(
                    where=folder,
                    expected="a folder without a run",
                    found="checkpoints of an earlier run",
                    do=f"go on with it by `rebus train --resume {folder}`, or choose another folder with --out",
                )
        stack.enter_context(parallel.process_group(where))
        stop = stack.enter_context(stop_requested())
        console = console or Console(stderr=True)
        return _Session(model, plan, settings, folder, seed, where, resume, console, quiet, stop, now).run()


class _Session:
    def __init__(
        self,
        model: nn.Module,
        plan: Plan,
        settings: Train,
        folder: Path,
        seed: int,
        device: torch.device,
        resume: bool,
        console: Console,
        quiet: bool,
        stop: threading.Event,
        now: Callable[[], float],
    ) -> None:
        self.model, self.plan, self.settings, self.folder = model, plan, settings, folder
        self.seed, self.device, self.stop, self.now = seed, device, stop, now
        self.first = parallel.is_first()
        self.display = choose_display(console, quiet=quiet or not self.first)
        model.to(device)
        if self.first and not resume:  # before the other processes look for them
            (folder / "plan.jsonl").unlink(missing_ok=True)
            (folder / "metrics.jsonl").unlink(missing_ok=True)
        facts = settle(folder, settings, device, resume=resume, note=self.display.note, peak=plan.work is not None)
        self.precision, self.peak, self.muon_dtype = facts.precision, facts.peak, facts.muon_dtype
        result = self._newest() if resume else None
        self.state = State(**result.state) if result is not None else State()
        self._begin_stage(self.state.stage)
        if result is not None:
            self._restore(result)
        self.before = self.state.seconds  # of earlier sessions
        self.started = now() - self.before
        self.saved = self.state.step if resume else -1
        self.saved_at = now()
        self.agreed_to_stop = False
        self.clock = make_clock(
            plan.total_steps,
            settings.time_limit,
            folder / "plan.jsonl",
            used=self.state.seconds,
            validating=self.state.validating,
            writes=self.first,
            now=now,
        )
        if plan.shorten is not None and self.state.valid_rows is not None:
            plan.shorten(self.state.valid_rows)
        self.events = Events(folder, self.state.step, active=self.first)
        self.status = Status(step=self.state.step)
        self.window = Window(plan.batch_rows, plan.unit, plan.work, self.peak)

    def run(self) -> FitResult:
        state, clock = self.state, self.clock
        prefetch = Prefetcher(
            lambda step: self.plan.parts_at(step, clock.progress(step)), state.step, self.plan.total_steps
        )
        reason = state.stopped
        try:
            if self.plan.stages is not None and state.step == 0:
                self._validate()  # what the first stage's gain is measured from
                self._left(-1)
            train_mode(self.model)
            while not reason:
                reason = self._boundary()
                if reason:
                    break
                if not self._stopping():  # a signal may have come during a validation
                    self._advance(prefetch)
                if self._stopping():
                    self._save()
                    reason = "interrupted"
        finally:
            self.events.close()
            prefetch.close()
            self.display.close()
        if reason == "interrupted":
            self.display.note(f"stopped at step {state.step}; go on with: rebus train --resume {self.folder}")
        seconds = self.now() - self.started
        session = seconds - self.before
        kept = self._final_weights()
        if kept != state.step and state.best and reason != "interrupted":
            value = f"{self.plan.watch} {float(state.best['value']):.3f}"
            self.display.note(f"kept the weights of step {kept}, whose validation was the best ({value})")
        if self.plan.stages is not None and reason != "interrupted":
            self._left(state.stage)
        return FitResult(
            steps=state.step,
            seconds=seconds,
            best=state.best,
            history=state.history,
            stopped_because=reason,
            skipped_steps=state.skipped,
            precision=self.precision,
            session=session,
            weights_step=kept,
            validating=state.validating,
            saving=state.saving,
            valid_rows=self.plan.valid_rows if state.valid_rows is None else state.valid_rows,
            peak=self.peak,
        )

    def _boundary(self) -> str:
        """Between two steps: validate and save where due; why the run ends here, or nothing."""
        step, settings = self.state.step, self.settings
        if self.first and parallel.world() == 1 and (line := self.clock.propose(step)) is not None:
            self.clock.adopt(line)
        finished = self.clock.finished(step)
        stage = self.state.stage
        if self.plan.stages is not None and not finished:
            stage = self.plan.stages.at(self.clock.progress(step))
        changing = stage != self.state.stage
        validating = changing or due(step, settings.validate_every, self.clock, finished)
        affordable = settings.validate_every > 0 or self.clock.affords(step)
        improved = False
        if validating and step > 0:
            self.updater.check_weights(step)
        if validating and self.state.validated != step:
            improved = self._validate(last=finished, needed=finished or changing or affordable)
            self.state.validated = step
        if changing:
            self._next_stage(stage)
        last = self.plan.stages is None or stage == len(self.plan.stages.shares) - 1
        if settings.patience and self.state.stale >= settings.patience and last:
            self.state.stopped = "early"
        ending = finished or bool(self.state.stopped)
        late = self.first and self.now() - self.saved_at > _SAVE_SECONDS
        saving = validating and affordable
        if settings.save_every:
            saving = due(step, settings.save_every, self.clock, finished)
        if step > 0 and self.saved != step and (saving or changing or improved or ending or late):
            self._save()
        return self.state.stopped or (self.clock.reason if finished else "")

    def _begin_stage(self, stage: int) -> None:
        """Optimizers and averages for what learns now, all of them new; without stages, for the whole run."""
        self.state.stage, settings = stage, self.settings
        learning = settings if self.plan.stages is None else self.plan.stages.enter(stage)
        self.model.to(self.device)
        self.optimizers = build_optimizers(self.model, learning, self.muon_dtype)
        self.average = WeightAverage(self.model, settings.ema) if settings.ema > 0 else None
        self.updater = Updater(
            self.model,
            parallel.wrapped(self.model, self.device),
            self.optimizers,
            self.average,
            self.plan.cached or self.plan.loss_of,
            clip=settings.clip,
            precision=self.precision,
            device=self.device,
            seed=self.seed,
        )

    def _next_stage(self, stage: int) -> None:
        """Go from one stage to the next; what the next is compared with is what this one ended with."""
        state = self.state
        self._left(state.stage)
        if self.average is not None:
            self.average.copy_to_model()
        self._begin_stage(stage)
        train_mode(self.model)
        state.begin_anew(self.plan.watch)

    def _left(self, stage: int) -> None:
        if self.first and self.plan.stages is not None:
            self.plan.stages.left(stage)

    def _stopping(self) -> bool:
        """Whether a signal ends the run here; with several processes, once all of them know."""
        return self.agreed_to_stop or (parallel.world() == 1 and self.stop.is_set())

    def _advance(self, prefetch: Prefetcher) -> None:
        step, start = self.state.step, self.now()
        progress = self.clock.progress(step)
        agreeing = self.first and parallel.world() > 1  # a run of one process plans at the boundary
        line = self.clock.propose(step, end_at=step + 1) if agreeing else None
        factor = self._factor(step)
        set_rates(self.optimizers, factor)
        parts = prefetch.get(step)
        items = [
            float(line is not None),
            *((line.step, line.progress, line.rate, float(line.end)) if line else (0.0,) * 4),
        ]
        outcome = self.updater.update(parts, step, progress, [float(self.stop.is_set()), *items])
        stopping, planned, *agreed = outcome.messages
        if planned:
            self.clock.adopt(Line(int(agreed[0]), agreed[1], agreed[2], bool(agreed[3])))
        self.agreed_to_stop = stopping > 0
        self.state.step = step + 1
        self._judge(step, outcome)
        self._log(outcome, progress, factor, self.now() - start)
        if self.plan.observer is not None and self.first:
            self._remark(self.plan.observer.stepped(step, progress, outcome.parts))
        self.clock.note_step(self.now() - start)

    def _factor(self, step: int) -> float:
        item, stages, middle = self.settings, self.plan.stages, self.clock.middle(step)
        if stages is not None:
            middle = stages.within(middle, self.state.stage)
        return rate_factor(middle, item.schedule, warmup=item.warmup, decay=item.decay, final=item.final)

    def _judge(self, step: int, outcome: Outcome) -> None:
        """Count a skipped step; three in a row end the run."""
        if outcome.bad is None:
            self.state.bad_in_a_row = 0
            return
        self.state.bad_in_a_row += 1
        self.state.skipped.append({"step": step, "reason": outcome.bad})
        self.events.write("skip", step + 1, reason=outcome.bad)
        self.display.note(f"step {step} skipped: {outcome.bad}")
        if self.state.bad_in_a_row >= _BAD_IN_A_ROW:
            raise not_finite(step, _BAD_IN_A_ROW, outcome)

    def _log(self, outcome: Outcome, progress: float, factor: float, seconds: float) -> None:
        step = self.state.step
        self.window.add(outcome.loss, seconds)
        self.status = Status(
            step=step,
            progress=self.clock.progress(step),
            loss=self.window.loss,
            rate=self.window.rate,
            unit=self.plan.unit,
            left=self.clock.seconds_left(step, seconds),
            watched=self.status.watched,
            sample=self.status.sample,
        )
        self.display.update(self.status)
        if step % _LOG_EVERY and step > 3 and not self.clock.finished(step):
            return
        spent = self.now() - self.started
        self.events.write("train", step, **self.window.line(outcome, progress=progress, lr=factor, seconds=spent))

    def _validate(self, *, last: bool = False, needed: bool = True) -> bool:
        """Measure, in the first process and with the averaged weights where kept; whether this is the best so far."""
        improved = False
        if self.first and needed and (self.plan.validate is not None or self.plan.sample is not None):
            start = self.now()
            seed_step(self.seed, self.state.step)
            self.model.eval()
            metrics, text = {}, ""
            with torch.no_grad(), self.updater.autocast(), self.average.applied() if self.average else nullcontext():
                if self._settle_rows(last):
                    began = self.now()
                    metrics = self.plan.validate(self.model) if self.plan.validate else {}
                    text = self.plan.sample(self.model) if self.plan.sample else ""
                    spent = self.now() - began
                    if self.plan.observer is not None:
                        self._remark(self.plan.observer.validated(self.clock.progress(self.state.step)))
                    self.clock.note_validation(self.state.step, spent, self.now() - start)
            train_mode(self.model)
            self.state.validating += self.now() - start
            if metrics:
                improved = self._take(metrics)
            if text:
                self.events.write("sample", self.state.step, text=text)
                self.status.sample = text
        flags = parallel.summed([float(improved), float(self.state.stale if self.first else 0)], self.device)
        self.state.stale = int(flags[1])
        return flags[0] > 0

    def _settle_rows(self, last: bool) -> bool:
        """Where there is a time limit, choose how many rows a validation looks at; whether there are any.

        The rows stay the same for the whole run, so that validations can be compared; should the last one have to look
        at fewer, it is compared with none.
        """
        plan, state, validate = self.plan, self.state, self.plan.validate
        if self.clock.limit is None or plan.shorten is None or validate is None or self.settings.validate_every:
            return True
        shorten = plan.shorten

        def measure(rows: int) -> float:
            shorten(rows)
            start = self.now()
            validate(self.model)
            return self.now() - start

        some = "so that they take at most a tenth of the time limit"
        if state.valid_rows is None:
            state.valid_rows = self.clock.validation_rows(plan.valid_rows, measure, last)
            if state.valid_rows == 0:
                self.display.note("no validations: not even one of a few rows fits into a tenth of the time limit")
            elif state.valid_rows < plan.valid_rows:
                self.display.note(f"validations look at {state.valid_rows} of {plan.valid_rows} rows, {some}")
        elif last and (rows := self.clock.last_rows(state.valid_rows)) < state.valid_rows:
            self.display.note(f"the last validation looks at {rows} of {state.valid_rows} rows, {some}")
            state.valid_rows, state.best = rows, None
        shorten(state.valid_rows)
        return state.valid_rows > 0

    def _remark(self, remarks: Sequence[tuple[str, str]]) -> None:
        for name, text in remarks:
            self.events.write("remark", self.state.step, name=name, text=text)
            self.display.note(text)

    def _take(self, metrics: dict[str, float]) -> bool:
        state, watch = self.state, self.plan.watch
        if watch not in metrics:
            raise TrainingError(
                where="validation",
                expected=f"the figure '{watch}' that decides what is best",
                found="only " + ", ".join(sorted(metrics)),
                do="name one of these as the figure to watch",
            )
        value = float(metrics[watch])
        sign = 1.0 if self.plan.higher_is_better else -1.0
        before = None if state.best is None else sign * float(state.best["value"])
        better = value == value and (before is None or sign * value > before)
        improved = better or (value == value and sign * value == before)  # of equals, the one that has learned longer
        if improved:
            state.best = {"step": state.step, "value": value, "metrics": metrics}
        state.stale = 0 if better else state.stale + 1
        seen = {
            "progress": self.clock.progress(state.step),
            "seconds": self.now() - self.started,
            "metrics": metrics,
        }
        state.history.append({"step": state.step, **seen})
        self.events.write("valid", state.step, best=improved, **seen)
        self.status.watched = f"{watch} {value:.3f}" + (" (best)" if improved else "")
        shown = "  ".join(f"{name} {figure:.3f}" for name, figure in metrics.items())
        self.display.validated(f"step {state.step}  validation: {shown}" + ("  (best)" if improved else ""))
        return improved

    def _save(self) -> None:
        if not self.first or self.saved == self.state.step:
            return
        start = self.now()
        self.saved, self.saved_at = self.state.step, start
        self.state.seconds = start - self.started
        self.state.ema_updates = self.average.updates if self.average else 0
        averaged = self.average.tensors if self.average else None
        checkpoint.save(self.folder, self.state.step, self.model, self.optimizers, averaged, asdict(self.state))
        best = self.state.best["step"] if self.state.best else None
        checkpoint.prune(self.folder, self.state.step, self.settings.keep, best)
        spent = self.now() - start
        self.clock.note_save(self.state.step, spent)
        self.state.saving += spent

    def _newest(self) -> checkpoint.Checkpoint | None:
        if self.first:
            checkpoint.sweep(self.folder)
        newest = checkpoint.load_newest(self.folder, self.display.note)
        if newest is None:
            self.display.note("no checkpoint yet: starting from the first step")
        return newest

    def _restore(self, result: checkpoint.Checkpoint) -> None:
        checkpoint.restore(self.model, self.optimizers, result)
        if self.average is not None:
            self.average.load(result.ema, self.state.ema_updates)
        self.display.note(f"resumed from step {result.step}")

    def _final_weights(self) -> int:
        """Give the model the weights of the best validation, averaged where averages are kept; the step they are of."""
        wanted = self.settings.final_weights == "best" and self.plan.chooses
        best = float(self.state.best["step"]) if self.first and self.state.best and wanted else 0.0
        chosen = int(parallel.summed([best], self.device)[0])
        kept = self.state.step
        if chosen and chosen != kept:
            try:
                content = checkpoint.load(self.folder, chosen)
            except RunError as error:
                self.display.note(f"the best checkpoint is damaged, keeping the last weights: {error.where}")
            else:
                checkpoint.restore_model(self.model, content.model, chosen)
                if self.average is not None:
                    self.average.load(content.ema, self.average.updates)
                kept = chosen
        if self.average is not None:
            self.average.copy_to_model()
        self.model.eval()
        return kept
