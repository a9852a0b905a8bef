"""``classify``: one label for an image, a text, columns, or all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
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
from rebus.tasks.baselines import majority_class
from rebus.tasks.cells import as_text, missing
from rebus.tasks.explanation import Example, Goal, Target, label_number, log_odds
from rebus.tasks.labels import Labels
from rebus.tasks.linear import Features, classes_of
from rebus.tasks.metrics.classification import classify_statistics
from rebus.tasks.metrics.intervals import Statistic
from rebus.tasks.text_processor import TextProcessor


@TASKS.register("classify")
class Classify(Labels, VectorTask):
    """Columns: ``image`` and/or ``text``, ``label``."""

    name = "classify"
    pipelines = ("image-classification", "text-classification")
    roles: ClassVar[dict[str, Role]] = {
        "image": IMAGE,
        "text": TEXT,
        "label": Role(("category", "text", "number"), names=names.LABEL),
    }
    answers = "label"
    target_role = "label"
    watch = "accuracy"
    problem_type, on_tower = "single_label_classification", True

    @classmethod
    def suggestion(cls, columns: Columns) -> tuple[int, str] | None:
        """A column of classes, by its name or its cells."""
        if columns.readable and columns.named(names.LABEL, "category"):
            return 90, Note("reason.a_column_named_as")
        if columns.alone:
            named = columns.named(names.EITHER, "category")
            usual = columns.is_last("category") and not columns.named(names.TARGET, "number")
            return (105, Note("reason.usual_place")) if named or usual else None
        return (130, Note("reason.a_column_of_few")) if columns.readable and columns.of("category") else None

    @classmethod
    def find_target(cls, columns: Columns) -> str | None:
        """The class column: by its name, else the last category, else a number or a text that is named so."""
        label = columns.target(Role(("category",), names=(*names.LABEL, *(names.EITHER if columns.alone else ()))))
        label = label or columns.named((*names.LABEL, *names.TARGET), "number", "text")
        return label or next(reversed(columns.of("number")), None)

    def fit(self, values: Values, rows: Sequence[int]) -> None:
        """Learn the labels, in sorted order."""
        result = sorted({as_text(values["label"][row]) for row in rows if not missing(values["label"][row])})
        if len(result) < 2:
            raise DataError(
                where=f"column '{self.settings.columns['label']}'",
                expected="at least two different labels among the training rows",
                found=f"only '{result[0]}'" if result else "no label at all",
                do="add rows of another class, or name another column with --set tasks.0.columns.label=COLUMN",
            )
        self.restore({"labels": result})

    def usable(self, values: Values, row: int) -> bool:
        """A label that training knows."""
        return as_text(values["label"][row]) in self.index

    def labels_of(self, values: Values, row: int) -> list[str]:
        """The one label of a row."""
        return [as_text(values["label"][row])]

    def head(self, processor: TextProcessor) -> HeadSpec:
        """A number a label."""
        return HeadSpec("vector", len(self.labels), self.reads())

    def target(self, values: Values, row: int) -> NDArray[Any]:
        """The label's number."""
        return np.asarray(self.index[as_text(values["label"][row])], dtype=np.int64)

    def soft(self, target: NDArray[Any]) -> NDArray[np.float32]:
        """1 at the label's number, (C,)."""
        chance = np.zeros(len(self.labels), dtype=np.float32)
        chance[int(target)] = 1.0
        return chance

    def loss(self, outputs: Tensor, part: dict[str, Tensor]) -> Tensor:
        """Cross-entropy; of rows that are two in one, with a share of each label."""
        return functional.cross_entropy(outputs.float(), part["target"], label_smoothing=self.settings.label_smoothing)

    def decode(self, outputs: Tensor) -> list[Prediction]:
        """The likeliest label, with the ten likeliest and their probabilities."""
        lines = []
        for row in outputs.float().softmax(-1).cpu().numpy():
            order = np.argsort(-row, kind="stable")
            scores = {self.labels[i]: float(row[i]) for i in order}
            lines.append(Prediction(self.labels[order[0]], float(row[order[0]]), scores))
        return lines

    def answer_view(self, example: Example, outputs: Any, seen: Image | None) -> AnswerView:
        """The likeliest labels."""
        chances = outputs.detach().float()[0].softmax(-1)
        facts = {"count": len(self.labels), "answer": example.answer}
        return AnswerView("labels", facts, {"logits": ("(R, C)", outputs)}, likeliest(self.labels, chances))

    def goal(self, logits: Tensor, target: Target) -> tuple[Goal, Callable[[Tensor], Tensor]]:
        """A label's log-odds."""
        number = label_number(self.index, target, int(logits.argmax()))
        goal = Goal(Note("target.label", name=self.labels[number]), float(logits.softmax(-1)[number]))
        return goal, lambda outputs: log_odds(outputs, torch.full_like(outputs[:, 0], number).long())[:, None]

    def statistics(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> dict[str, Statistic]:
        """Accuracy, top-5, macro F1, AUROC, calibration error. A label that training never saw counts as wrong."""
        return classify_statistics(*self._chance_and_truth(values, rows, predictions))

    def right(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> NDArray[np.float64]:
        """1 where the likeliest label is the true one."""
        truth = [as_text(values["label"][row]) for row in rows]
        return np.asarray([float(p.value == label) for p, label in zip(predictions, truth, strict=True)])

    def naive(
        self, values: Values, rows: Sequence[int], known: Values, train_rows: Sequence[int]
    ) -> tuple[list[Prediction], str]:
        """The commonest training label."""
        usual = majority_class([as_text(known["label"][row]) for row in train_rows])
        return [Prediction(usual, 1.0, {usual: 1.0})] * len(rows), "majority class"

    def plain(
        self, values: Values, rows: Sequence[int], known: Values, train_rows: Sequence[int], features: Features
    ) -> tuple[list[Prediction], str] | None:
        """Logistic regression."""
        chances = classes_of(features, [self.labels_of(known, row)[0] for row in train_rows], self.labels)
        lines = []
        for row in chances:
            best = int(row.argmax())
            scores = dict(zip(self.labels, map(float, row), strict=True))
            lines.append(Prediction(self.labels[best], float(row[best]), scores))
        return lines, f"linear model on {features.name}"

    def _chance_and_truth(
        self, values: Values, rows: Sequence[int], predictions: list[Prediction]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        # Labels unknown to the model are appended, with probability zero, so that they count as errors.
        names = self.labels + sorted({as_text(values["label"][row]) for row in rows} - set(self.labels))
        index = {name: i for i, name in enumerate(names)}
        chance = np.asarray([[p.scores.get(name, 0.0) for name in names] for p in predictions])
        return chance, np.asarray([index[as_text(values["label"][row])] for row in rows])
