"""The loop: steps, validations, checkpoints, until the end. Callables in, weights and a history out.

It knows nothing of tokenizers, tables or tasks. A run is a function of its recipe and of the step number: the
batch, the rate and the seed of every step follow from them, so a run that is killed at any instant and resumed
ends with the weights of one that was not, bit for bit (on a CPU, with the same number of threads).
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, nullcontext
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from rebus.errors import RecipeError, RunError, TrainingError
from rebus.recipe import Train
from rebus.training import checkpoint, parallel
from rebus.training.batches import Prefetcher
from rebus.training.clock import Line, StepClock, TimeClock
from rebus.training.ema import WeightAverage
from rebus.training.events import Events
from rebus.training.facts import settle
from rebus.training.lines import locked
from rebus.training.memory import kept_memory
from rebus.training.optim import build_optimizers, set_rates, train_mode
from rebus.training.plan import FitResult, Plan, State
from rebus.training.progress import Status, choose_display
from rebus.training.schedule import rate_factor
from rebus.training.signals import stop_requested
from rebus.training.update import Outcome, Updater, seed_step

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
) -> FitResult:
    """Train ``model`` in place and leave checkpoints, metrics and events in ``folder``.

    At the end the model has the averaged weights where they are kept, and those of the best validation where
    ``settings.patience`` is on; else those of the last step. A first SIGINT or SIGTERM ends the run after the
    step in hand, with a checkpoint; a second SIGINT at once.

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
        return _Session(model, plan, settings, folder, seed, where, resume, console, quiet, stop).run()


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
    ) -> None:
        self.model, self.plan, self.settings, self.folder = model, plan, settings, folder
        self.seed, self.device, self.stop = seed, device, stop
        self.first = parallel.is_first()
        self.display = choose_display(console, quiet=quiet or not self.first)
        model.to(device)
        if self.first and not resume:  # before the other processes look for them
            (folder / "plan.jsonl").unlink(missing_ok=True)
            (folder / "metrics.jsonl").unlink(missing_ok=True)
        facts = settle(folder, settings, device, resume=resume, note=self.display.note, peak=plan.work is not None)
        self.precision, self.peak = facts.precision, facts.peak
        self.optimizers = build_optimizers(model, settings, facts.muon_dtype)
        self.average = WeightAverage(model, settings.ema) if settings.ema > 0 else None
        self.state = State()
        if resume:
            self._restore()
        self.started = time.monotonic() - self.state.seconds
        self.saved = self.state.step if resume else -1
        self.saved_at = time.monotonic()
        self.agreed_to_stop = False
        self.clock = self._clock()
        self.events = Events(folder, self.state.step, active=self.first)
        self.updater = Updater(
            model,
            parallel.wrapped(model, device),
            self.optimizers,
            self.average,
            plan.loss_of,
            clip=settings.clip,
            precision=self.precision,
            device=device,
            seed=seed,
        )
        self.status = Status(step=self.state.step)
        self.window: list[tuple[float, float]] = []  # (loss, seconds) since the last line of the log

    def run(self) -> FitResult:
        state, clock = self.state, self.clock
        prefetch = Prefetcher(
            lambda step: self.plan.batch_at(step, clock.progress(step)), state.step, self.plan.total_steps
        )
        reason = state.stopped
        try:
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
        self._final_weights()
        return FitResult(
            steps=state.step,
            seconds=time.monotonic() - self.started,
            best=state.best,
            history=state.history,
            stopped_because=reason,
            skipped_steps=state.skipped,
            precision=self.precision,
            peak=self.peak,
        )

    def _boundary(self) -> str:
        """Between two steps: validate and save where due; why the run ends here, or nothing."""
        step, settings = self.state.step, self.settings
        finished = self.clock.finished(step)
        start = time.monotonic()
        validating = _due(step, settings.validate_every, self.clock, finished)
        improved = False
        if validating and self.state.validated != step:
            improved = self._validate()
            self.state.validated = step
        if settings.patience and self.state.stale >= settings.patience:
            self.state.stopped = "early"
        ending = finished or bool(self.state.stopped)
        late = self.first and time.monotonic() - self.saved_at > _SAVE_SECONDS
        saving = validating if settings.save_every == 0 else _due(step, settings.save_every, self.clock, finished)
        if step > 0 and self.saved != step and (saving or improved or ending or late):
            self._save()
        if validating:
            self.clock.note_event(time.monotonic() - start)
        return self.state.stopped or ("finished" if finished else "")

    def _stopping(self) -> bool:
        """Whether a signal ends the run here; with several processes, once all of them know."""
        return self.agreed_to_stop or (parallel.world() == 1 and self.stop.is_set())

    def _advance(self, prefetch: Prefetcher) -> None:
        step, start = self.state.step, time.monotonic()
        progress = self.clock.progress(step)
        line = self.clock.propose(step) if self.first else None
        factor = self._factor(step)
        set_rates(self.optimizers, factor)
        batch, pieces = prefetch.get(step), self.settings.accumulate
        parts = self.plan.split(batch, pieces) if pieces > 1 else [batch]
        said = [
            float(line is not None),
            *((line.step, line.progress, line.rate, float(line.end)) if line else (0.0,) * 4),
        ]
        outcome = self.updater.update(parts, step, progress, [float(self.stop.is_set()), *said])
        stopping, planned, *agreed = outcome.messages
        if planned:
            self.clock.adopt(Line(int(agreed[0]), agreed[1], agreed[2], bool(agreed[3])))
        self.agreed_to_stop = stopping > 0
        self.state.step = step + 1
        seconds = time.monotonic() - start
        self.clock.note_step(seconds)
        self._judge(step, outcome)
        self._log(outcome, progress, factor, seconds)

    def _factor(self, step: int) -> float:
        settings = self.settings
        middle = self.clock.middle(step)
        return rate_factor(
            middle, settings.schedule, warmup=settings.warmup, decay=settings.decay, final=settings.final
        )

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
            raise TrainingError(
                where=f"training, step {step}",
                expected="a finite loss and finite gradients",
                found=f"{_BAD_IN_A_ROW} steps in a row without; in the last, {outcome.bad}",
                do="lower train.lr and train.muon_lr, or set train.precision=fp32 or train.clip=1, and start anew; "
                "`rebus data check` looks for numbers that are not finite in the data",
            )

    def _log(self, outcome: Outcome, progress: float, factor: float, seconds: float) -> None:
        step = self.state.step
        self.window.append((outcome.loss, seconds))
        rate = self.plan.batch_rows * len(self.window) / max(sum(spent for _, spent in self.window), 1e-9)
        self.status = Status(
            step=step,
            progress=self.clock.progress(step),
            loss=sum(loss for loss, _ in self.window) / len(self.window),
            rate=rate,
            unit=self.plan.unit,
            left=self.clock.seconds_left(step, seconds),
            watched=self.status.watched,
            sample=self.status.sample,
        )
        self.display.update(self.status)
        if step % _LOG_EVERY and step > 3 and not self.clock.finished(step):
            return
        self.events.write(
            "train",
            step,
            progress=progress,
            loss=self.status.loss,
            lr=factor,
            grad_norm=outcome.norm,
            **{f"{self.plan.unit}_per_second": rate},
            **({"share_of_peak": self.plan.work * rate / self.peak} if self.plan.work and self.peak else {}),
            seconds=time.monotonic() - self.started,
            parts=outcome.parts,
        )
        self.window.clear()

    def _validate(self) -> bool:
        """Measure, in the first process and with the averaged weights where kept; whether this is the best so far."""
        improved = False
        if self.first and (self.plan.validate is not None or self.plan.sample is not None):
            seed_step(self.seed, self.state.step)
            self.model.eval()
            with torch.no_grad(), self.updater.autocast(), self.average.applied() if self.average else nullcontext():
                metrics = self.plan.validate(self.model) if self.plan.validate else {}
                text = self.plan.sample(self.model) if self.plan.sample else ""
            train_mode(self.model)
            if metrics:
                improved = self._take(metrics)
            if text:
                self.events.write("sample", self.state.step, text=text)
                self.status.sample = text
        flags = parallel.summed([float(improved), float(self.state.stale if self.first else 0)], self.device)
        self.state.stale = int(flags[1])
        return flags[0] > 0

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
        improved = value == value and (state.best is None or sign * value > sign * float(state.best["value"]))
        if improved:
            state.best = {"step": state.step, "value": value, "metrics": metrics}
        state.stale = 0 if improved else state.stale + 1
        seen = {
            "progress": self.clock.progress(state.step),
            "seconds": time.monotonic() - self.started,
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
        self.saved, self.saved_at = self.state.step, time.monotonic()
        self.state.seconds = time.monotonic() - self.started
        self.state.ema_updates = self.average.updates if self.average else 0
        averaged = self.average.tensors if self.average else None
        checkpoint.save(self.folder, self.state.step, self.model, self.optimizers, averaged, asdict(self.state))
        best = self.state.best["step"] if self.state.best else None
        checkpoint.prune(self.folder, self.state.step, self.settings.keep, best)

    def _restore(self) -> None:
        if self.first:
            checkpoint.sweep(self.folder)
        found = checkpoint.load_newest(self.folder, self.display.note)
        if found is None:
            self.display.note("no checkpoint yet: starting from the first step")
            return
        checkpoint.restore(self.model, self.optimizers, found)
        self.state = State(**found.state)
        if self.average is not None:
            self.average.load(found.ema, self.state.ema_updates)
        self.display.note(f"resumed from step {found.step}")

    def _clock(self) -> StepClock | TimeClock:
        if self.plan.total_steps is not None:
            return StepClock(self.plan.total_steps)
        if self.settings.time_limit is None:
            raise RecipeError(
                "train", "steps, epochs or time_limit", "none of them", "set one, e.g. --set train.epochs=10"
            )
        path = self.folder / "plan.jsonl"
        return TimeClock(60 * self.settings.time_limit, path, used=self.state.seconds, writes=self.first)

    def _final_weights(self) -> None:
        """Those of the best validation where the run may stop early, averaged where averages are kept."""
        best = float(self.state.best["step"]) if self.first and self.state.best and self.settings.patience else 0.0
        chosen = int(parallel.summed([best], self.device)[0])
        if chosen and chosen != self.state.step:
            try:
                found = checkpoint.load(self.folder, chosen)
            except RunError as error:
                self.display.note(f"the best checkpoint is damaged, keeping the last weights: {error.where}")
            else:
                checkpoint.restore_model(self.model, found.model, chosen)
                if self.average is not None:
                    self.average.load(found.ema, self.average.updates)
        if self.average is not None:
            self.average.copy_to_model()
        self.model.eval()


def _due(step: int, every: int, clock: StepClock | TimeClock, finished: bool) -> bool:
    if step == 0:
        return False
    return finished or (step % every == 0 if every else clock.tenth(step))
