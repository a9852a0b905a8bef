"""What a comparison is made of: table, task, strategies, splits and budget, settled before any work.

Every run of a comparison sees the same test rows, has the same budget and differs in its strategy alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rebus import recipe
from rebus.comparison.strategies import Arm, arms_of
from rebus.data.splits import assign_splits, group_keys, row_keys
from rebus.errors import DataError, RecipeError
from rebus.models.modalities import Modality
from rebus.models.modalities.rows import ItemCache, RowInputs
from rebus.resolve.from_table import Prepared, open_inputs, prepare
from rebus.resolve.known import Log, Start
from rebus.resolve.tune import settle_precision
from rebus.tasks import TASKS, Task
from rebus.tasks.base import Values
from rebus.tasks.cells import as_text, missing

How = Literal["folds", "repeats", "given"]
FOLDS = 3  # where nobody says


@dataclass
class Shared(Prepared):
    """A table met once and dealt anew for each split; decoded images are kept for all runs."""

    cache: ItemCache | None = None

    def inputs(self, modalities: Mapping[str, Modality]) -> RowInputs:
        """With the one cache."""
        return open_inputs(self.table, self.recipe, modalities, self.cache)

    def keys(self, inputs: RowInputs) -> dict[int, Hashable | None] | None:
        """Of images even for a strategy that sees none, so that a step holds the same rows in all."""
        column = self.recipe.tasks[0].columns.get("image")
        if column is None:
            return super().keys(inputs)
        images = self.table.column(column)
        return {row: None if missing(images[row]) else as_text(images[row]) for row in self.training_rows()}


@dataclass
class Setup:
    """A comparison before its first step.

    Attributes:
        whole: the table met with the recipe that reads both modalities.
        arms: the strategies, in the order in which they are shown.
        splits: how rows are dealt, one for each time that every strategy is trained.
        how: ``folds`` (every row is judged once), ``repeats`` (dealt anew each time) or ``given`` (the table says which
            rows test; only the seed differs).
        cache: decoded images.
    """

    whole: Prepared
    arms: list[Arm]
    splits: list[recipe.Split]
    how: How
    cache: ItemCache
    dealt: dict[int, list[str]] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        """The task, fitted on the first split."""
        return next(iter(self.whole.tasks.values()))

    @property
    def values(self) -> Values:
        """The task's columns."""
        return self.whole.values[self.task.name]

    def names(self, split: int) -> list[str]:
        """train, valid, test or left out for each row, in a split."""
        if split not in self.dealt:
            kinds = self.whole.recipe.data.kinds
            images = [column for column, kind in kinds.items() if kind == "image"]
            dealt = assign_splits(self.whole.table, self.splits[split], images, seed=0)
            both = zip(dealt, self.whole.splits, strict=True)
            self.dealt[split] = ["left out" if rest == "left out" else name for name, rest in both]
        return self.dealt[split]

    def recipe(self, arm: Arm, split: int) -> recipe.Recipe:
        """The recipe of one run, complete: ``rebus train --recipe`` repeats it."""
        settings = arm.recipe(self.whole.recipe)
        return settings.replace({"data.split": self.splits[split], "seed": settings.seed + split})

    def check_splits(self) -> None:
        """That every split has rows to train on and rows to judge, before any run begins. Raises DataError."""
        for split in range(len(self.splits)):
            names = self.names(split)
            training, judged = names.count("train"), names.count("test")
            if not training or not judged:
                raise DataError(
                    f"{self.whole.table.name}, split {split + 1} of {len(self.splits)}",
                    "rows to train on and rows to judge",
                    f"{training} and {judged}",
                    "give more rows, or fewer --folds",
                )

    def prepared(self, arm: Arm, split: int) -> Shared:
        """The table as one run sees it, the task fitted on its own training rows."""
        settings, names = self.recipe(arm, split), self.names(split)
        task = TASKS.get(self.task.name)(settings.tasks[0])
        training = [row for row, name in enumerate(names) if name == "train"]
        task.fit(self.values, training)
        whole = self.whole
        return Shared(
            settings, whole.table, whole.inference, whole.report, names, {task.name: task}, whole.values, self.cache
        )

    def groups(self) -> list[bytes]:
        """What keeps rows together, one key a row: rows of one image are no two witnesses."""
        entries = self.whole.recipe.data
        images = [column for column, kind in entries.kinds.items() if kind == "image"]
        return group_keys(self.whole.table, entries.split, images)

    def plan(self) -> dict[str, Any]:
        """What decides every run's result, for a comparison that goes on to be held to. JSON values."""
        table = self.whole.table
        content = hashlib.blake2b(b"".join(row_keys(table)), digest_size=16).hexdigest()
        return {
            "recipe": self.whole.recipe.model_dump(mode="json"),
            "splits": [split.model_dump(mode="json") for split in self.splits],
            "how": self.how,
            "rows": len(table),
            "content": content,
        }


