"""What the sections of a report are made from: a Run, its files, its model, and what the model says of some rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebus.catalogue import translate
from rebus.checkpoints.run_folder import Run
from rebus.data.table import Table
from rebus.errors import RebusError, RunError
from rebus.evaluation.rows import Rows, read_own, rows_of
from rebus.inference.predictor import Predictor
from rebus.inference.session import chosen_rows
from rebus.recipe import Recipe
from rebus.tasks import Prediction, Task

LOOKED_AT = 256  # rows that examples and plots are made from


@dataclass
class Looked:
    """What the model says of some held-out rows.

    Attributes:
        task: that was asked.
        source: the table as the task sees it.
        rows: numbers, at most ``LOOKED_AT``, spread over all.
        told: a prediction for each.
        of: how many held-out rows there are.
    """

    task: Task
    source: Rows
    rows: list[int]
    told: list[Prediction]
    of: int

    @cached_property
    def shown(self) -> list[tuple[Any, Any, float]]:
        """What is said, what would be right and how good that is, row by row, as ``Task.shown`` gives it."""
        return self.task.shown(self.source.values, self.rows, self.told)

    @property
    def marks(self) -> NDArray[np.float64]:
        """How good each answer is."""
        return np.asarray([mark for *_, mark in self.shown])

    @property
    def surest(self) -> list[int]:
        """Places, the answer that the model is surest of first."""
        sure = [-(prediction.confidence or 0.0) for prediction in self.told]
        return [int(place) for place in np.argsort(sure, kind="stable")]


@dataclass
class Subject:
    """A Run about to be told of.

    Attributes:
        run: finished.
        lang: en or zh.
        recipe: resolved.
        evaluation: of evaluation.json; {} before anything was measured.
        check, inference: of these files; {} where a Run has none.
        warnings: sentences that makers add.
        kept: what one maker found and another uses.
    """

    run: Run
    lang: str
    recipe: Recipe
    evaluation: dict[str, Any]
    check: dict[str, Any]
    inference: dict[str, Any]
    warnings: list[str] = field(default_factory=list)
    kept: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, run: Run, lang: str, predictor: Predictor | None = None, table: Table | None = None) -> Subject:
        """Read a Run's files, its model and table only where they are not given. Raises RunError: one is damaged."""
        check, inference = (_optional(run, name) for name in ("check.json", "inference.json"))
        result = run.evaluation
        _hold(run, "evaluation.json", result, _is_evaluation(result))
        subject = cls(run, lang, run.recipe, result, check, inference)
        loaded = {"predictor": predictor, "table": table}
        vars(subject).update({name: value for name, value in loaded.items() if value is not None})
        return subject

    def warn(self, key: str, error: RebusError | None = None, **arguments: object) -> None:
        """Add a text of the catalogue to the warnings, once, though several tasks meet it; an error fills its gaps."""
        if error is not None:
            names = ("where", "expected", "received", "do")
            arguments |= dict(zip(names, error.parts(self.lang), strict=True))
        text = translate(key, self.lang, **arguments)
        if text not in self.warnings:
            self.warnings.append(text)

    @property
    def trained(self) -> dict[str, Any]:
        """How the training went; {} where it is not known."""
        result: dict[str, Any] = self.evaluation.get("training", {})
        return result

    @property
    def is_language_run(self) -> bool:
        """Whether the Run was made from raw text."""
        return "text" in self.trained

    @property
    def split(self) -> str:
        """The rows that the figures are for."""
        return str(self.trained.get("judged_on", "test"))

    @cached_property
    def predictor(self) -> Predictor:
        """The model. Raises RunError, WeightsError: it cannot be read."""
        return Predictor.open(self.run.folder)

    @cached_property
    def table(self) -> Table | None:
        """The table it was trained from; None, with a warning, where that is gone."""
        try:
            return read_own(self.recipe.data, required=True)
        except RebusError as error:
            self.warn("subject.no_table", error)
            return None

    @cached_property
    def looked(self) -> list[Looked]:
        """What each task that predicts says of some held-out rows; a row whose image is gone is told of."""
        table = self.table
        if self.is_language_run or table is None:
            return []
        try:
            rows = chosen_rows(table, self.recipe, self.split)
        except RebusError as error:  # the column that said the split is gone
            self.warn("subject.no_table", error)
            return []
        result = []
        for task in self.predictor.tasks.values():
            if not task.predicts:
                continue
            try:
                source = rows_of(self.predictor, table, task)
            except RebusError as error:
                self.warn("subject.no_table", error)
                continue
            usable = self._readable(source, rows)
            if usable:
                result.append(Looked(task, source, usable, source.predict(self.predictor, usable), len(rows)))
        return result

    def _readable(self, source: Rows, rows: list[int]) -> list[int]:
        """Rows spread over all that can be judged and whose image can be read."""
        good: list[int] = []
        gone: list[RebusError] = []
        for row in rows[:: max(1, len(rows) // LOOKED_AT)][:LOOKED_AT]:
            if not source.task.judgeable(source.values, row):
                continue
            try:
                source.image(row)
                good.append(row)
            except RebusError as error:
                gone.append(error)
        if gone:
            where, _, received, _ = gone[0].parts(self.lang)
            self.warn("subject.images_gone", count=len(gone), of=len(gone) + len(good), first=f"{where}: {received}")
        return good


def _optional(run: Run, name: str) -> dict[str, Any]:
    if not (run.folder / name).exists():
        return {}
    result = run.read_json(name)
    _hold(run, name, result, isinstance(result, dict))
    return dict(result)


def _hold(run: Run, name: str, value: Any, good: bool) -> None:
    if not good:
        do = "restore the file from a copy; `rebus train` writes it once, when training ends"
        raise RunError(run.folder / name, "what training wrote", f"something else ({str(value)[:60]} ...)", do)


def _is_evaluation(value: Any) -> bool:
    if not isinstance(value, Mapping) or not isinstance(value.get("training", {}), Mapping):
        return False
    scores = value.get("tasks", {})
    return isinstance(scores, Mapping) and all(_is_score(score) for score in scores.values())


def _is_score(score: Any) -> bool:
    parts = ("metrics", "intervals", "baseline", "gains", "by_type")
    if not isinstance(score, Mapping) or not all(isinstance(score.get(part), Mapping) for part in parts):
        return False
    return all(isinstance(value, int | float) for value in score["metrics"].values())
