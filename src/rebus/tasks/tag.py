"""``tag``: any number of labels for an image, a text or both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rebus.catalogue import Note
from rebus.data import names
from rebus.data.declared import IMAGE, TEXT, Columns, Role
from rebus.errors import DataError
from rebus.models.features import Features as Image
from rebus.models.heads import HeadSpec
from rebus.tasks.answer_view import AnswerView, likeliest
from rebus.tasks.base import TASKS, Prediction, Values, VectorTask
from rebus.tasks.baselines import label_frequency
from rebus.tasks.cells import as_labels
from rebus.tasks.explanation import Example, Goal, Target, label_number
from rebus.tasks.labels import Labels
from rebus.tasks.linear import Features, numbers_of
from rebus.tasks.metrics.classification import tag_statistics
from rebus.tasks.metrics.intervals import Statistic, mean_of
from rebus.tasks.text_processor import TextProcessor


@TASKS.register("tag")
class Tag(Labels, VectorTask):
    """Columns: ``image`` and/or ``text``, ``labels`` (a list, or text separated by ``|`` or ``;``)."""

    name = "tag"
    pipelines = ("image-classification", "text-classification")
    roles: ClassVar[dict[str, Role]] = {
        "image": IMAGE,
        "text": TEXT,
        "labels": Role(("labels", "category", "text"), names=names.LABELS),
    }
    answers = "labels"
    target_role = "labels"
    watch = "map"
    problem_type, on_tower = "multi_label_classification", True

    @classmethod
    def suggestion(cls, columns: Columns) -> tuple[int, str] | None:
        """A column of several labels."""
        return (100, Note("reason.a_column_of_several")) if columns.readable and cls._labels(columns) else None

    @classmethod
    def find_target(cls, columns: Columns) -> str | None:
        """The column of several labels, else one that may be, else the class column."""
        labels = cls._labels(columns) or columns.named((*names.LABELS, *names.LABEL), "category", "text")
        return labels or columns.target(Role(("category",), names=names.LABEL))

    @staticmethod
    def _labels(columns: Columns) -> str | None:
        several = [name for name in columns.of("labels") if not names.named(name, names.CHOICES)]
        return columns.named(names.LABELS, "labels") or next(iter(several), None)

    def fit(self, values: Values, rows: Sequence[int]) -> None:
        """Learn the labels, in sorted order."""
        result = sorted({label for row in rows for label in as_labels(values["labels"][row])})
        if not result:
            raise DataError(
                f"column '{self.settings.columns['labels']}'",
                "labels in the training rows",
                "none",
                "write several labels as a list or separated by '|' or ';'",
            )
        self.restore({"labels": result})

    def usable(self, values: Values, row: int) -> bool:
        """An empty list of labels is a fact too; a cell that holds nothing is not."""
        return values["labels"][row] is not None

    def judgeable(self, values: Values, row: int) -> bool:
        """As for training."""
        return self.usable(values, row)

    def labels_of(self, values: Values, row: int) -> list[str]:
        """The labels of a row."""
        return as_labels(values["labels"][row])

    def head(self, processor: TextProcessor) -> HeadSpec:
        """A number a label."""
        return HeadSpec("vector", len(self.labels), self.reads())

    def target(self, values: Values, row: int) -> NDArray[Any]:
        """1 for each label that the row has, (C,)."""
        target = np.zeros(len(self.labels), dtype=np.float32)
        for label in as_labels(values["labels"][row]):
            if label in self.index:
                target[self.index[label]] = 1.0
        return target

    def loss(self, outputs: Tensor, part: dict[str, Tensor]) -> Tensor:
        """Binary cross-entropy over all labels."""
        smooth = self.settings.label_smoothing
        return functional.binary_cross_entropy_with_logits(outputs.float(), part["target"] * (1 - smooth) + smooth / 2)

    def decode(self, outputs: Tensor) -> list[Prediction]:
        """Labels of probability one half or more."""
        lines = []
        for row in outputs.float().sigmoid().cpu().numpy():
            order = np.argsort(-row, kind="stable")
            scores = {self.labels[i]: float(row[i]) for i in order}
            chosen = [label for label, chance in scores.items() if chance >= 0.5]
            sure = float(np.maximum(row, 1 - row).mean())
            lines.append(Prediction(chosen, sure, scores))
        return lines

    def answer_view(self, example: Example, outputs: Any, seen: Image | None) -> AnswerView:
        """The likeliest labels."""
        chances = outputs.detach().float()[0].sigmoid()
        facts = {"count": len(self.labels), "answer": example.answer}
        return AnswerView("tags", facts, {"logits": ("(R, C)", outputs)}, likeliest(self.labels, chances))

    def goal(self, logits: Tensor, target: Target) -> tuple[Goal, Callable[[Tensor], Tensor]]:
        """A label's log-odds."""
        number = label_number(self.index, target, int(logits.argmax()))
        goal = Goal(Note("target.tag", name=self.labels[number]), float(logits.sigmoid()[number]))
        return goal, lambda outputs: outputs.float()[:, number : number + 1]

    def statistics(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> dict[str, Statistic]:
        """Mean average precision, micro and macro F1 at one half, and how often all labels are right.

        A label that training never saw has an average precision and an F1 of 0.
        """
        unseen = sorted(self.unseen(values, rows))
        names = [*self.labels, *unseen]
        chance = np.asarray([[p.scores.get(label, 0.0) for label in names] for p in predictions])
        held = [set(as_labels(values["labels"][row])) for row in rows]
        truth = np.asarray([[label in labels for label in names] for labels in held])
        result = tag_statistics(chance, truth, known=len(self.labels))
        return {**result, "exact_match": mean_of(self.right(values, rows, predictions))}

    def right(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> NDArray[np.float64]:
        """1 where the labels are exactly the true ones."""
        truth = [set(as_labels(values["labels"][row])) for row in rows]
        return np.asarray([float(set(p.value) == labels) for p, labels in zip(predictions, truth, strict=True)])

    def plain(
        self, values: Values, rows: Sequence[int], known: Values, train_rows: Sequence[int], features: Features
    ) -> tuple[list[Prediction], str] | None:
        """Ridge regression of each label's presence."""
        chances = numbers_of(features, np.stack([self.target(known, row) for row in train_rows]).astype(np.float64))
        lines = []
        for row in chances.clip(0.0, 1.0):
            scores = dict(zip(self.labels, map(float, row), strict=True))
            chosen = [label for label, chance in scores.items() if chance >= 0.5]
            lines.append(Prediction(chosen, float(np.maximum(row, 1 - row).mean()), scores))
        return lines, f"linear model on {features.name}"

    def naive(
        self, values: Values, rows: Sequence[int], known: Values, train_rows: Sequence[int]
    ) -> tuple[list[Prediction], str]:
        """Each label as likely as it is frequent."""
        usual = label_frequency([as_labels(known["labels"][row]) for row in train_rows], self.labels)
        scores = dict(zip(self.labels, usual, strict=True))
        chosen = [label for label, share in scores.items() if share >= 0.5]
        return [Prediction(chosen, 1.0, scores)] * len(rows), "how often each label occurs"
