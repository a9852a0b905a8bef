"""What a task may ask of a loaded model. ``rebus.inference.session`` is one; tasks know no other thing about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rebus import recipe
from rebus.generation.requests import Written
from rebus.generation.sampling import Sampling
from rebus.models.batch import Batch
from rebus.models.fusion import Condition
from rebus.models.vlm import VisionLanguageModel
from rebus.tasks.text_processor import TextProcessor


@dataclass(frozen=True)
class Portion:
    """Rows that go through the model together.

    Attributes:
        rows: R row numbers.
        batch: their inputs, of B examples.
        owner: (R,) long, the example of each row.
    """

    rows: list[int]
    batch: Batch
    owner: Tensor


class Session(Protocol):
    """A model with its tasks and tokenizer, ready to answer."""

    model: VisionLanguageModel
    recipe: recipe.Recipe
    processor: TextProcessor
    batch_size: int

    @property
    def tasks(self) -> Mapping[str, Any]:
        """Name: task, fitted."""

    def outputs(self, name: str, part: Mapping[str, Tensor], batch: Batch | None = None) -> Any:
        """What the head of a task gives for its collated items; ``batch`` None: it reads nothing else."""

    def write(self, prompts: Sequence[Sequence[int]], condition: Condition, sampling: Sampling) -> list[Written]:
        """Each of R prompts gone on from, given its own item of the condition."""

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, D) vectors of length one."""

    def open_image(self, value: Any, root: Path, where: str) -> NDArray[np.uint8]:
        """A path, bytes or array as the (S, S, 3) square that the model sees."""
