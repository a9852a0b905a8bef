"""What is asked of a model, as one row of its task: an image and a text, or the columns of its table.

It knows no methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebus.data.table import entries
from rebus.errors import DataError, nearest
from rebus.inference.predictor import Predictor
from rebus.inference.session import asked_task, missing_image
from rebus.tasks import Task
from rebus.tasks.base import Values


def explained_task(predictor: Predictor, name: str | None, *, asked: bool = False) -> Task:
    """The task that is explained; without a name the one that ``ask`` would take.

    Args:
        predictor: the model.
        name: of the task.
        asked: whether a question is given.

    Raises:
        DataError: there is no such task, or it says nothing that could be explained.
    """
    able = {key: task for key, task in predictor.tasks.items() if task.explains}
    if name is None:
        name = asked_task(able, asked) or next(
            (key for key, task in able.items() if task.predicts), next(iter(able), None)
        )
    if name is None or name not in able:
        received = ", ".join(able) or "none that gives an output for an image or a text"
        raise DataError(
            "the model",
            f"a task '{name}' to explain" if name else "a task to explain",
            received,
            nearest(str(name), able),
        )
    return able[name]


def row_of(task: Task, text: str, columns: Mapping[str, Any] | None) -> Values:
    """The task's roles for one row.

    Args:
        task: what is asked.
        text: the question, the prompt or whatever else the task reads; it goes before the columns.
        columns: of the table, by their names or by their roles.

    Raises:
        DataError: the task reads no text but there is one, or it lacks something that it reads.
    """
    given, named = dict(columns or {}), task.settings.columns
    values: Values = {}
    for role in (*task.inputs, *(input for input in ("text", "positive") if input in task.roles)):
        column = named.get(role)
        if column is not None and column in given:
            values[role] = [given[column]]
        elif role in given and role not in named.values():
            values[role] = [given[role]]
    if text:
        question = task.question_values(text)
        if not question:
            reads = ", ".join(named.get(input, input) for input in task.inputs) or "nothing"
            raise DataError.of("problem.reads_no_text", task=task.name, reads=reads)
        values |= question
    wanted = [role for role in task.inputs if task.roles[role].required and role != "image"]
    lacking = [role for role in wanted if role not in values]
    if lacking:
        many = " and ".join(lacking)
        raise DataError.of("problem.needs_row", task=task.name, roles=many)
    return values


def image_of(predictor: Predictor, task: Task, image: Any, values: Values) -> NDArray[np.uint8] | None:
    """The (S, S, 3) square that the model sees; None where there is no image.

    Raises:
        DataError: the task sees no images but there is one, or it needs one. ImageError: it cannot be read.
    """
    if missing_image(image):
        image = values["image"][0] if "image" in values else None
    there = not missing_image(image)
    sees = task.uses_image and predictor.model.image is not None
    if there and not sees:
        raise DataError.of("problem.reads_no_image", task=task.name)
    if not there:
        if sees and task.roles["image"].required:
            raise DataError.of("problem.needs_image", task=task.name)
        return None
    if len(several := entries(image)) > 1:
        raise DataError(f"task '{task.name}'", "one image to explain", f"{len(several)}", "give one of them")
    values["image"] = several
    image = several[0]
    return predictor.open_image(image, Path(), "the image")
