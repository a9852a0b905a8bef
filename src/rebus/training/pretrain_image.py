"""Watching runs of the task ``pretrain_image``: what is near to what, and a collapse.

Letters: B images of a batch, S side, R rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rebus.tasks import Prediction, Task
from rebus.tasks.base import Values

Log = Callable[[str], None]
FROM_PROGRESS = 0.2  # of a run, before which vectors that are all alike mean nothing yet


class ImageWatch:
    """Shows what is near to what, and says, once, that a tower has become blind. See ``loop.plan.Observer``.

    Args:
        task: whose predictions are looked at.
    """

    def __init__(self, task: Task) -> None:
        self.task, self.seen, self.said = task, list[Prediction](), False
        self.names: list[str] = []

    def note(self, values: Values, rows: Sequence[int], predictions: Sequence[Prediction]) -> None:
        """Remember a validation's predictions."""
        self.seen = list(predictions)
        self.names = [shown_name(values["image"][row], row) for row in rows]

    def sample(self) -> str:
        """Which held-out image is nearest to the first one."""
        if len(self.seen) < 2:
            return ""
        vectors = np.stack([p.extra["vector"] for p in self.seen])
        cosines = vectors[1:] @ vectors[0]
        best = int(cosines.argmax())
        return f"nearest to {self.names[0]}: {self.names[best + 1]} (cosine {float(cosines[best]):.3f})"

    def stepped(self, step: int, progress: float, parts: Mapping[str, float]) -> Sequence[tuple[str, str]]:
        """Nothing."""
        return ()

    def validated(self, progress: float) -> Sequence[tuple[str, str]]:
        """The warning, if there is reason for one."""
        if self.said or progress < FROM_PROGRESS:
            return ()
        items = [("collapse", text) for text in self.task.remarks(self.seen)]
        self.said = bool(items)
        return items


def shown_name(value: Any, row: int) -> str:
    """What to call a row's image: its file's name, or its row."""
    return Path(value).name if isinstance(value, str) and len(value) < 256 else f"row {row + 1}"
