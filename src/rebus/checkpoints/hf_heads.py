"""Linear heads that an architecture of transformers has a place for, out of a model and into one.

``pipeline("text-classification")`` and its like then open a Run and give its answers. One head has a place; those of
other tasks lie in heads.safetensors. What a checkpoint's training data looked like is not in it: a tagger's words are
cut as texts without tags are, and an extractor's longest answer is that of transformers' pipeline.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rebus.data.marks import Marks
from rebus.data.tagging import OUTSIDE
from rebus.formats.config import Fields
from rebus.formats.family import CheckpointFamily
from rebus.formats.names import State, below
from rebus.models.vlm import VisionLanguageModel
from rebus.recipe import TaskSettings
from rebus.tasks import TASKS, Task
from rebus.tasks.transformers_head import ANSWERS, IMAGE, SEQUENCE, TOKENS

PIPELINES = {  # the pipeline of transformers that opens an architecture
    SEQUENCE: "text-classification",
    TOKENS: "token-classification",
    ANSWERS: "question-answering",
    IMAGE: "image-classification",
}
_LONGEST = 15  # words of an answer
_LETTERS = {"BIO": "BI", "BIOES": "BIES"}


@dataclass(frozen=True)
class LinearHead:
    """A task's linear head and the architecture that has a place for it.

    Attributes:
        task: whose it is; of a checkpoint, restored.
        architecture: with its family.
        layer: what files call it there.
        entries: of config.json: names of the outputs, the kind of problem.
        pool: how the text tower's one vector is made for it.
        order: rows of a checkpoint's weight and bias, in the order of the task's outputs; None: as they are.
    """

    task: Task
    architecture: str
    layer: str
    entries: Mapping[str, Any]
    pool: str = "cls"
    order: list[int] | None = None

    @property
    def prefix(self) -> str:
        """Of the head's tensors in a model."""
        return f"heads.{self.task.name}.linear."

    def to_hf(self, state: Mapping[str, Tensor]) -> State:
        """A model's tensors of this head under the names of the architecture."""
        return {f"{self.layer}.{name}": tensor for name, tensor in below(self.prefix, state).items()}

    def from_hf(self, tensors: Mapping[str, Tensor]) -> State:
        """The other way round, in the order of the task's outputs."""
        own = below(f"{self.layer}.", tensors)
        rows = slice(None) if self.order is None else torch.tensor(self.order)
        return {self.prefix + name: tensor[rows] for name, tensor in own.items()}


def placed_head(model: VisionLanguageModel, family: CheckpointFamily, tasks: Iterable[Task]) -> LinearHead | None:
    """The first head that an architecture of the family has a place for; None where there is none."""
    tower = model.text if model.text is not None else model.image
    if model.settings.head != "linear" or tower is None or tower.settings.pool == "pooler":
        return None
    for task in tasks:
        head = task.transformers_head()
        if head is None or (head.pooled and model.text is not None and tower.settings.pool != "cls"):
            continue
        ending = head.ending if model.text is not None else head.image_ending
        for architecture, layer in family.heads.items():
            if ending is not None and architecture.endswith(ending):
                return LinearHead(task, architecture, layer, head.entries)
    return None


def architecture_of(config: Mapping[str, Any], family: CheckpointFamily) -> str | None:
    """The architecture with a linear head that is known, where a configuration names one."""
    named = config.get("architectures")
    names = [str(name) for name in named] if isinstance(named, list) else []
    return next((name for name in names if name in family.heads), None)


def read_head(
    config: Mapping[str, Any], family: CheckpointFamily, tensors: Mapping[str, Tensor]
) -> LinearHead | str | None:
    """The head of a checkpoint that reads text.

    Args:
        config: config.json.
        family: of the checkpoint.
        tensors: under Hugging Face's names.

    Returns:
        The head; or why it cannot be used, as the end of a sentence; None where there is none.
    """
    architecture = architecture_of(config, family)
    if architecture is None:
        return None
    layer = family.heads[architecture]
    own = below(f"{layer}.", tensors)
    weight, bias = own.get("weight"), own.get("bias")
    if weight is None or bias is None or weight.dim() != 2 or bias.shape != weight.shape[:1]:
        return "its weight or its bias is missing or of another shape"
    rows = len(weight)
    if architecture.endswith(ANSWERS):
        if rows != 2:
            return f"it gives {rows} numbers a token, not 2"
        columns = {"question": "question", "passage": "passage"}
        task = _restored("extract", columns, unanswerable=False, longest=_LONGEST)
        return LinearHead(task, architecture, layer, {}, "mean")
    entries = Fields(config, family.name).mapping("id2label")
    names = {str(int(key)): name for key, name in entries.items() if key.isdecimal()}  # "00" is 0, as in transformers
    labels = [str(names.get(str(row), f"LABEL_{row}")) for row in range(rows)]
    if len(set(labels)) < rows:
        return "two of its labels have one name"
    if architecture.endswith(TOKENS):
        tagger = _tagger(labels)
        return tagger if isinstance(tagger, str) else LinearHead(tagger[0], architecture, layer, {}, "mean", tagger[1])
    if not architecture.endswith(SEQUENCE):
        return None
    task_or_reason = _classifier(labels, config)
    if isinstance(task_or_reason, str):
        return task_or_reason
    return LinearHead(task_or_reason, architecture, layer, {}, "cls")


def _classifier(labels: list[str], config: Mapping[str, Any]) -> Task | str:
    kind = config.get("problem_type") or ("regression" if len(labels) == 1 else "single_label_classification")
    if kind == "regression" and len(labels) == 1:
        return _restored("regress", {"text": "text"}, mean=0.0, spread=1.0)
    if kind == "multi_label_classification":
        return _restored("tag", {"text": "text"}, labels=labels)
    if kind == "single_label_classification" and len(labels) > 1:
        return _restored("classify", {"text": "text"}, labels=labels)
    return f"its problem_type {kind!r} with {len(labels)} outputs has no task"


def _tagger(tags: list[str]) -> tuple[Task, list[int]] | str:
    """The task for tags such as B-PER, and their order in it; without any such, each word has a label."""
    inside = [tag for tag in tags if tag != OUTSIDE]
    if not any(tag[1:2] == "-" for tag in inside):
        if OUTSIDE in tags:
            return "some of its words have plain labels and some have none"
        marks = Marks(style="single").as_dict()
        return _restored("ner", {"tokens": "tokens"}, labels=tags, marks=marks), list(range(len(tags)))
    labels = sorted({tag[2:] for tag in inside})
    for scheme, letters in _LETTERS.items():
        wanted = [OUTSIDE, *(f"{letter}-{label}" for label in labels for letter in letters)]
        if sorted(wanted) == sorted(tags):
            task = _restored("ner", {"tokens": "tokens"}, scheme=scheme, labels=labels, marks=Marks().as_dict())
            return task, [tags.index(tag) for tag in wanted]
    return f"its tags ({', '.join(tags[:6])}) are not all of BIO or BIOES"


def _restored(name: str, columns: dict[str, str], scheme: str | None = None, **state: Any) -> Task:
    task = TASKS.get(name)(TaskSettings(name=name, columns=columns, **({"scheme": scheme} if scheme else {})))
    task.restore(state)
    return task
