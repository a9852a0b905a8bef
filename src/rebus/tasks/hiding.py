"""Modality dropout: now and then, in training, the image or the text of a row that has both is hidden.

So a model learns what to say of a row that lacks one. What is hidden is a pure function of (seed, epoch, index), as all
chance in a batch is. It never hides what a task cannot do without (a caption's image, a question), nor the only thing
that a row has. Source: Neverova et al. 2016, "ModDrop: adaptive multi-modal gesture recognition".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rebus import recipe
from rebus.tasks.base import Item, Task, Values
from rebus.tasks.cells import missing


def hidden_modality(
    settings: recipe.Recipe,
    key: tuple[int, int],
    rows: Sequence[int],
    tasks: Mapping[str, Task],
    values: Mapping[str, Values],
    present: Sequence[str],
) -> str:
    """The modality that is hidden of an example, or "": nothing.

    Args:
        settings: the recipe: its seed and ``model.fusion.modality_dropout``.
        key: (epoch, index) of the example.
        rows: of the example.
        tasks: name: task, those that are trained now.
        values: name: the task's columns.
        present: the modalities beside text of which the example has an item.
    """
    fusion = settings.model.fusion
    if not fusion.modality_dropout or fusion.kind == "none" or not present:
        return ""
    may = [
        modality
        for modality in present
        if all(_does_without(modality, len(present) > 1, task, values[name], rows) for name, task in tasks.items())
    ]
    if any(_has_spare_text(task, values[name], row) for name, task in tasks.items() for row in rows):
        may.append("text")
    rng = np.random.default_rng((settings.seed, *key, 1))
    if not may or rng.random() >= fusion.modality_dropout:
        return ""
    return may[int(rng.integers(len(may)))]


def without_text(items: list[Item]) -> list[Item]:
    """Items whose text is there but not seen; those whose text is no input of its own stay as they are."""
    return [{**item, "has_text": np.asarray(False)} if "has_text" in item else item for item in items]


def _does_without(modality: str, others: bool, task: Task, values: Values, rows: Sequence[int]) -> bool:
    """Whether a task can predict of rows without a modality; ``others``: they have items of other modalities."""
    if modality in values and modality in task.roles and task.roles[modality].required:
        return False
    if others or (modality in task.roles and modality not in values):
        return True
    more = [role for role in task.inputs if role in values and role not in (modality, *task.settings.unseen)]
    return all(any(not missing(values[role][row]) for role in more) for row in rows)


def _has_spare_text(task: Task, values: Values, row: int) -> bool:
    role = task.roles.get("text")
    return role is not None and not role.required and "text" in values and not missing(values["text"][row])