def set_up(
    settings: recipe.Recipe,
    log: Log,
    *,
    folds: int | None = None,
    repeats: int | None = None,
    only: Sequence[str] = (),
) -> Setup:
    """Read the table, find the task, settle strategies, splits and budget.

    Args:
        settings: the recipe; what it says of the fusion each strategy replaces.
        log: prints a line for people.
        folds: K of the cross-validation.
        repeats: deal rows anew so many times instead; where the table says which rows test, train so often.
        only: names of strategies; empty: all.

    Raises:
        DataError: the data cannot be trained on, or has not both modalities. RecipeError: settings that do not fit.
    """
    _refuse(settings, folds, repeats)
    # the same precision for all runs, now and when the comparison goes on
    prepared = prepare(settle_precision(settings, Start(), log), log)
    if len(prepared.tasks) > 1:
        result = ", ".join(prepared.tasks)
        raise RecipeError("rebus compare", "one task, which every strategy is trained for", result, "name one: --task")
    task = next(iter(prepared.tasks.values()))
    arms = arms_of(task, prepared.recipe, only)
    splits, how = _splits(prepared, folds, repeats)
    if not prepared.recipe.train.patience:  # nothing is chosen by what would be held out to watch
        splits = [split.model_copy(update={"valid": 0.0}) for split in splits]
    built = Setup(prepared, arms, splits, how, ItemCache(prepared.recipe.data.cache_mb))
    built.check_splits()
    return built


def _refuse(settings: recipe.Recipe, folds: int | None, repeats: int | None) -> None:
    if folds is not None and repeats is not None:
        raise RecipeError("--folds and --repeats", "one of the two", "both", "leave one out")
    if folds is not None and folds < 2:
        raise RecipeError("--folds", "at least 2", f"{folds}", "write --folds 3, or --repeats 1 for a single split")
    if repeats is not None and repeats < 1:
        raise RecipeError("--repeats", "at least 1", f"{repeats}", "write --repeats 3")
    if settings.base is not None:
        raise RecipeError(
            "base",
            "towers that every strategy shares",
            f"a whole model, '{settings.base}'",
            "leave it out; one tower may start from a checkpoint: --set model.text.weights=FOLDER",
        )
    for name, tower in (("image", settings.model.image), ("text", settings.model.text)):
        if tower.kind == "none":
            do = "leave it to Rebus, or name a tower; --only says which strategies are trained"
            raise RecipeError(f"model.{name}.kind", f"a tower that reads the {name}", "'none'", do)
    raw = [entry.name for entry in settings.tasks if TASKS.get(entry.name).reads_documents]
    if raw:
        result = f"'{raw[0]}', which reads raw text alone"
        raise DataError("rebus compare", "a task that reads an image and a text", result, "name another with --task")


def _splits(prepared: Prepared, folds: int | None, repeats: int | None) -> tuple[list[recipe.Split], How]:
    entries = prepared.recipe.data.split
    if folds is None:
        images = [column for column, kind in prepared.recipe.data.kinds.items() if kind == "image"]
        deals = [entries.model_copy(update={"deal": entries.deal + number}) for number in range(2)]
        first, second = (
            {row for row, name in enumerate(assign_splits(prepared.table, deal, images, seed=0)) if name == "test"}
            for deal in deals
        )
        given = entries.folds is None and first == second and bool(first)
        if given:
            return [entries.model_copy() for _ in range(repeats or 1)], "given"
        if repeats is not None:
            deals = [entries.model_copy(update={"deal": entries.deal + number}) for number in range(repeats)]
            return deals, "repeats"
    count = folds or FOLDS
    return [entries.model_copy(update={"folds": count, "fold": number}) for number in range(count)], "folds"
