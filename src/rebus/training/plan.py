"""What the loop is given, what it remembers and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from rebus.training.batches import split_batch
from rebus.training.probe import Precision


@dataclass(frozen=True)
class Plan:
    """What the loop is given, all plain callables.

    Attributes:
        batch_at: (step, progress 0 to 1) -> this process's batch on the CPU; a pure function of its arguments,
            called in a thread beside the step: it must not use torch's global random state.
        loss_of: (model, batch, progress) -> the mean loss over the batch's rows, named figures for the log.
            The model may be wrapped for several processes: call it, do not reach into it.
        batch_rows: examples a step over all processes, for examples/s.
        unit: what is counted so: examples, tokens.
        work: floating-point operations a unit of a step's forward and backward pass, for the share of what the machine
            can do; None: not told.
        total_steps: updates of the run; None: ``settings.time_limit`` decides.
        validate: (model) -> figures; the model is in eval mode, without gradients, with averaged weights if kept.
        watch: which of these figures decides what is best and when to stop early.
        higher_is_better: whether that figure grows with quality.
        sample: (model) -> a sample answer, shown after each validation.
        split: (batch, parts) -> equal parts, for ``settings.accumulate``; by default every tensor's rows are cut.
    """

    batch_at: Callable[[int, float], Any]
    loss_of: Callable[[nn.Module, Any, float], tuple[Tensor, dict[str, float | Tensor]]]
    batch_rows: float
    unit: str = "examples"
    work: float | None = None
    total_steps: int | None = None
    validate: Callable[[nn.Module], dict[str, float]] | None = None
    watch: str = "loss"
    higher_is_better: bool = False
    sample: Callable[[nn.Module], str] | None = None
    split: Callable[[Any, int], list[Any]] = split_batch


@dataclass(frozen=True)
class FitResult:
    """What came of it.

    Attributes:
        steps: updates made, skipped ones counted.
        seconds: of training, over all sessions.
        best: ``{"step", "value", "metrics"}`` of the best validation; None without validation.
        history: one ``{"step", "progress", "seconds", "metrics"}`` a validation.
        stopped_because: ``finished``, ``early`` (no gain for ``patience`` validations) or ``interrupted`` (a signal).
        skipped_steps: ``{"step", "reason"}`` of each update that was not made.
        precision: in which the run was made.
        peak: measured FLOP/s of a large product in that precision; 0: not measured.
    """

    steps: int
    seconds: float
    best: dict[str, Any] | None
    history: list[dict[str, Any]]
    stopped_because: str
    skipped_steps: list[dict[str, Any]]
    precision: Precision
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
