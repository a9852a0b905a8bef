"""Heads of transformers' models that give a task's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# endings of architectures, without the family
SEQUENCE, TOKENS, ANSWERS = "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"
IMAGE = "ForImageClassification"


@dataclass(frozen=True)
class TransformersHead:
    """One head.

    Attributes:
        ending: of the architecture's name on a text tower, without the family.
        entries: of config.json: names of the outputs, the kind of problem.
        image_ending: of the architecture's name on an image tower; None: there is none.
        pooled: whether it reads the text's one vector.
    """

    ending: str
    entries: Mapping[str, Any]
    image_ending: str | None = None
    pooled: bool = False


def named_outputs(labels: Sequence[str]) -> dict[str, Any]:
    """Names of a head's outputs as config.json has them."""
    return {
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
    }
