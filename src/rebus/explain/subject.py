"""One example with one model, ready to be explained: what goes in, what comes out, and which numbers are asked about.

Methods change what goes in, or look at what happens on the way, and read the same numbers. What is explained of a
probability is its log-odds, which neither saturates nor changes when all logits do.
Letters: N variants of the example, W goals, L tokens, C classes, S side of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rebus.inference.session import Session
from rebus.models.batch import Batch, Inputs
from rebus.models.heads import Head
from rebus.models.modalities.rows import RowInputs
from rebus.models.vlm import VisionLanguageModel
from rebus.resolve.inputs import others
from rebus.tasks import Prediction, Task
from rebus.tasks.base import Values
from rebus.tasks.explanation import Goal
from rebus.tasks.pieces import Places

OWNERS = ("owner", "images")  # parts that say which image a row is about


@dataclass
class Subject:
    """A model, a task, and one row of it.

    Attributes:
        session: the model.
        task: the task.
        values: the row, by role.
        shown: (S, S, 3) what the model sees; None: no image.
        part: the task's tensors for one row.
        places: where in the text each id of a stream stands: ``text_ids``, ``input_ids``.
        text: what is read.
        answer: what the model says.
        goals: W of them.
        measure: the model's outputs for N rows -> (N, W).
        whole: what all goals are together, where they are the words of one answer; None: each stands alone.
        remarks: what people should know.
        cells: the row's columns by name, of which modalities beside image and text are read.
    """

    session: Session
    task: Task
    values: Values
    shown: NDArray[np.uint8] | None
    part: dict[str, Tensor] = field(default_factory=dict)
    places: dict[str, Places] = field(default_factory=dict)
    text: str = ""
    answer: str = ""
    goals: list[Goal] = field(default_factory=list)
    measure: Callable[[Any], Tensor] | None = None
    outputs: Callable[[Batch], Any] | None = None
    whole: Goal | None = None
    remarks: list[str] = field(default_factory=list)
    cells: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> VisionLanguageModel:
        """The weights."""
        return self.session.model

    @property
    def head(self) -> Head:
        """The task's."""
        return self.model.head(self.task.name)

    @property
    def stream(self) -> str:
        """The ids among which goals have places."""
        return "input_ids" if self.head.writes else "text_ids"

    def pixels(self) -> Tensor:
        """(1, 3, S, S) float, 0 to 255, channels as the model has them; zeros where there is no image."""
        side = self.session.recipe.image.size
        shown = np.zeros((side, side, 3), dtype=np.uint8) if self.shown is None else self.shown
        result = torch.from_numpy(np.array(shown)).permute(2, 0, 1)[None]
        return result.to(self.model.device, torch.float32)

    def batch(self, pixels: Tensor | None = None, cells: Sequence[tuple[str, Any]] = ()) -> Batch:
        """A batch of N variants of the example.

        Args:
            pixels: (N, 3, S, S) of the image; None: those of the example.
            cells: (modality, the row's cells) of each variant; none: those of the example.
        """
        pixels = self.pixels() if pixels is None else pixels
        pixels = pixels.expand(len(cells), -1, -1, -1) if cells else pixels
        inputs: dict[str, Inputs] = {}
        if self.model.image is not None:
            inputs["image"] = Inputs.one_each(pixels=pixels if self.shown is not None else pixels[:0])
        for name in others(self.session.recipe):
            rows = [row if name == changed else self.cells for changed, row in cells] or [self.cells] * len(pixels)
            modality = self.session.processor.modalities[name]
            inputs[name] = modality.inputs([modality.items(row) for row in rows]).to(self.model.device)
        return Batch(len(pixels), inputs)

    def rows(self, count: int, images: int) -> dict[str, Tensor]:
        """The part for N rows that share one image, or have one each."""
        entries = {
            name: value.expand(count, *value.shape[1:]) for name, value in self.part.items() if name not in OWNERS
        }
        device = self.model.device
        own = torch.arange(count, device=device) if images == count else torch.zeros(count, device=device).long()
        return {**entries, **{name: own for name in OWNERS if name in self.part}}

    def scores(
        self,
        pixels: Tensor | None = None,
        ids: Mapping[str, Tensor] | None = None,
        cells: Sequence[tuple[str, Any]] = (),
    ) -> Tensor:
        """The explained numbers of N variants of the example, (N, W).

        Args:
            pixels: (N or 1, 3, S, S), 0 to 255; None: those of the example.
            ids: stream: (N, L); None: those of the example.
            cells: see ``batch``.
        """
        outputs = self.run(pixels, ids, cells)
        return outputs if self.measure is None else self.measure(outputs)

    def run(
        self,
        pixels: Tensor | None = None,
        ids: Mapping[str, Tensor] | None = None,
        cells: Sequence[tuple[str, Any]] = (),
    ) -> Any:
        """The model's outputs for N variants; see ``scores``."""
        pixels = self.pixels() if pixels is None else pixels
        batch = self.batch(pixels, cells)
        count = max([batch.size, *(len(item) for item in (ids or {}).values())])
        part = {**self.rows(count, batch.size), **(ids or {})}
        batch = batch.with_target(self.task.name, part)
        if self.outputs is not None:
            return self.outputs(batch)
        return self.model(batch, [self.task.name])[self.task.name]

    def predicted(self) -> Prediction:
        """What the model says of the row."""
        return self.session.run_task(self.task, self.values, [0], self.inputs)[0]

    @property
    def inputs(self) -> RowInputs:
        """What the model reads of the row beside text."""
        columns = {name: [cell] for name, cell in self.cells.items()}
        if "image" in self.task.settings.columns:
            columns[self.task.settings.columns["image"]] = [self.shown]
        return self.session.inputs_of(self.task, columns, where=lambda _: "the row")


@contextmanager
def quiet(model: VisionLanguageModel, *, grad: bool = False) -> Iterator[None]:
    """The model as in prediction, with gradients or without, whatever the caller's mode is."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(False), torch.set_grad_enabled(grad):
            yield
    finally:
        model.train(was_training)
