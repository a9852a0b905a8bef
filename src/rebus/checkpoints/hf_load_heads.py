"""The head of a BERT that classifies, marks words or finds answers, as a task that is ready to answer.

What a checkpoint's training data looked like is not in it: a tagger's words are cut as texts without tags are, and an
extractor's longest answer is that of transformers' pipeline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rebus.checkpoints.hf_save_heads import ANSWERS, SEQUENCE, TOKENS
from rebus.data.marks import Marks
from rebus.data.tagging import OUTSIDE
from rebus.formats.bert import CLASSIFIERS, classifier_from_hf
from rebus.formats.config import mapping
from rebus.formats.names import State
from rebus.recipe import TaskSettings
from rebus.tasks import TASKS, Task

_LONGEST = 15  # words of an answer
_LETTERS = {"BIO": "BI", "BIOES": "BIES"}


@dataclass(frozen=True)
class ForeignHead:
    """A head in our terms.

    Attributes:
        task: what it does, restored.
        pool: how the tower's one vector is made for it.
        order: rows of the head's weight and bias, in the order of the task's outputs.
    """

    task: Task
    pool: str
    order: list[int]

    def state(self, tensors: Mapping[str, Tensor], architecture: str) -> State:
        """The head's tensors as they are named in a model: those of a linear layer after a dropout."""
        own = classifier_from_hf(tensors, architecture)
        at = torch.tensor(self.order)
        return {f"heads.{self.task.name}.linear.{name}": tensor[at] for name, tensor in own.items()}


def architecture_of(config: Mapping[str, Any]) -> str | None:
    """The architecture with a head that is known, where a configuration names one."""
    named = config.get("architectures")
    names = [str(one) for one in named] if isinstance(named, list) else []
    return next((name for name in names if name in CLASSIFIERS), None)


def foreign_head(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ForeignHead | str | None:
    """The head of a checkpoint.

    Args:
        config: config.json.
        tensors: under Hugging Face's names.

    Returns:
        The head; or why it cannot be used, as the end of a sentence; None where there is none.
    """
    architecture = architecture_of(config)
    if architecture is None or config.get("model_type") != "bert":
        return None
    own = classifier_from_hf(tensors, architecture)
    weight, bias = own.get("weight"), own.get("bias")
    if weight is None or bias is None or weight.dim() != 2 or bias.shape != weight.shape[:1]:
        return "its weight or its bias is missing or of another shape"
    rows = len(weight)
    if architecture.endswith(ANSWERS):
        made = _restored(
            "extract", {"question": "question", "passage": "passage"}, unanswerable=False, longest=_LONGEST
        )
        return ForeignHead(made, "mean", [0, 1]) if rows == 2 else f"it gives {rows} numbers a token, not 2"
    said = mapping(config, "bert", "id2label")
    names = {str(int(key)): name for key, name in said.items() if key.isdecimal()}  # "00" is 0, as in transformers
    labels = [str(names.get(str(row), f"LABEL_{row}")) for row in range(rows)]
    if len(set(labels)) < rows:
        return "two of its labels have one name"
    if architecture.endswith(TOKENS):
        return _tagger(labels)
    if architecture.endswith(SEQUENCE):
        return _classifier(labels, config)
    return None


def _classifier(labels: list[str], config: Mapping[str, Any]) -> ForeignHead | str:
    kind = config.get("problem_type") or ("regression" if len(labels) == 1 else "single_label_classification")
    order = list(range(len(labels)))
    if kind == "regression" and len(labels) == 1:
        return ForeignHead(_restored("regress", {"text": "text"}, mean=0.0, spread=1.0), "cls", order)
    if kind == "multi_label_classification":
        return ForeignHead(_restored("tag", {"text": "text"}, labels=labels), "cls", order)
    if kind == "single_label_classification" and len(labels) > 1:
        return ForeignHead(_restored("classify", {"text": "text"}, labels=labels), "cls", order)
    return f"its problem_type {kind!r} with {len(labels)} outputs has no task"


def _tagger(tags: list[str]) -> ForeignHead | str:
    """Tags such as B-PER in the order that ``ner`` has them; without any such, each word has a label."""
    inside = [tag for tag in tags if tag != OUTSIDE]
    if not any(tag[1:2] == "-" for tag in inside):
        single = Marks(style="single").as_dict()
        labels = [tag for tag in tags if tag != OUTSIDE]
        if OUTSIDE in tags:
            return "some of its words have plain labels and some have none"
        return ForeignHead(
            _restored("ner", {"tokens": "tokens"}, labels=labels, marks=single), "mean", _order(tags, tags)
        )
    labels = sorted({tag[2:] for tag in inside})
    for scheme, letters in _LETTERS.items():
        wanted = [OUTSIDE, *(f"{letter}-{label}" for label in labels for letter in letters)]
        if sorted(wanted) == sorted(tags):
            task = _restored("ner", {"tokens": "tokens"}, scheme=scheme, labels=labels, marks=Marks().as_dict())
            return ForeignHead(task, "mean", _order(tags, wanted))
    return f"its tags ({', '.join(tags[:6])}) are not all of BIO or BIOES"


def _order(given: list[str], wanted: list[str]) -> list[int]:
    return [given.index(tag) for tag in wanted]


def _restored(name: str, columns: dict[str, str], scheme: str | None = None, **state: Any) -> Task:
    task = TASKS.get(name)(TaskSettings(name=name, columns=columns, **({"scheme": scheme} if scheme else {})))
    task.restore(state)
    return task
