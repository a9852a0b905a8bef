"""From a recipe to everything a run needs to know of its data: fail here, before any work, or not at all."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rebus import recipe as settings
from rebus.data.check import CheckReport, check_table
from rebus.data.kinds import Inference, infer, kinds_told
from rebus.data.readers import read_table
from rebus.data.splits import assign_splits
from rebus.data.table import Table
from rebus.errors import DataError, RecipeError
from rebus.models.modalities import Modality, columns_of, fitted_modalities, modalities_of
from rebus.models.modalities.rows import ItemCache, RowInputs
from rebus.resolve.columns import shared_image_column
from rebus.resolve.inputs import other_inputs
from rebus.resolve.known import Cells, Columns, Log, Rows
from rebus.resolve.steps import resolve
from rebus.tasks import TASKS, Task
from rebus.tasks.base import Values


@dataclass
class Prepared:
    """A recipe met with its data.

    Attributes:
        recipe: resolved, no blank left where the run needs a value.
        table: the rows.
        inference: what was inferred, with notes for people.
        report: what the check found.
        splits: train, valid or test for each row; "left out" for a broken row that was skipped.
        tasks: name: task, fitted on the training rows.
        values: name: the task's columns.
    """

    recipe: settings.Recipe
    table: Table
    inference: Inference
    report: CheckReport
    splits: list[str]
    tasks: dict[str, Task]
    values: dict[str, Values]

    def rows(self, split: str, task: Task | None = None) -> list[int]:
        """Row numbers of a split; with a task, those that hold what it needs."""
        chosen = [row for row, name in enumerate(self.splits) if name == split]
        if task is None:
            return chosen
        values = self.values[task.name]
        return [row for row in chosen if task.usable(values, row)]

    def training_rows(self) -> list[int]:
        """Training rows that at least one task can use."""
        return [
            row
            for row in self.rows("train")
            if any(task.usable(self.values[name], row) for name, task in self.tasks.items())
        ]

    @property
    def image_column(self) -> str | None:
        """The image column, None where no task sees images."""
        if self.recipe.model.image.kind == "none":
            return None
        return shared_image_column(self.recipe.tasks)

    def modalities(self, states: Mapping[str, dict[str, Any]] | None = None) -> dict[str, Modality]:
        """What the model reads beside text, fitted on the training rows, or as ``states`` say it was."""
        if states is not None:
            return modalities_of(self.recipe, states)
        columns = {name: self.table.values(name) for several in columns_of(self.recipe).values() for name in several}
        return fitted_modalities(self.recipe, columns, self.training_rows())

    def inputs(self, modalities: Mapping[str, Modality]) -> RowInputs:
        """What the model reads of the table's rows beside text."""
        return open_inputs(self.table, self.recipe, modalities)

    def keys(self, inputs: RowInputs) -> dict[int, Hashable | None] | None:
        """What training rows with equal inputs have in common, by row; None: they have no inputs beside text."""
        return {row: inputs.key(row) for row in self.training_rows()} if inputs.modalities else None

    def texts(self) -> list[str]:
        """All text of the training rows, to train a tokenizer on."""
        rows = self.rows("train")
        names: list[str] = []
        for name, task in self.tasks.items():
            names.extend(task.texts(self.values[name], [row for row in rows if task.usable(self.values[name], row)]))
        return names

    def words(self) -> list[str]:
        """Words that the tokenizer should keep whole: the names of things in images."""
        return [word for task in self.tasks.values() for word in task.words()]


@dataclass(frozen=True)
class Checked:
    """A table that was read and checked, before anything is refused.

    Attributes:
        recipe: with the table's kinds and tasks; no task where none was found, which ``report.errors`` says.
        table: its rows.
        inference: what its columns hold and which tasks suit them.
        report: what is in it and what is wrong with it.
        splits: train, valid or test, one a row.
    """

    recipe: settings.Recipe
    table: Table
    inference: Inference
    report: CheckReport
    splits: list[str]


