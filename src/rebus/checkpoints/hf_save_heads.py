"""Which head of a model an architecture of its family has a place for, and what config.json says of its outputs.

``pipeline("text-classification")`` and its like then open a Run and give its answers. One head has a place; those of
other tasks lie in heads.safetensors, and the model card says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from rebus.formats.names import State
from rebus.models.vlm import VisionLanguageModel
from rebus.tasks import Classify, Ner, Tag, Task
from rebus.tasks.extract import Extract

SEQUENCE, TOKENS, ANSWERS = "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"
IMAGE = "ForImageClassification"
PIPELINES = {  # the pipeline of transformers that opens an architecture
    SEQUENCE: "text-classification",
    TOKENS: "token-classification",
    ANSWERS: "question-answering",
    IMAGE: "image-classification",
}


@dataclass(frozen=True)
class PlacedHead:
    """A task's linear head with a place in an architecture.

    Attributes:
        task: its name.
        ending: of the architecture's name, without the family.
        entries: of config.json: names of the outputs, the kind of problem.
    """

    task: str
    ending: str
    entries: dict[str, Any]

    @property
    def prefix(self) -> str:
        """Of the head's tensors in the model."""
        return f"heads.{self.task}.linear."

    def split(self, heads: Mapping[str, Tensor]) -> tuple[State, State]:
        """The head's ``weight`` and ``bias``, and the tensors of all other heads."""
        own = {name.removeprefix(self.prefix): one for name, one in heads.items() if name.startswith(self.prefix)}
        return own, {name: one for name, one in heads.items() if not name.startswith(self.prefix)}


def placed_text_head(model: VisionLanguageModel, tasks: Iterable[Task]) -> PlacedHead | None:
    """The first head that BERT has a place for; None where there is none."""
    if model.settings.head != "linear" or model.text is None:
        return None
    pooled = model.text.settings.pool == "cls"
    for task in tasks:
        if isinstance(task, Classify) and pooled:
            return PlacedHead(
                task.name, SEQUENCE, _named(task.labels) | {"problem_type": "single_label_classification"}
            )
        if isinstance(task, Tag) and pooled:
            return PlacedHead(task.name, SEQUENCE, _named(task.labels) | {"problem_type": "multi_label_classification"})
        if isinstance(task, Ner):
            return PlacedHead(task.name, TOKENS, _named(task.tags))
        if isinstance(task, Extract):
            return PlacedHead(task.name, ANSWERS, {})
    return None


def placed_image_head(model: VisionLanguageModel, tasks: Iterable[Task]) -> PlacedHead | None:
    """The first head that ViT's or ResNet's image classifier has a place for; None where there is none."""
    if model.settings.head != "linear" or model.image is None:
        return None
    for task in tasks:
        if isinstance(task, Classify | Tag):
            return PlacedHead(task.name, IMAGE, _classes(task))
    return None


def _classes(task: Classify | Tag) -> dict[str, Any]:
    kind = "single_label_classification" if isinstance(task, Classify) else "multi_label_classification"
    return _named(task.labels) | {"problem_type": kind}


def _named(labels: list[str]) -> dict[str, Any]:
    return {
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
    }
