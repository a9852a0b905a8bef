"""The steps since the last line of the log: their mean loss and how fast they were. Knows no file and no model."""

from __future__ import annotations

from typing import Any

from rebus.loop.update import Outcome


class Window:
    """Losses and seconds of steps.

    Args:
        rows: units a step.
        unit: what is counted: examples, tokens.
        work: floating-point operations a unit; None: not told.
        peak: FLOP/s of a large product here; 0: not measured.
    """

    def __init__(self, rows: float, unit: str, work: float | None, peak: float) -> None:
        self.rows, self.unit, self.work, self.peak = rows, unit, work, peak
        self._steps: list[tuple[float, float]] = []  # (loss, seconds)

    def add(self, loss: float, seconds: float) -> None:
        """One more step."""
        self._steps.append((loss, seconds))

    @property
    def loss(self) -> float:
        """Mean of the steps."""
        return sum(loss for loss, _ in self._steps) / len(self._steps)

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.rows * len(self._steps) / max(sum(spent for _, spent in self._steps), 1e-9)

    def line(self, outcome: Outcome, **values: Any) -> dict[str, Any]:
        """What the log says of these steps, which are forgotten then."""
        entries = {**values, "loss": self.loss, "grad_norm": outcome.norm, f"{self.unit}_per_second": self.rate}
        if self.work and self.peak:
            entries["share_of_peak"] = self.work * self.rate / self.peak
        self._steps.clear()
        return {**entries, "parts": outcome.parts}
