"""A trained model, ready to answer: tables, rows or a single image in, predictions out.

Letters: B images, R texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rebus import recipe
from rebus.data.role_cells import role_values
from rebus.data.store import fitted_image
from rebus.data.transforms import fit_image
from rebus.errors import DataError, RecipeError, nearest
from rebus.generation.sampling import Sampling
from rebus.generation.write import sources_of, write
from rebus.inference.embedding import embed_images, embed_texts
from rebus.inference.generate import Writing, last_image, refuse_long, shown_turns
from rebus.inference.likelihood import foresee_rows, guess_rows
from rebus.inference.matching import match_rows, retrieve_rows
from rebus.inference.pretrain_image import look_at_images
from rebus.inference.reading import read_words
from rebus.inference.scoring import choose, condition_of, with_likelihoods
from rebus.models.batch import Batch, Inputs
from rebus.models.vlm import VisionLanguageModel
from rebus.progress import Advance, track
from rebus.tasks import (
    Choose,
    Converse,
    Lm,
    Match,
    Mlm,
    PatchClassify,
    Prediction,
    PretrainImage,
    Retrieve,
    Similar,
    Task,
    TextProcessor,
    VectorTask,
)
from rebus.tasks.base import Values
from rebus.tasks.batch_builder import group_rows
from rebus.tasks.cells import missing
from rebus.tasks.cuts import refusing, warning
from rebus.tasks.reading import WordsTask
from rebus.tasks.writing import WritingTask

LONG = 256  # tokens of an answer in a conversation, where the model's settings do not say more
ASKED = ("question", "text", "tokens", "prompt", "source")  # roles that a single question is given as
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
ImageOf = Callable[[int], NDArray[np.uint8] | None]  # row number -> (size, size, 3)


class Predictor:
    """A model with its tasks and tokenizer.

    Args:
        model: the weights.
        settings: the Run's recipe.
        tasks: name: task, fitted.
        processor: text to ids.
        batch_size: images (or rows without one) a pass.
        settled: the weights no longer change, so that they may be copied into a faster layout.

    Attributes:
        folder: the Run it was opened from, if it was one.
    """

    folder: Path | None = None

    def __init__(
        self,
        model: VisionLanguageModel,
        settings: recipe.Recipe,
        tasks: dict[str, Task],
        processor: TextProcessor,
        *,
        batch_size: int = 64,
        settled: bool = False,
    ) -> None:
        self.model, self.recipe, self.tasks, self.processor = model, settings, tasks, processor
        self.batch_size, self.settled = batch_size, settled

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
        made = cls(*load_model(Run.open(path), dtype), settled=True)
        made.folder = Path(path)
        return made

    @cached_property
    def writing(self) -> Writing:
        """The model as a writer of texts, without images; only where the weights no longer change.

        Raises:
            DataError: it does not write.
        """
        return Writing(self.model, self.tasks, self.processor)

    def task(self, name: str | None = None) -> Task:
        """A task by name; without one, the first that predicts something of a whole row.

        Raises:
            DataError: the model has no such task.
        """
        able = {key: task for key, task in self.tasks.items() if task.predicts}
        if name is None and able:
            return next(iter(able.values()))
        if name not in able:
            raise DataError(
                "the model", f"a task '{name}'", f"the tasks {', '.join(able) or 'none'}", nearest(str(name), able)
            )
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
        images = values.get("image", [None] * len(rows))

        def image_of(row: int) -> NDArray[np.uint8] | None:
            return None if missing_image(images[row]) else self.open_image(images[row], Path(root), f"row {row + 1}")

        with warning():
            return self.run_task(chosen, values, range(len(rows)), image_of)

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
        if system is not None and "converse" not in self.tasks:
            raise DataError("a system text", "a model that converses", ", ".join(self.tasks), "leave it out")
        names = [name for name in ("answer", "caption") if name in self.tasks]
        if question and names == ["caption"]:
            raise DataError(
                "the model", "a task 'answer' for questions", "a model that captions", "ask without a question"
            )
        chosen = self.task(("answer" if question else names[-1]) if names else None)
        if isinstance(chosen, Lm):
            written = self.writing.write([self.writing.prompt(question)], sampling or Sampling(LONG))[0]
            return Prediction(written.text.strip(), float(np.exp(written.logprob)))
        columns = chosen.settings.columns
        values: Values = {role: [question] for role in chosen.inputs if role in columns and role in ASKED}
        more = [role for role in chosen.inputs if chosen.roles[role].required and role not in (*values, "image")]
        if more:
            do = "put them in a table and use `rebus predict`"
            raise DataError(f"task '{chosen.name}'", f"a row with {', '.join(more)}", "one question", do)
        if isinstance(chosen, Converse):
            before = [] if system is None else [{"role": "system", "content": system}]
            values["messages"] = [[*before, {"role": "user", "content": question}]]
            sampling = sampling or Sampling(max(chosen.settings.max_new_tokens, LONG))
        return self._about(chosen, values, image, sampling)

    def answer(self, messages: Sequence[Mapping[str, Any]], *, sampling: Sampling | None = None) -> Prediction:
        """The next answer of a conversation, about the image that was shown last if one was.

        Where all of it has more tokens than the model reads, the oldest turns are left out, with a CutWarning.

        Raises:
            DataError: a message cannot be read. TextLengthError: the last message alone is longer than that.
        """
        chosen = self.task("converse")
        sampling = sampling or Sampling(max(chosen.settings.max_new_tokens, LONG))
        values: Values = {"messages": [shown_turns(messages)]}
        refuse_long(values["messages"][0], self.processor)
        with warning():
            return self._about(chosen, values, last_image(messages), sampling)

    def _about(self, task: Task, values: Values, image: Any, sampling: Sampling | None) -> Prediction:
        shown = not missing_image(image) and task.uses_image
        given = self.open_image(image, Path(), "the image") if shown else None
        if task.uses_image:
            values["image"] = [image]
        return self.run_task(task, values, [0], lambda _: given, sampling=sampling)[0]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, D) vectors of length one, whose products say how alike texts are. Raises DataError: it reads no text.

        A text with more tokens than the model reads is cut, with a CutWarning.
        """
        with warning():
            return embed_texts(self, list(texts))

    def embed_images(self, images: Iterable[Any], root: str | Path = ".") -> NDArray[np.float32]:
        """(N, D) vectors of length one of paths, bytes or (H, W, 3) arrays; see ``rebus.inference.embedding``."""
        return embed_images(self, images, root)

    def input_values(self, task: Task, columns: Mapping[str, Sequence[Any]]) -> Values:
        """The task's columns for prediction: what is to be predicted may be absent, what it is predicted from may not.

        Raises:
            DataError: a column that the prediction is made from is missing.
        """
        found: Values = {}
        for role, column in task.settings.columns.items():
            if column in columns:
                found[role] = role_values(task.settings, role, columns[column])
            elif role in task.inputs and role not in task.either:
                raise DataError(
                    where=f"task '{task.name}'",
                    expected=f"a column '{column}', which the model was trained on as its {role}",
                    found=", ".join(columns) or "no column",
                    do="rename the column",
                )
        if task.either and not set(task.either) & set(found):
            named = " or ".join(f"'{task.settings.columns[role]}'" for role in task.either)
            do = "rename the column"
            raise DataError(f"task '{task.name}'", f"a column {named}", ", ".join(columns) or "no column", do)
        return found

    def open_image(self, value: Any, root: Path, where: str) -> NDArray[np.uint8]:
        """A path, bytes or (H, W, 3) uint8 array as the square that the model sees."""
        data, image = self.recipe.data, self.recipe.image
        if isinstance(value, np.ndarray):
            if value.ndim != 3 or value.shape[2] != 3 or value.dtype != np.uint8:
                raise DataError(where, "an array (H, W, 3) of uint8", f"{value.shape} of {value.dtype}", "convert it")
            return fit_image(value, image.size, image.fit, data.background, image.resample, image.edge)
        return fitted_image(
            str(value) if isinstance(value, Path) else value,
            root,
            size=image.size,
            fit=image.fit,
            background=data.background,
            pixel_budget=data.pixel_budget,
            where=where,
            resample=image.resample,
            edge=image.edge,
            jpeg=data.jpeg,
            levels=data.levels,
        )

    @torch.inference_mode()
    def run_task(
        self,
        task: Task,
        values: Values,
        rows: Sequence[int],
        image_of: ImageOf,
        *,
        sampling: Sampling | None = None,
    ) -> list[Prediction]:
        """Predictions for ``rows``, in their order; rows that share an image share one pass over it."""
        with track(task.name, len(rows)) as advance:
            return self._run_task(task, values, rows, image_of, sampling, advance)

    def _run_task(
        self,
        task: Task,
        values: Values,
        rows: Sequence[int],
        image_of: ImageOf,
        sampling: Sampling | None,
        advance: Advance,
    ) -> list[Prediction]:
        found: dict[int, Prediction] = {}
        was_training = self.model.training
        self.model.eval()
        try:
            for groups in self._portions(values, rows):
                batch = self._images(groups, image_of)
                flat = [row for group in groups for row in group]
                owner = torch.tensor([place for place, group in enumerate(groups) for _ in group], device=self._device)
                if isinstance(task, VectorTask):
                    told = self._vector(task, values, flat, batch, owner)
                elif isinstance(task, Lm):
                    told = foresee_rows(self, task, values, flat)
                elif isinstance(task, Mlm):
                    told = guess_rows(self, task, values, flat)
                elif isinstance(task, WritingTask):
                    told = self._written(task, values, flat, batch, owner, sampling)
                elif isinstance(task, WordsTask):
                    told = read_words(self, task, values, flat, batch, owner)
                elif isinstance(task, Similar):
                    told = task.predict_pairs(values, flat, self.embed)
                elif isinstance(task, Retrieve):
                    told = retrieve_rows(self, task, values, flat, batch, owner)
                elif isinstance(task, Match):
                    told = match_rows(self, task, values, flat, batch, owner)
                elif isinstance(task, PretrainImage):
                    told = look_at_images(self, task, flat, batch, owner)
                elif isinstance(task, PatchClassify):
                    told = self._shares(task, values, flat, batch, owner)
                else:
                    raise DataError(
                        "the model", "a task that predicts something of a row", task.name, "name another task"
                    )
                found.update(zip(flat, told, strict=True))
                advance(len(flat))
        finally:
            self.model.train(was_training)
        return [found[row] for row in rows]

    @property
    def _device(self) -> torch.device:
        return self.model.device

    def _portions(self, values: Values, rows: Sequence[int]) -> Iterator[list[list[int]]]:
        """Groups of rows that share an image, at most ``batch_size`` groups and 8 times as many rows at a time."""
        portion: list[list[int]] = []
        count, most = 0, self.batch_size * 8
        for group in group_rows(rows, values.get("image")):
            for start in range(0, len(group), most):
                piece = group[start : start + most]
                if portion and (len(portion) == self.batch_size or count + len(piece) > most):
                    yield portion
                    portion, count = [], 0
                portion.append(piece)
                count += len(piece)
        if portion:
            yield portion

    def _images(self, groups: list[list[int]], image_of: ImageOf) -> Batch:
        if self.model.image is None:
            return Batch(len(groups))
        side = self.recipe.image.size
        opened = [image_of(group[0]) for group in groups]
        owner = torch.tensor([place for place, array in enumerate(opened) if array is not None], dtype=torch.long)
        arrays = np.array([array for array in opened if array is not None], dtype=np.uint8).reshape(-1, side, side, 3)
        images = Inputs({"pixels": torch.from_numpy(arrays).permute(0, 3, 1, 2)}, owner)
        return Batch(len(groups), {"image": images.to(self._device)})

    def _shares(
        self, task: PatchClassify, values: Values, rows: list[int], batch: Batch, owner: torch.Tensor
    ) -> list[Prediction]:
        """For each row with boxes, the share of its image's patches that are named right."""
        part = task.collate([{"map": task.draw(values["boxes"][row])} for row in rows], owner.tolist())
        batch.targets[task.name] = {name: tensor.to(self._device) for name, tensor in part.items()}
        return task.shares(self.model(batch, [task.name])[task.name], batch.targets[task.name])

    def _vector(
        self, task: VectorTask, values: Values, rows: list[int], batch: Batch, owner: torch.Tensor
    ) -> list[Prediction]:
        part = task.collate(task.items(values, rows, self.processor, None), owner.tolist())
        batch.targets[task.name] = {name: tensor.to(self._device) for name, tensor in part.items()}
        return task.predict(self.model(batch, [task.name])[task.name])

    def _written(
        self,
        task: WritingTask,
        values: Values,
        rows: list[int],
        batch: Batch,
        owner: torch.Tensor,
        sampling: Sampling | None,
    ) -> list[Prediction]:
        condition = condition_of(self, task, values, rows, batch, owner)
        if isinstance(task, Choose):
            return choose(self, task, values, rows, condition)
        prompts = [task.ask(values, row, self.processor) for row in rows]
        sampling = sampling or Sampling(max_new_tokens=task.settings.max_new_tokens)
        tokenizer = self.processor.tokenizer
        if self.settled and condition.memory is None:
            sources = sources_of(self.model, condition, len(prompts))
            texts = self.writing.engine.write(prompts, sampling, sources=sources)
        else:
            ends, size = tokenizer.eos_ids, tokenizer.vocab_size
            texts = write(self.model, condition, prompts, sampling, eos_id=ends, vocab_size=size)
        told = [Prediction(task.said(tokenizer.decode(text.ids)), float(np.exp(text.logprob))) for text in texts]
        return with_likelihoods(self, task, values, rows, condition, told) if task.judges_likelihood else told


def missing_image(value: Any) -> bool:
    """Whether a cell holds no image."""
    return not isinstance(value, np.ndarray) and missing(value)
