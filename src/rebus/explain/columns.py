"""What each column of a row adds to an output: what the output loses when the value is another training row's.

Stand-ins are drawn from the statistics that the model keeps of its training rows, and their outputs are averaged by
how usual they are: occlusion by the data's own distribution. Positive: the value speaks for the output. It goes beside
any method, which says nothing of columns. Letters: K stand-ins, W goals, C columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebus.data.cells import is_blank, scalar
from rebus.explain.result import ColumnScore
from rebus.explain.subject import Subject, quiet

AT_ONCE = 64  # variants of a row that go through the model together


def column_losses(subject: Subject) -> tuple[list[str], NDArray[np.float32]]:
    """The columns of the subject's row, and (C, W) what each goal loses without the row's own value."""
    names: list[str] = []
    variants: list[tuple[str, dict[str, Any]]] = []
    weights: list[tuple[int, float]] = []
    for name, modality in subject.session.processor.modalities.items():
        if not modality.many:
            continue
        row = dict(subject.cells)
        for column in modality.columns:
            usual = modality.usual(column)
            total = sum(weight for _, weight in usual)
            names += [column] if usual else []
            for cell, weight in usual:
                variants.append((name, {**row, column: cell}))
                weights.append((len(names) - 1, weight / total))
    losses = np.zeros((len(names), len(subject.goals)), dtype=np.float32)
    if not variants:
        return names, losses
    with quiet(subject.model):
        plain = subject.scores()[0].float().cpu().numpy()  # (W,)
        for start in range(0, len(variants), AT_ONCE):
            portion = variants[start : start + AT_ONCE]
            others = subject.scores(cells=portion).float().cpu().numpy()  # (K, W)
            for (place, weight), values in zip(weights[start : start + AT_ONCE], others, strict=True):
                losses[place] += weight * (plain - values)
    return names, losses


def column_scores(subject: Subject, names: Sequence[str], losses: NDArray[np.float32]) -> tuple[ColumnScore, ...]:
    """What each column lost, with the row's own value in words, the largest first; ``losses`` (C,)."""
    cells = subject.cells
    whole = float(np.abs(losses).sum()) or 1.0
    lines = []
    for name, loss in zip(names, losses, strict=True):
        cell = cells.get(name)
        text = "" if is_blank(cell) else scalar(cell)
        lines.append(ColumnScore(name, text, float(loss), abs(float(loss)) / whole))
    return tuple(sorted(lines, key=lambda column: -column.share))
