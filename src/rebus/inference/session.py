"""A loaded model with its tasks and tokenizer: decoding of inputs, portions of rows, collation, the writer of texts.

Prediction, explanation, serving, search and validation in training all go through it. What is said of a row is the
task's own (``Task.predict``).

Letters: B examples, R rows, N texts or images, S side of an image, D numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rebus import recipe
from rebus.catalogue import Note, named
from rebus.data.role_cells import role_values
from rebus.data.splits import assign_splits
from rebus.data.table import Table
from rebus.errors import DataError, nearest
from rebus.generation.decoders import EagerDecoder
from rebus.generation.engine import Engine
from rebus.generation.requests import Written
from rebus.generation.sampling import Sampling
from rebus.generation.write import decoder_of, sources_of
from rebus.inference.embedding import embed_images, embed_texts
from rebus.inference.generate import Writing
from rebus.models.batch import Batch
from rebus.models.fusion import Condition
from rebus.models.modalities import MODALITIES, Modality, columns_of
from rebus.models.modalities.image import open_image
from rebus.models.modalities.rows import ItemCache, RowInputs, Where, row_number
from rebus.models.vlm import VisionLanguageModel
from rebus.progress import track
from rebus.resolve.from_table import open_inputs
from rebus.tasks import Prediction, Task, TextProcessor
from rebus.tasks.base import Values
from rebus.tasks.batch_builder import group_rows
from rebus.tasks.cells import missing
from rebus.tasks.session import Portion


class Session:
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

    @cached_property
    def writing(self) -> Writing:
        """The model as a writer of texts, without images; only where the weights no longer change.

        Raises:
            DataError: it does not write.
        """
        return Writing(self.model, self.tasks, self.processor)

    def input_values(self, task: Task, columns: Mapping[str, Sequence[Any]]) -> Values:
        """The task's columns for prediction: what is to be predicted may be absent, what it is predicted from may not.

        Of the columns that are inputs by themselves some may be absent: their values are missing then.

        Raises:
            DataError: a column that the prediction is made from is missing.
        """
        result: Values = {}
        for role, column in task.settings.columns.items():
            if column in columns:
                result[role] = role_values(task.settings, role, columns[column])
            elif role in task.inputs and role not in task.either:
                received = ", ".join(columns) or Note("hint.no_column")
                facts = {"task": task.name, "column": column, "role": named("role", role), "columns": received}
                raise DataError.of("problem.column_of_role", **facts)
        if task.either and not set(task.either) & set(result):
            either = " or ".join(f"'{task.settings.columns[role]}'" for role in task.either)
            do = "rename the column"
            raise DataError(f"task '{task.name}'", f"a column {either}", ", ".join(columns) or "no column", do)
        names = [name for several in columns_of(self.recipe).values() for name in several]
        if names and not set(task.inputs) & set(result) and not set(names) & set(columns):
            expected = f"columns that the model was trained on: {', '.join(names)}"
            raise DataError(f"task '{task.name}'", expected, ", ".join(columns) or "no column", "rename the columns")
        return result

    def open_image(self, value: Any, root: Path, where: str) -> NDArray[np.uint8]:
        """A path, bytes or (H, W, 3) uint8 array as the square that the model sees."""
        return open_image(value, root, where, self.recipe)

    def inputs_of(
        self,
        task: Task,
        columns: Table | Mapping[str, Sequence[Any]],
        root: str | Path = ".",
        where: Where = row_number,
        cache: ItemCache | None = None,
    ) -> RowInputs:
        """What the model reads beside text for a task, of a table's rows or of columns by name."""
        modalities = self._modalities(task)
        if isinstance(columns, Table):
            return open_inputs(columns, self.recipe, modalities, cache)
        return RowInputs(modalities, columns, root, where)

    def _modalities(self, task: Task) -> dict[str, Modality]:
        """Those that the model has a tower for, reading the task's columns where it names some."""
        spec, result = self.model.specs.get(task.name), {}
        for name in self.model.modalities:
            kind, fitted = MODALITIES.get(name), self.processor.modalities.get(name)
            column = task.settings.columns.get(name)
            if not kind.per_example:
                continue
            if column is not None:
                result[name] = kind(self.recipe, [column]) if fitted is None else fitted.reading([column])
            elif fitted is not None and name in self.recipe.data.inputs and (spec is None or name in spec.reads):
                result[name] = fitted
        return result

    @torch.inference_mode()
    def run_task(
        self,
        task: Task,
        values: Values,
        rows: Sequence[int],
        inputs: RowInputs,
        *,
        sampling: Sampling | None = None,
    ) -> list[Prediction]:
        """Predictions for ``rows``, in their order; rows of equal inputs share one pass over them."""
        predictions: dict[int, Prediction] = {}
        with track(task.name, len(rows)) as advance, evaluating(self.model):
            for portion in self.portions(rows, inputs):
                message = task.predict(self, values, portion, sampling)
                predictions.update(zip(portion.rows, message, strict=True))
                advance(len(portion.rows))
        return [predictions[row] for row in rows]

    def portions(self, rows: Sequence[int], inputs: RowInputs) -> Iterator[Portion]:
        """Rows that go through the model together, with their inputs."""
        for groups in self._groups(rows, inputs):
            yield self.portion(groups, inputs)

    def portion(self, groups: Sequence[list[int]], inputs: RowInputs) -> Portion:
        """Groups of rows of equal inputs, an example each."""
        owner = torch.tensor([place for place, group in enumerate(groups) for _ in group], device=self.model.device)
        given = inputs.inputs([group[0] for group in groups])
        batch = Batch(len(groups), {name: value.to(self.model.device) for name, value in given.items()})
        return Portion([row for group in groups for row in group], batch, owner)

    def pixels(self, images: Iterable[NDArray[np.uint8] | None]) -> Tensor:
        """(N, 3, S, S) uint8 of those squares that are there."""
        side = self.recipe.image.size
        arrays = np.array([array for array in images if array is not None], dtype=np.uint8)
        return torch.from_numpy(arrays.reshape(-1, side, side, 3)).permute(0, 3, 1, 2)

    def _groups(self, rows: Sequence[int], inputs: RowInputs) -> Iterator[list[list[int]]]:
        """Groups of rows of equal inputs, at most ``batch_size`` groups and 8 times as many rows at a time."""
        portion: list[list[int]] = []
        count, most = 0, self.batch_size * 8
        for group in group_rows(rows, {row: inputs.key(row) for row in rows} if inputs.modalities else None):
            for start in range(0, len(group), most):
                piece = group[start : start + most]
                if portion and (len(portion) == self.batch_size or count + len(piece) > most):
                    yield portion
                    portion, count = [], 0
                portion.append(piece)
                count += len(piece)
        if portion:
            yield portion

    def outputs(self, name: str, part: Mapping[str, Tensor], batch: Batch | None = None) -> Any:
        """What the head of a task gives for its collated items; ``batch`` None: it reads nothing else."""
        moved = {key: tensor.to(self.model.device) for key, tensor in part.items()}
        batch = Batch.of_target(name, moved) if batch is None else batch.with_target(name, moved)
        return self.model(batch, [name])[name]

    def engine_for(self, condition: Condition, rows: int = 1) -> Engine:
        """What writes texts from a condition: the fast path where the weights no longer change and it can."""
        if self.settled and condition.memory is None:
            return self.writing.engine
        tokenizer, decoder = self.processor.tokenizer, EagerDecoder(decoder_of(self.model))
        return Engine(decoder, tokenizer.eos_ids, vocab_size=tokenizer.vocab_size, max_running=rows)

    def write(self, prompts: Sequence[Sequence[int]], condition: Condition, sampling: Sampling) -> list[Written]:
        """Each of R prompts gone on from, given its own item of the condition."""
        engine = self.engine_for(condition, max(len(prompts) * sampling.n * sampling.beams, 1))
        return engine.write(prompts, sampling, sources=sources_of(self.model, condition, len(prompts)))

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, D) vectors of length one, whose products say how alike texts are. Raises DataError: it reads no text."""
        with evaluating(self.model):
            return embed_texts(self, texts)

    def embed_images(self, images: Iterable[Any], root: str | Path = ".") -> NDArray[np.float32]:
        """(N, D) vectors of length one of paths, bytes or (H, W, 3) arrays; see ``rebus.inference.embedding``."""
        with evaluating(self.model):
            return embed_images(self, images, root)


@contextmanager
def evaluating(model: VisionLanguageModel) -> Iterator[None]:
    """The model as in prediction; afterwards as it was."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def asked_task(tasks: Mapping[str, Task], question: bool) -> str | None:
    """The task that people mean who ask with a question or with an image alone; None: there is no such task."""
    by_input = {task.asked_with: name for name, task in tasks.items() if task.asked_with is not None}
    order = ("question", "image") if question else ("image", "question")
    return next((by_input[given] for given in order if given in by_input), None)


def missing_image(value: Any) -> bool:
    """Whether a cell holds no image."""
    return not isinstance(value, np.ndarray) and missing(value)


def chosen_rows(table: Table, settings: recipe.Recipe, split: str) -> list[int]:
    """Row numbers of a split. Raises DataError for an unknown name."""
    if split == "all":
        return list(range(len(table)))
    if split not in ("train", "valid", "test"):
        raise DataError(
            f"--split {split}",
            "train, valid, test or all",
            f"'{split}'",
            nearest(split, ["train", "valid", "test", "all"]),
        )
    images = [column for column, kind in settings.data.kinds.items() if kind == "image"]
    return [row for row, name in enumerate(assign_splits(table, settings.data.split, images, seed=0)) if name == split]
