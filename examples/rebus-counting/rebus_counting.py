"""``count``: how many things an image, a text or both show, as the rate of a Poisson distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rebus.data.declared import IMAGE, TEXT, Role
from rebus.models.heads import HeadContext, HeadSpec
from rebus.models.heads.vector import VectorHead
from rebus.tasks.base import Prediction, TextProcessor, Values, VectorTask
from rebus.tasks.metrics.intervals import Statistic, mean_of


class PoissonHead(VectorHead):
    """(R, D) -> (R, C) rates above 0."""

    def forward(self, context: HeadContext) -> Tensor:
        """The softplus of what a vector head gives."""
        return functional.softplus(super().forward(context).float())


class Count(VectorTask):
    """Columns: ``image`` and/or ``text``, ``count``: a whole number, 0 or more."""

    name = "count"
    roles: ClassVar[dict[str, Role]] = {
        "image": IMAGE,
        "text": TEXT,
        "count": Role(("number", "category"), names=("how_many", "quantity", "数量", "个数")),
    }
    target_role = "count"
    answers = "number"
    watch = "mae"
    higher_is_better = False
    says_confidence = False

    def usable(self, values: Values, row: int) -> bool:
        """A count."""
        count = values["count"][row] if "count" in values else None
        return isinstance(count, float) and 0 <= count < np.inf

    judgeable = usable

    def head(self, processor: TextProcessor) -> HeadSpec:
        """One rate."""
        return HeadSpec("poisson", 1, self.reads())

    def output_names(self) -> list[str]:
        """What an explanation calls it."""
        return ["count"]

    def target(self, values: Values, row: int) -> NDArray[Any]:
        """(1,)."""
        return np.asarray([values["count"][row]], dtype=np.float32)

    def loss(self, outputs: Tensor, part: dict[str, Tensor]) -> Tensor:
        """Negative log-likelihood of the counts, but for a constant."""
        return functional.poisson_nll_loss(outputs, part["target"], log_input=False)

    def decode(self, outputs: Tensor) -> list[Prediction]:
        """The rate as a whole number."""
        return [Prediction(round(float(rate)), extra={"rate": float(rate)}) for rate in outputs[:, 0]]

    def statistics(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> dict[str, Statistic]:
        """Mean absolute error, and the share of rows that are at most 1 off."""
        errors = self.right(values, rows, predictions)
        return {"mae": mean_of(errors), "within_1": mean_of(errors <= 1)}

    def right(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> NDArray[np.float64]:
        """The absolute error."""
        return np.abs([float(p.value) - values["count"][row] for p, row in zip(predictions, rows, strict=True)])

    def naive(
        self, values: Values, rows: Sequence[int], known: Values, train_rows: Sequence[int]
    ) -> tuple[list[Prediction], str]:
        """The mean of the training rows."""
        mean = float(np.mean([known["count"][row] for row in train_rows]))
        return [Prediction(mean)] * len(rows), "mean of the training rows"
