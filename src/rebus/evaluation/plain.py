"""The plain model beside a trained one: fitted in seconds on the training rows, judged on the same rows as the model.

What it is belongs to the task (``Task.plain``); here are its rows, its features and the bounds on its time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rebus.errors import RebusError
from rebus.evaluation.rows import Rows
from rebus.tasks import Prediction
from rebus.tasks.linear import features_of, image_features

MOST = 20_000  # training rows that it is fitted on
FIRST = 1000  # training rows of a first fit, which says how long one of more rows would take
SECONDS = 10.0  # that it takes at most, about; less where a run has a short time limit
PART = 0.1  # of the time limit


@dataclass(frozen=True)
class Plain:
    """What a plain model says.

    Attributes:
        told: a prediction a row.
        name: what it is.
        rows: training rows it was fitted on.
        of: training rows there are.
        seconds: that all of it took.
    """

    told: list[Prediction]
    name: str
    rows: int
    of: int
    seconds: float


def plain_model(
    source: Rows, rows: Sequence[int], memory: Rows, training: Sequence[int], minutes: float | None
) -> Plain | None:
    """Fit it and ask it.

    Args:
        source: the table that holds ``rows``, as the task sees it.
        rows: what it is asked.
        memory: the table that holds ``training``.
        training: rows that it may learn from.
        minutes: the run's time limit; None: there was none.

    Returns:
        None where the task has no such model, or nothing to fit it on.
    """
    task, start = source.task, time.monotonic()
    if not task.has_plain or len(training) < 2:
        return None
    budget = SECONDS if minutes is None else min(SECONDS, max(PART * 60 * minutes, 1.0))
    drawn = [training[at] for at in np.random.default_rng(0).permutation(len(training))[:MOST]]
    images: NDArray[np.float32] | None = None
    if source.sees and memory.sees:
        drawn, images = _seen(memory, drawn, start + budget / 2)
    asked = None if images is None else np.stack([image_features(source.image(row)) for row in rows])

    def fit(count: int) -> tuple[list[Prediction], str] | None:
        some = drawn[:count]
        known, texts = _texts(memory, some), _texts(source, rows)
        features = features_of(known, texts, None if images is None else images[:count], asked)
        return None if features is None else task.plain(source.values, rows, memory.values, some, features)

    count = min(FIRST, len(drawn))
    if not count:
        return None
    before = time.monotonic()
    result = fit(count)
    left = start + budget - time.monotonic()
    fitting = min(len(drawn), int(count * left / max(time.monotonic() - before, 1e-3)))
    if result is not None and fitting > 1.5 * count:
        count, result = fitting, fit(fitting)
    if result is None:
        return None
    return Plain(*result, count, len(training), time.monotonic() - start)


def _texts(source: Rows, rows: Sequence[int]) -> list[str] | None:
    """The text of each row that a plain model reads; None: the task has none."""
    texts = [source.task.plain_text(source.values, row) for row in rows]
    return None if texts[0] is None else [text or "" for text in texts]


def _seen(memory: Rows, rows: Sequence[int], until: float) -> tuple[list[int], NDArray[np.float32]]:
    """Those rows whose images can be read before ``until``, ``FIRST`` of them whatever it takes; their features."""
    good: list[int] = []
    features = []
    for row in rows:
        if time.monotonic() > until and len(good) >= min(FIRST, 100):
            break
        try:
            features.append(image_features(memory.image(row)))
        except RebusError:  # said by the check
            continue
        good.append(row)
    return good, np.stack(features) if features else np.zeros((0, 400), dtype=np.float32)
