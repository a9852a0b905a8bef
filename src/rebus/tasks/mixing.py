"""Mixed targets in a training batch. How inputs are mixed is their modality's: ``Modality.mix``."""

from __future__ import annotations

import numpy as np

from rebus.tasks.base import Item, VectorTask


def mixed_items(task: VectorTask, own: list[Item], theirs: list[Item], share: float) -> list[Item]:
    """An example's item with a mixed target, ``share`` of it its own; none where the other's target is not known."""
    if not own or (share < 1.0 and not theirs):
        return []
    target = task.soft(own[0]["target"])
    if share < 1.0:
        target = np.float32(share) * target + np.float32(1.0 - share) * task.soft(theirs[0]["target"])
    return [{**own[0], "target": target}]
