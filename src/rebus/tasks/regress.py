"""``regress``: a number for an image, a text, columns, or all of them."""

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
from rebus.tasks.answer_view import AnswerView
from rebus.tasks.base import TASKS, Prediction, Values, VectorTask
from rebus.tasks.baselines import mean_target
from rebus.tasks.explanation import Example, Goal, Target, refuse_target
from rebus.tasks.linear import Features, numbers_of
from rebus.tasks.metrics.intervals import Statistic
from rebus.tasks.metrics.regression import regress_statistics
from rebus.tasks.text_processor import TextProcessor


@TASKS.register("regress")
class Regress(VectorTask):
    """Columns: ``image`` and/or ``text``, ``target``. Targets are standardised by the training rows."""

    name = "regress"
    pipelines = ("image-classification", "text-classification")
    roles: ClassVar[dict[str, Role]] = {
        "image": IMAGE,
        "text": TEXT,
        "target": Role(("number", "category"), names=names.TARGET),
    }
    answers = "number"
    target_role = "target"
    watch = "rmse"
    higher_is_better = False
    says_confidence = False

    @classmethod
    def suggestion(cls, columns: Columns) -> tuple[int, str] | None:
        """A column of numbers, by its name or because it is the only one."""
        if columns.readable and columns.named(names.TARGET, "number"):
            return 110, Note("reason.a_column_named_as_a")
        if columns.alone:
            return (140, Note("reason.last_numbers")) if columns.is_last("number") else None
        alone = columns.readable and len(columns.of("number")) == 1
        return (140, Note("reason.one_column_of_numbers")) if alone else None

    @classmethod
    def find_target(cls, columns: Columns) -> str | None:
        """The number to predict: by its name, else the last number, else a category that is named so."""
        number = columns.target(Role(("number",), names=names.TARGET))
        return number or columns.named((*names.TARGET, *names.LABEL), "category")

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.mean, self.spread = 0.0, 1.0

    def fit(self, values: Values, rows: Sequence[int]) -> None:
        """Learn the mean and the standard deviation of the targets."""
        known = np.asarray([float(values["target"][row]) for row in rows if self.usable(values, row)])
        if len(known) < 2 or float(known.std()) == 0.0:
            raise DataError(
                f"column '{self.settings.columns['target']}'",
                "at least two different numbers among the training rows",
                "none" if not len(known) else f"only {known[0]:g}",
                "add rows, or name another column with --set tasks.0.columns.target=COLUMN",
            )
        self.mean, self.spread = float(known.mean()), float(known.std())

    def state(self) -> dict[str, Any]:
        """Mean and standard deviation."""
        return {"mean": self.mean, "spread": self.spread}

    def restore(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self.mean, self.spread = float(state["mean"]), float(state["spread"])

    def usable(self, values: Values, row: int) -> bool:
        """A finite number."""
        target = values["target"][row]
        return isinstance(target, float) and bool(np.isfinite(target))

    def judgeable(self, values: Values, row: int) -> bool:
        """As for training."""
        return self.usable(values, row)

    def head(self, processor: TextProcessor) -> HeadSpec:
        """One number."""
        return HeadSpec("vector", 1, self.reads())

    def target(self, values: Values, row: int) -> NDArray[Any]:
        """Standardised, (1,)."""
        return np.asarray([(float(values["target"][row]) - self.mean) / self.spread], dtype=np.float32)

    def loss(self, outputs: Tensor, part: dict[str, Tensor]) -> Tensor:
        """Mean squared error of standardised targets."""
        return functional.mse_loss(outputs.float(), part["target"])

    def decode(self, outputs: Tensor) -> list[Prediction]:
        """Numbers in the column's own unit."""
        return [Prediction(float(x) * self.spread + self.mean) for x in outputs.float()[:, 0]]

    def answer_view(self, example: Example, outputs: Any, seen: Image | None) -> AnswerView:
        """The number before and after it is brought to the column's unit."""
        raw = float(outputs.detach().float()[0, 0])
        facts: dict[str, Any] = {"raw": f"{raw:.4g}", "value": f"{raw * self.spread + self.mean:.4g}"}
        facts |= {"mean": self.mean, "spread": self.spread}
        return AnswerView("number", facts, {"logits": ("(R, C)", outputs)})

    def goal(self, logits: Tensor, target: Target) -> tuple[Goal, Callable[[Tensor], Tensor]]:
        """The number, in the column's own unit."""
        refuse_target(target)
        goal = Goal(Note("target.number"), float(logits[0]) * self.spread + self.mean, unit=self.spread)
        return goal, lambda outputs: outputs.float() * self.spread + self.mean

    def statistics(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> dict[str, Statistic]:
        """MAE, RMSE and R2, in the column's own unit."""
        message = np.asarray([float(p.value) for p in predictions])
        return regress_statistics(message, np.asarray([float(values["target"][row]) for row in rows]))

    def right(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> NDArray[np.float64]:
        """The absolute error."""
        message = np.asarray([float(p.value) for p in predictions])
        error: NDArray[np.float64] = np.abs(message - np.asarray([float(values["target"][row]) for row in rows]))
        return error

    def plain(
        self, values: Values, rows: Sequence[int], known: Values, train_rows: Sequence[int], features: Features
    ) -> tuple[list[Prediction], str] | None:
        """Ridge regression."""
        targets = np.stack([self.target(known, row) for row in train_rows]).astype(np.float64)
        message = numbers_of(features, targets)[:, 0] * self.spread + self.mean
        return [Prediction(float(number)) for number in message], f"linear model on {features.name}"

    def naive(
        self, values: Values, rows: Sequence[int], known: Values, train_rows: Sequence[int]
    ) -> tuple[list[Prediction], str]:
        """The mean of the training rows."""
        usual = mean_target([float(known["target"][row]) for row in train_rows], len(rows))
        return [Prediction(float(number)) for number in usual], "mean of the training rows"
