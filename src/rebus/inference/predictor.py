"""A trained model, ready to answer: tables, rows or a single image in, predictions out.

Letters: B images, R texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rebus.errors import DataError, RecipeError, nearest
from rebus.generation.sampling import Sampling
from rebus.inference.generate import last_image, refuse_long, shown_turns
from rebus.inference.session import Session, asked_task
from rebus.tasks import (
    Prediction,
    Task,
)
from rebus.tasks.base import Values
from rebus.tasks.converse import LONG
from rebus.tasks.cuts import refusing, warning

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Predictor(Session):
    """A session that people ask: tables, rows or a single image in, predictions out."""

    @classmethod
    def open(cls, path: str | Path, *, precision: str = "fp32", log: Callable[[str], None] | None = None) -> Predictor:
        """The model of a Run folder, or of another project's checkpoint.

        Args:
            path: a Run, a Hugging Face folder, a .gguf file or a hub id.
            precision: of the weights in memory, ``fp32`` or ``bf16``: half as large, and written from twice as fast.
            log: prints a line for people.

        Raises:
            RunError: the folder is missing, unfinished or damaged; WeightsError: its weights do not fit its recipe.
            RecipeError: no such precision.
        """
        from rebus.checkpoints.hf_load import is_checkpoint, open_checkpoint
        from rebus.checkpoints.run_folder import Run
        from rebus.checkpoints.save_load import load_model

        if precision not in PRECISIONS:
            raise RecipeError("the precision", " or ".join(PRECISIONS), precision, nearest(precision, PRECISIONS))
        dtype = PRECISIONS[precision]
        if is_checkpoint(path):
            opened = open_checkpoint(path, log or (lambda _: None), dtype)
            return cls(*opened, settled=True)
        result = cls(*load_model(Run.open(path), dtype), settled=True)
        result.folder = Path(path)
        return result

    def task(self, name: str | None = None) -> Task:
        """A task by name; without one, the first that predicts something of a whole row.

        Raises:
            DataError: the model has no such task.
        """
        able = {key: task for key, task in self.tasks.items() if task.predicts}
        if name is None and able:
            return next(iter(able.values()))
        if name not in able:
            tasks, hint = ", ".join(able) or "none", nearest(str(name), able)
            raise DataError.of("problem.no_task", task=str(name), tasks=tasks, hint=hint)
        return able[name]

    def predict(
        self, rows: Sequence[dict[str, Any]] | dict[str, Any], *, task: str | None = None, root: str | Path = "."
    ) -> list[Prediction]:
        """Predictions for rows given as dictionaries of columns.

        Args:
            rows: one or more rows with the columns the task was trained on; images as path, bytes or (H, W, 3) array.
            task: which task; None: the first.
            root: folder that relative image paths start from.

        A text with more tokens than the model reads is cut as in training, with a CutWarning.

        Raises:
            DataError: a column is missing. ImageError: an image cannot be read.
        """
        rows = [rows] if isinstance(rows, dict) else list(rows)
        chosen = self.task(task)
        if not rows:
            return []
        columns = {name: [row.get(name) for row in rows] for name in {key for row in rows for key in row}}
        values = self.input_values(chosen, columns)
        with warning():
            return self.run_task(chosen, values, range(len(rows)), self.inputs_of(chosen, columns, root))

    def ask(
        self, image: Any, question: str = "", *, system: str | None = None, sampling: Sampling | None = None
    ) -> Prediction:
        """One image (path, bytes, array or None), one question.

        A model that answers is asked; one that only captions gets no question; one that classifies reads it as text;
        one that converses or goes on from a prompt is given it as that.

        Raises:
            DataError: the model cannot be asked that. TextLengthError: the question has more tokens than it reads.
        """
        with refusing("the question"):
            return self._asked(image, question, system, sampling)

    def _asked(self, image: Any, question: str, system: str | None, sampling: Sampling | None) -> Prediction:
        if system is not None and not any(task.converses for task in self.tasks.values()):
            raise DataError("a system text", "a model that converses", ", ".join(self.tasks), "leave it out")
        chosen = self.task(asked_task(self.tasks, bool(question)))
        if question and chosen.asked_with == "image":
            raise DataError.of("problem.captions_only")
        if chosen.continues:
            written = self.writing.write([self.writing.prompt(question)], sampling or Sampling(LONG))[0]
            return Prediction(written.text.strip(), float(np.exp(written.logprob)))
        values = chosen.question_values(question, system)
        more = [role for role in chosen.inputs if chosen.roles[role].required and role not in (*values, "image")]
        if more:
            raise DataError.of("problem.one_question", task=chosen.name, roles=list(more))
        return self._about(chosen, values, image, sampling or chosen.question_sampling())

    def answer(self, messages: Sequence[Mapping[str, Any]], *, sampling: Sampling | None = None) -> Prediction:
        """The next answer of a conversation, about the image that was shown last if one was.

        Where all of it has more tokens than the model reads, the oldest turns are left out, with a CutWarning.

        Raises:
            DataError: a message cannot be read. TextLengthError: the last message alone is longer than that.
        """
        chosen = self.task(next((name for name, task in self.tasks.items() if task.converses), "converse"))
        sampling = sampling or chosen.question_sampling()
        values: Values = {"messages": [shown_turns(messages)]}
        refuse_long(values["messages"][0], self.processor)
        with warning():
            return self._about(chosen, values, last_image(messages), sampling)

    def _about(self, task: Task, values: Values, image: Any, sampling: Sampling | None) -> Prediction:
        columns = {}
        if task.uses_image:
            values["image"] = columns[task.settings.columns["image"]] = [image]
        inputs = self.inputs_of(task, columns, where=lambda _: "the image")
        return self.run_task(task, values, [0], inputs, sampling=sampling)[0]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, D) vectors of length one, whose products say how alike texts are. Raises DataError: it reads no text.

        A text with more tokens than the model reads is cut, with a CutWarning.
        """
        with warning():
            return self.embed_texts(list(texts))
