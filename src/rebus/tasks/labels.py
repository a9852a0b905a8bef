"""The labels that a task learned, and their numbers."""

from __future__ import annotations

from typing import Any

from rebus import recipe


class Labels:
    """The labels a task learned, and their numbers from ``first`` on: what classify, tag and patches share."""

    first = 0

    def __init__(self, settings: recipe.TaskSettings) -> None:
        super().__init__(settings)  # type: ignore[call-arg]
        self.restore({"labels": []})

    def state(self) -> dict[str, Any]:
        """The labels, in their order."""
        return {"labels": self.labels}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the labels back."""
        self.labels: list[str] = list(state["labels"])
        self.index = {label: number for number, label in enumerate(self.labels, self.first)}
