"""What the loop is given, what it remembers and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from rebus.loop.gradcache import Cached
from rebus.loop.probe import Precision
from rebus.loop.stages import Stages


class Observer(Protocol):
    """Is told how a run goes, in the first process; what it says is printed and kept in metrics.jsonl."""

    def stepped(self, step: int, progress: float, parts: Mapping[str, float]) -> Sequence[tuple[str, str]]:
        """After a step whose named losses were these: (name, sentence) of what there is to say."""
        ...

    def validated(self, progress: float) -> Sequence[tuple[str, str]]:
        """After a validation, the model still in eval mode and without gradients."""
        ...


@dataclass(frozen=True)
class Plan:
    """What the loop is given, all plain callables.

    Attributes:
        parts_at: (step, progress 0 to 1) -> this process's batch on the CPU, in equal parts that go through the model
            one after another; a pure function of its arguments, called in a thread beside the step: it must not use
            torch's global random state.
        loss_of: (model, part, progress) -> the mean loss over the part's rows, named figures for the log.
            The model may be wrapped for several processes: call it, do not reach into it.
        batch_rows: examples a step over all processes, for examples/s.
        unit: what is counted so: examples, tokens.
        work: floating-point operations a unit of a step's forward and backward pass, for the share of what the machine
            can do; None: not told.
        total_steps: updates of the run; None: ``settings.time_limit`` decides.
        validate: (model) -> figures; the model is in eval mode, without gradients, with averaged weights if kept.
        valid_rows: rows that ``validate`` looks at; 0: not told.
        shorten: (rows) -> None: from now on ``validate`` looks at the first so many of them; None: that cannot be.
        watch: which of these figures decides what is best and when to stop early.
        higher_is_better: whether that figure grows with quality.
        chooses: whether validations decide which weights are kept: not where they look at the rows that the finished
            model is judged on.
        sample: (model) -> a sample answer, shown after each validation.
        stages: what learns when; None: the same all along. A run in stages is validated before its first step, and
            ``patience`` counts in the last stage only.
        observer: looks for what goes wrong and says so.
        cached: a loss that compares the rows of a whole batch over its parts; None: parts stand alone.
    """

    parts_at: Callable[[int, float], list[Any]]
    loss_of: Callable[[nn.Module, Any, float], tuple[Tensor, dict[str, float | Tensor]]]
    batch_rows: float
    unit: str = "examples"
    work: float | None = None
    total_steps: int | None = None
    validate: Callable[[nn.Module], dict[str, float]] | None = None
    valid_rows: int = 0
    shorten: Callable[[int], None] | None = None
    watch: str = "loss"
    higher_is_better: bool = False
    chooses: bool = True
    sample: Callable[[nn.Module], str] | None = None
    stages: Stages | None = None
    observer: Observer | None = None
    cached: Cached | None = None


@dataclass(frozen=True)
class FitResult:
    """What came of it.

    Attributes:
        steps: updates made, skipped ones counted.
        seconds: of training, over all sessions.
        best: ``{"step", "value", "metrics"}`` of the best validation; None without validation.
        history: one ``{"step", "progress", "seconds", "metrics"}`` a validation.
        stopped_because: ``finished`` (all steps were made), ``time`` (the time limit was reached), ``early`` (no gain
            for ``patience`` validations) or ``interrupted`` (a signal).
        skipped_steps: ``{"step", "reason"}`` of each update that was not made.
        precision: in which the run was made.
        session: seconds of training in this session.
        weights_step: the step whose weights the model has now.
        validating, saving: how many of the seconds validations and checkpoints took.
        valid_rows: how many rows a validation looked at; 0: not told.
        peak: measured FLOP/s of a large product in that precision; 0: not measured.
    """

    steps: int
    seconds: float
    best: dict[str, Any] | None
    history: list[dict[str, Any]]
    stopped_because: str
    skipped_steps: list[dict[str, Any]]
    precision: Precision
    session: float = 0.0
    weights_step: int = 0
    validating: float = 0.0
    saving: float = 0.0
    valid_rows: int = 0
    peak: float = 0.0


@dataclass
class State:
    """What a checkpoint remembers beside tensors.

    Attributes:
        step: updates made, skipped ones counted.
        seconds: of training, over all sessions.
        best: as in FitResult.
        stale: validations since the best.
        validated: the step of the last validation.
        bad_in_a_row: updates skipped since the last that was made.
        ema_updates: updates in the averaged weights.
        stopped: ``early`` where the run has ended so.
        history: as in FitResult.
        skipped: as ``skipped_steps`` in FitResult.
        stage: the stage that the next step is in.
        validating, saving: seconds of training that validations and checkpoints took.
        valid_rows: how many rows a validation looks at; None: not settled yet.
    """

    step: int = 0
    seconds: float = 0.0
    best: dict[str, Any] | None = None
    stale: int = 0
    validated: int = 0
    bad_in_a_row: int = 0
    ema_updates: int = 0
    stopped: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    stage: int = 0
    validating: float = 0.0
    saving: float = 0.0
    valid_rows: int | None = None

    def begin_anew(self, watch: str) -> None:
        """What comes is judged by itself: the last validation, if it was just now, is what it has to beat."""
        self.stale, self.best = 0, None
        if self.history and self.history[-1]["step"] == self.step:
            metrics = self.history[-1]["metrics"]
            self.best = {"step": self.step, "value": float(metrics[watch]), "metrics": metrics}
