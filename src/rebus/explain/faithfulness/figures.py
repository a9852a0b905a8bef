"""What was measured of a model's explanations, and the rule by which one method becomes the default.

It knows no model.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rebus.explain.faithfulness.sanity import SAME
from rebus.tasks.metrics.intervals import Interval, bootstrap_interval

ENOUGH = 20  # questions about a thing with a box, for the pointing game to decide
AREAS = ("deletion", "insertion", "text_deletion", "text_insertion")


@dataclass
class MethodFigures:
    """One method's figures; one that could not be measured is not among them.

    Attributes:
        figures: name: (value, low, high), the bounds of the 95% interval. ``pointing``: share of the maps whose maximum
            lies on the thing that was asked about; ``pointing_right``: the same where the answer was right;
            ``deletion``, ``insertion``, ``text_deletion``, ``text_insertion``: areas under the curves.
        by_type: type of question: its pointing rate and how many questions there were.
        sanity: stage: the mean rank correlation of maps before and after the weights were randomised down to there.
        seconds: for one explanation, the median.
    """

    figures: dict[str, Interval] = field(default_factory=dict)
    by_type: dict[str, dict[str, float]] = field(default_factory=dict)
    sanity: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def insane(self) -> bool:
        """Whether maps stay alike when nothing of what was learned is left: a warning."""
        return bool(self.sanity) and list(self.sanity.values())[-1] > SAME

    @property
    def gap(self) -> float | None:
        """Insertion minus deletion, the mean over the image and the text as far as they were measured."""
        pairs = [("insertion", "deletion"), ("text_insertion", "text_deletion")]
        known = [self.figures[a].value - self.figures[b].value for a, b in pairs if {a, b} <= set(self.figures)]
        return float(np.mean(known)) if known else None


@dataclass
class Faithfulness:
    """What was measured for one task.

    Attributes:
        task: its name.
        method: the default that the rule gives.
        why: ``pointing``, ``curves`` or ``only``: what it was chosen by.
        methods: method: its figures.
        random: the same measures for an order or a point that knows nothing.
        rows: how many rows each part of the measure read: ``pointing``, ``pointing_right``, ``curves``, ``sanity``.
        settings: what the measures stand on: tolerance, grid, steps, seed.
        table: name of the table; ``split``: which rows of it.
        seconds: it took.
    """

    task: str
    method: str
    why: str
    methods: dict[str, MethodFigures]
    random: dict[str, Interval]
    rows: dict[str, int]
    settings: dict[str, Any] = field(default_factory=dict)
    table: str = ""
    split: str = ""
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """As JSON values, in the layout of explain.json."""
        return {
            "method": self.method,
            "why": self.why,
            "table": self.table,
            "split": self.split,
            "rows": self.rows,
            "settings": self.settings,
            "seconds": round(self.seconds, 1),
            "random": {name: list(value) for name, value in self.random.items()},
            "methods": {
                name: {
                    "figures": {key: list(value) for key, value in method.figures.items()},
                    "by_type": method.by_type,
                    "sanity": method.sanity,
                    "warned": method.insane,
                    "seconds": round(method.seconds, 4),
                }
                for name, method in self.methods.items()
            },
        }


def chosen(methods: Mapping[str, MethodFigures], questions: int) -> tuple[str, str]:
    """The default method, and what it was chosen by.

    The rule: methods whose maps survive randomised weights are left out, unless there is no other. Of the rest the one
    with the highest pointing rate, where it was measured on at least ``ENOUGH`` questions; equal ones, and all where
    there are no boxes, by insertion minus deletion. Where that is equal too, the order of the methods decides.

    Args:
        methods: in their order of preference, at least one.
        questions: how many the pointing rate is of.
    """
    able = {name: value for name, value in methods.items() if not value.insane} or dict(methods)
    gaps = {name: -np.inf if value.gap is None else value.gap for name, value in able.items()}
    points = {name: value.figures["pointing"].value for name, value in able.items() if "pointing" in value.figures}
    if points and questions >= ENOUGH:
        best = max(points.values())
        able = {name: value for name, value in able.items() if points.get(name) == best}
        return max(able, key=lambda name: gaps[name]), "pointing"
    if any(np.isfinite(gap) for gap in gaps.values()):
        return max(able, key=lambda name: gaps[name]), "curves"
    return next(iter(able)), "only"


def interval(values: ArrayLike, groups: Iterable[Hashable], seed: int = 0) -> Interval:
    """The mean with its 95% bootstrap interval, items of one group (one image) resampled together."""
    low, high = bootstrap_interval(values, seed=seed, groups=list(groups))
    return Interval(float(np.asarray(values, dtype=np.float64).mean()), low, high)
