"""Modality dropout: now and then, in training, the image or the text of a row that has both is hidden.

So a model learns what to say of a row that lacks one. What is hidden is a pure function of (seed, epoch, index), as all
chance in a batch is. It never hides what a task cannot do without (a caption's image, a question), nor the only thing
that a row has. Source: Neverova et al. 2016, "ModDrop: adaptive multi-modal gesture recognition".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from rebus import recipe
from rebus.tasks.base import Item, Task, Values
from rebus.tasks.cells import missing

Hidden = Literal["", "image", "text"]


def hidden_modality(
    settings: recipe.Recipe,
    key: tuple[int, int],
    rows: Sequence[int],
    tasks: Mapping[str, Task],
    values: Mapping[str, Values],
    *,
    has_image: bool,
) -> Hidden:
    """What is hidden of a group of rows that share an image, or nothing.

    Args:
        settings: the recipe: its seed and ``model.fusion.modality_dropout``.
        key: (epoch, index) of the group.
        rows: of the group.
        tasks: name: task, those that are trained now.
        values: name: the task's columns.
        has_image: whether the model is shown an image of the group.
    """
    fusion = settings.model.fusion
    if not fusion.modality_dropout or fusion.kind == "none" or not has_image:
        return ""
    may: list[Hidden] = []
    if all(_does_without_image(task, values[name], rows) for name, task in tasks.items()):
        may.append("image")
    if any(_has_spare_text(task, values[name], row) for name, task in tasks.items() for row in rows):
        may.append("text")
    rng = np.random.default_rng((settings.seed, *key, 1))
    if not may or rng.random() >= fusion.modality_dropout:
        return ""
    return may[int(rng.integers(len(may)))]


def without_text(items: list[Item]) -> list[Item]:
    """Items whose text is there but not seen; those whose text is no input of its own stay as they are."""
    return [{**item, "has_text": np.asarray(False)} if "has_text" in item else item for item in items]


def _does_without_image(task: Task, values: Values, rows: Sequence[int]) -> bool:
    if "image" not in values:
        return True
    if task.roles["image"].required:
        return False
    others = [role for role in task.inputs if role in values and role not in ("image", *task.settings.unseen)]
    return all(any(not missing(values[role][row]) for role in others) for row in rows)


def _has_spare_text(task: Task, values: Values, row: int) -> bool:
    role = task.roles.get("text")
    return role is not None and not role.required and "text" in values and not missing(values["text"][row])