def check_data(recipe: settings.Recipe) -> Checked:
    """Read, infer, split and check the table that a recipe names: the first half of ``prepare``.

    Raises:
        DataError: the table cannot be read. RecipeError: a setting does not fit it.
    """
    if not recipe.data.path:
        raise RecipeError("data.path", "a table or a folder", "nothing", "name it: rebus train DATA")
    for entry in recipe.tasks:
        TASKS.get(entry.name)  # a misspelt name is refused first; a plug-in declares its columns
    table = read_table(recipe.data)
    given = {task.name: task.columns for task in recipe.tasks}
    text = kinds_told(recipe.data)
    inference = infer(table, text, list(given), given)
    recipe = recipe.replace({"data.path": str(Path(recipe.data.path).resolve()), "data.kinds": dict(inference.kinds)})
    refusal, notes = None, []
    try:
        recipe = resolve(recipe, Columns(table, inference))
        inputs = other_inputs(recipe, table, inference, text)
        inference, notes = inputs.inference, inputs.notes
        recipe = recipe.replace({"data.inputs": inputs.columns, "data.kinds": dict(inference.kinds)})
    except DataError as error:
        refusal = error
    images = [column for column, kind in inference.kinds.items() if kind == "image"]
    splits = assign_splits(table, recipe.data.split, images, seed=0)
    report = check_table(table, recipe.data, inference.kinds, recipe.tasks, splits if refusal is None else ())
    report.notes += notes
    report.warnings += inference.warnings
    if refusal is not None:
        report.errors.insert(0, refusal)
    return Checked(recipe, table, inference, report, splits)


def prepare(recipe: settings.Recipe, log: Log) -> Prepared:
    """Read, infer, check, split, fit.

    Raises:
        DataError: the data cannot be trained on; RecipeError: the recipe does not fit it.
    """
    checked = check_data(recipe)
    for note in (*checked.report.notes, *checked.inference.notes):
        log(note)
    return fit_tasks(checked, log)


def fit_tasks(checked: Checked, log: Log) -> Prepared:
    """The second half of ``prepare``: refuse or leave out rows, fit tasks, fill in what the recipe leaves open.

    Raises:
        DataError: the data cannot be trained on; RecipeError: the recipe does not fit it.
    """
    table, inference, report = checked.table, checked.inference, checked.report
    left_out = refuse_or_count(report, checked.recipe.data, log)
    recipe = resolve(checked.recipe, Cells(report), log)
    splits = ["left out" if row in left_out else name for row, name in enumerate(checked.splits)]
    columns = {name: table.values(name) for name in table.columns}
    tasks: dict[str, Task] = {}
    values: dict[str, Values] = {}
    training = [row for row, name in enumerate(splits) if name == "train"]
    for entry in recipe.tasks:
        task = TASKS.get(entry.name)(entry)
        values[task.name] = task.values(columns)
        if not training:
            raise DataError(
                recipe.data.path, "rows to train on", "none in the split 'train'", "lower data.split.valid and test"
            )
        task.fit(values[task.name], training)
        tasks[task.name] = task
    recipe = resolve(recipe, Rows(tasks, values, training), log)
    prepared = Prepared(recipe, table, inference, report, splits, tasks, values)
    if not prepared.training_rows():
        raise DataError(recipe.data.path, "training rows that a task can use", "none", "run: rebus data check")
    return prepared


def refuse_or_count(report: CheckReport, data: settings.Data, log: Log) -> set[int]:
    """Stop at broken rows, or leave them out and say how many.

    Raises:
        DataError: there are errors that leaving rows out does not cure, or broken rows while ``on_bad`` is refuse.
    """
    if report.errors:
        raise report.errors[0]
    if report.bad_rows and data.on_bad == "refuse":
        first = report.bad_rows[min(report.bad_rows)]
        raise DataError(
            where=first.where,
            expected=first.expected,
            found=f"{first.found} ({len(report.bad_rows)} broken rows in all; `rebus data check` lists them)",
            do=f"{first.do}; or leave such rows out and have them counted with --set data.on_bad=skip",
        )
    for line in report.unused.lines():
        log(f"not used: {line}")
    for warning in report.warnings:
        log(f"warning: {warning}")
    if report.bad_rows:
        log(f"left out {len(report.bad_rows)} broken rows of {report.rows}; `rebus data check` lists them")
    return {*report.bad_rows, *report.unlabelled}


def open_inputs(
    table: Table, recipe: settings.Recipe, modalities: Mapping[str, Modality], cache: ItemCache | None = None
) -> RowInputs:
    """The inputs of a table's rows, decoded items kept as the recipe says, or in a cache that is shared."""
    columns = {
        name: table.values(name)
        for modality in modalities.values()
        for name in modality.columns
        if name in table.columns
    }
    cache = cache or ItemCache(recipe.data.cache_mb // (recipe.data.workers + 1))  # each process keeps its own
    return RowInputs(modalities, columns, table.root, table.where, cache)
