"""What is explained of a task's output: goals, which are numbers of an example that methods take apart.

A task fills in the goals of an example (``Task.explanation_targets``); ``rebus.explain`` has the methods. Letters: N
variants of the example, W goals, L tokens, C classes, S side of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rebus.errors import DataError, nearest
from rebus.models.batch import Batch
from rebus.models.vlm import VisionLanguageModel
from rebus.tasks.cells import missing
from rebus.tasks.pieces import Places, located
from rebus.tasks.session import Session

Target = str | int | None  # what is asked about: a label, a word, its number; None: the model's own answer


@dataclass(frozen=True)
class Goal:
    """One number that is explained.

    Attributes:
        target: what it is, in words.
        score: a probability, or the number itself.
        at: the places of the stream (``Subject.stream``) at which it is asked, or of image tokens; none: it is asked
            of the whole.
        word: of a written word, its number and its text.
        span: of a written word, where it stands in the answer.
        label: of what a patch shows, its number.
        unit: of a number that is no log-odds: how large a change of it is; 0: it is log-odds.
    """

    target: str
    score: float
    at: tuple[int, ...] = ()
    word: tuple[int, str] | None = None
    label: int | None = None
    span: tuple[int, int] | None = None
    unit: float = 0.0


class Example(Protocol):
    """One row of a task with a model; ``rebus.explain.subject.Subject`` is one, and says what each part is."""

    values: dict[str, Any]
    shown: NDArray[np.uint8] | None
    part: dict[str, Tensor]
    places: dict[str, Places]
    text: str
    answer: str
    goals: list[Goal]
    measure: Callable[[Any], Tensor] | None
    outputs: Callable[[Batch], Any] | None
    whole: Goal | None
    remarks: list[str]

    @property
    def session(self) -> Session:
        """The model with its tokenizer."""

    @property
    def model(self) -> VisionLanguageModel:
        """The weights."""

    def run(self) -> Any:
        """The model's outputs for the example."""

    def scores(self) -> Tensor:
        """The explained numbers of the example, (1, W)."""

    def batch(self) -> Batch:
        """The example's inputs."""

    def predicted(self) -> Any:
        """What the model says of the row."""


def read_places(example: Example, text: str, shift: int = 0) -> tuple[list[int], Places]:
    """The text tower's ids of a text, and where each stands in it."""
    processor = example.session.processor
    reader = processor.reader or processor.tokenizer
    ids = processor.read(text)
    wanted, offsets = reader.encode_with_offsets(text)
    return ids, located(ids, wanted, offsets, shift)


def give_text(example: Example, text: str, *, there: bool = True) -> None:
    """Put a text into the part as what the text tower reads."""
    ids, places = read_places(example, text)
    device = example.model.device
    example.part["text_ids"] = torch.tensor([ids], device=device)
    example.part["text_mask"] = torch.full((1, len(ids)), there, dtype=torch.bool, device=device)
    nowhere: Places = [None] * len(ids)
    example.text, example.places["text_ids"] = (text, places) if there else ("", nowhere)


def begin_example(example: Example, text: str | None) -> None:
    """Say that all is about one row, and put its text in; None: the task reads none."""
    example.part["owner"] = torch.zeros(1, dtype=torch.long, device=example.model.device)
    if text is not None:
        give_text(example, text, there=not missing(text))


def label_number(index: Mapping[str, int], target: Target, default: int) -> int:
    """The place of a label in the model's outputs."""
    if target is None:
        return default
    if str(target) not in index:
        raise DataError("the target", "a label that the model knows", f"'{target}'", nearest(str(target), index))
    return index[str(target)]


def refuse_target(target: Target) -> None:
    """Raise DataError unless there is no target: the task gives one number."""
    if target is not None:
        do = "leave the target out"
        raise DataError("the target", "none: the task gives one number", f"'{target}'", do)


def log_odds(logits: Tensor, wanted: Tensor) -> Tensor:
    """(..., C) logits and (...) long -> (...): log p / (1 - p) of the wanted ones."""
    logits = logits.float()
    chosen = logits.gather(-1, wanted[..., None])[..., 0]
    others = logits.scatter(-1, wanted[..., None], float("-inf")).logsumexp(-1)
    return chosen - others
