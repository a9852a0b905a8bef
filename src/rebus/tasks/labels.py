"""The labels that a task learned, and their numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rebus import recipe
from rebus.tasks.base import Values
from rebus.tasks.transformers_head import IMAGE, SEQUENCE, TransformersHead, named_outputs


class Labels:
    """The labels a task learned, and their numbers from ``first`` on: what classify, tag and patches share."""

    first = 0
    problem_type: str | None = None  # as transformers calls it, where it has a head for such a task

    def __init__(self, settings: recipe.TaskSettings) -> None:
        super().__init__(settings)  # type: ignore[call-arg]
        self.restore({"labels": []})

    def transformers_head(self) -> TransformersHead | None:
        """A number a label."""
        if self.problem_type is None:
            return None
        entries = {**named_outputs(self.labels), "problem_type": self.problem_type}
        return TransformersHead(SEQUENCE, entries, IMAGE, pooled=True)

    def state(self) -> dict[str, Any]:
        """The labels, in their order."""
        return {"labels": self.labels}

    def unseen(self, values: Values, rows: Sequence[int]) -> Counter[str]:
        """Labels of these rows that training never saw, and how many rows hold each; they count as errors."""
        counts = Counter(name for row in rows for name in set(self.labels_of(values, row)))
        return Counter({name: count for name, count in counts.items() if name not in self.index})

    def known_labels(self) -> list[str]:
        """The labels, in their order."""
        return self.labels

    def labels_of(self, values: Values, row: int) -> list[str]:
        """The labels that a row holds."""
        raise NotImplementedError

    def restore(self, state: dict[str, Any]) -> None:
        """Take the labels back."""
        self.labels: list[str] = list(state["labels"])
        self.index = {label: number for number, label in enumerate(self.labels, self.first)}
