"""A run in stages: which one a step is in, and how far that one is, as pure functions of progress.

What a stage trains is for whoever makes the plan to say; this knows shares of a run and callables.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from rebus.recipe import Train

_CLOSE = 1e-9  # shares such as 0.1 and 0.2 do not add up exactly


@dataclass(frozen=True)
class Stages:
    """The stages of a run.

    Attributes:
        shares: of the run, which add up to 1.
        enter: number of a stage -> the settings it is trained with; changes what learns in the model, whatever stage
            that was in before, so that a resumed run may begin with any.
        left: called with the number of a stage when it has ended, and with -1 before the first step, each time after a
            validation; in the first process alone.
    """

    shares: Sequence[float]
    enter: Callable[[int], Train]
    left: Callable[[int], None] = lambda _: None

    @property
    def starts(self) -> list[float]:
        """The progress at which each stage begins."""
        return [0.0, *list(accumulate(self.shares))[:-1]]

    def at(self, progress: float) -> int:
        """The stage that a run is in which has come so far, 0 to 1."""
        return max(bisect_right(self.starts, progress + _CLOSE) - 1, 0)

    def within(self, progress: float, stage: int) -> float:
        """How far that stage is, 0 to 1: what its learning rate follows."""
        return min(max((progress - self.starts[stage]) / self.shares[stage], 0.0), 1.0)
