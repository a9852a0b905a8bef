"""One update of the weights: forward, backward, the check, the step. Knows no clock, no file and no schedule."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from rebus.errors import TrainingError
from rebus.loop import parallel
from rebus.loop.batches import to_device
from rebus.loop.ema import WeightAverage
from rebus.loop.gradcache import Cached, cached_backward
from rebus.loop.probe import Precision

LossOf = Callable[[nn.Module, Any, float], tuple[Tensor, dict[str, "float | Tensor"]]]

_CALMER = "lower train.lr and train.muon_lr, or set train.precision=fp32 or train.clip=1, and start anew"


@dataclass
class Outcome:
    """What an update did.

    Attributes:
        loss: mean over the parts of the batch and over processes.
        parts: the named figures that came with it, of this process.
        norm: of the whole gradient, before clipping.
        bad: why the update was skipped, naming the first parameter; None where it was made.
        messages: sums over processes of what each passed in.
    """

    loss: float
    parts: dict[str, float]
    norm: float
    bad: str | None
    messages: list[float] = field(default_factory=list)


class Updater:
    """Makes updates.

    Args:
        model: bare.
        wrapped: the same, perhaps wrapped to average gradients over processes; this one is called.
        optimizers: all stepped at every update.
        average: of the weights; None: none kept.
        loss_of: (model, batch, progress) -> mean loss over the batch, named parts; or what makes one loss of all
            parts, whose rows are compared.
        clip: largest norm of the gradient; 0: no limit.
        precision: bf16 runs the forward pass under autocast.
        device: where batches go.
        seed: with the step number and the rank, decides dropout.
    """

    def __init__(
        self,
        model: nn.Module,
        wrapped: nn.Module,
        optimizers: list[torch.optim.Optimizer],
        average: WeightAverage | None,
        loss_of: LossOf | Cached,
        *,
        clip: float,
        precision: Precision,
        device: torch.device,
        seed: int,
    ) -> None:
        self.model, self.wrapped, self.optimizers, self.average = model, wrapped, optimizers, average
        self.loss_of, self.clip, self.precision, self.device, self.seed = loss_of, clip, precision, device, seed
        self._learning = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
        saved = model.state_dict().keys()
        self._buffers = [item for name, item in model.named_buffers() if name in saved and item.is_floating_point()]

    def autocast(self) -> torch.autocast:
        """The precision of the run, for validation too."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def update(self, parts: list[Any], step: int, progress: float, messages: list[float]) -> Outcome:
        """One update from a batch cut into ``parts``; none if the loss or a gradient is not finite.

        Args:
            parts: pieces of equal size whose mean loss is the loss of the step.
            step: number of the update.
            progress: 0 to 1, handed to the loss.
            messages: summed over processes on the way.
        """
        before = [buffer.clone() for buffer in self._buffers]
        seed_step(self.seed, step)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss, logged = self._backward(parts, progress)
        loss, *messages = parallel.summed([loss / parallel.world(), *messages], self.device)
        gradients = [weight.grad for _, weight in self._learning if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients) if gradients else torch.zeros(())
        bad = self._what_is_bad(loss, norm)
        if bad is None:
            if self.clip > 0 and gradients:
                learning = [weight for _, weight in self._learning]
                torch.nn.utils.clip_grads_with_norm_(learning, self.clip, norm)
            for optimizer in self.optimizers:
                optimizer.step()
            if self.average is not None:
                self.average.update()
        else:  # statistics of batch normalisation have seen the bad batch
            with torch.no_grad():
                for buffer, old in zip(self._buffers, before, strict=True):
                    buffer.copy_(old)
        return Outcome(loss, logged, float(norm), bad, messages)

    def _backward(self, parts: list[Any], progress: float) -> tuple[float, dict[str, float]]:
        if isinstance(self.loss_of, Cached):
            return self._cached_backward(self.loss_of, parts, progress)
        total = 0.0
        sums: dict[str, float] = {}
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            with nullcontext() if last else parallel.without_averaging(self.wrapped):
                with self.autocast():
                    loss, named = self.loss_of(self.wrapped, to_device(part, self.device), progress)
                (loss / len(parts)).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach()) / len(parts)
            for name, value in named.items():
                sums[name] = sums.get(name, 0.0) + float(value) / len(parts)
        return total, sums

    def _cached_backward(self, cached: Cached, parts: list[Any], progress: float) -> tuple[float, dict[str, float]]:
        loss, named = cached_backward(
            self.model,
            self.wrapped,
            cached,
            [to_device(part, self.device) for part in parts],
            progress,
            scope=lambda last: nullcontext() if last else parallel.without_averaging(self.wrapped),
            autocast=self.autocast,
        )
        return float(loss), {name: float(value) for name, value in named.items()}

    def check_weights(self, step: int) -> None:
        """Refuse to go on where an update has left weights without numbers. Raises TrainingError."""
        for name, weight in self._learning:
            if not bool(torch.isfinite(weight).all()):
                received = f"numbers in '{name}' that are not"
                raise TrainingError(f"training, step {step}", "finite weights", received, _CALMER)

    def _what_is_bad(self, loss: float, norm: Tensor) -> str | None:
        if bool(torch.isfinite(norm)) and torch.isfinite(torch.tensor(loss)):
            return None
        for name, weight in self._learning:
            if weight.grad is not None and not bool(torch.isfinite(weight.grad).all()):
                return f"the gradient of '{name}' is not finite (loss {loss:.4g})"
        return f"the loss is {loss:.4g}, the norm of the gradient {float(norm):.4g}"


def not_finite(step: int, many: int, outcome: Outcome) -> TrainingError:
    """That so many updates in a row were not made."""
    return TrainingError(
        where=f"training, step {step}",
        expected="a finite loss and finite gradients",
        found=f"{many} steps in a row without; in the last, {outcome.bad}",
        do=f"{_CALMER}; `rebus data check` looks for numbers that are not finite in the data",
    )


def seed_step(seed: int, step: int) -> None:
    """Seed torch for a step: dropout is a function of (seed, step, rank), so a resume needs no saved state."""
    mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + parallel.rank() * 0x94D049BB133111EB) % 2**63
    mixed = ((mixed ^ (mixed >> 31)) * 0x94D049BB133111EB) % 2**63
    torch.manual_seed(mixed)
