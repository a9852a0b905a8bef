"""Measure how honest a Run's explanations are on a table, and keep it in the Run.

It chooses the rows, makes the explanations and their copies, and hands them to ``measure``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rebus.data.readers import read_table
from rebus.data.table import Table
from rebus.errors import DataError, RebusError, nearest
from rebus.evaluation.rows import Rows, rows_of
from rebus.explain.explaining import explain_with, methods_for, subject_of
from rebus.explain.faithfulness.boxes import placed, things_asked
from rebus.explain.faithfulness.figures import Faithfulness
from rebus.explain.faithfulness.maps import Maps
from rebus.explain.faithfulness.measure import Effort, Measured, measure, spread
from rebus.explain.faithfulness.store import keep_faithfulness, read_faithfulness
from rebus.explain.registry import METHODS
from rebus.explain.subject import Subject
from rebus.inference.predictor import Predictor
from rebus.inference.session import chosen_rows
from rebus.models.vlm import VisionLanguageModel
from rebus.tasks import Task
from rebus.tasks.cells import as_text


def check_faithfulness(
    run: str | Path,
    data: str | Path,
    *,
    task: str | None = None,
    rows: int = 200,
    methods: Sequence[str] = (),
    split: str | None = None,
    only: Mapping[str, str] | None = None,
    tolerance: float = 0.0,
    seed: int = 0,
    log: Callable[[str], None] = lambda _: None,
) -> Faithfulness:
    """Measure a model's explanations on a table; of a Run it is kept in its explain.json.

    Args:
        run: a Run, or a checkpoint of another project.
        data: a table.
        task: of the model; None: the first that predicts something.
        rows: most rows of the pointing game; the slower measures read a share of them.
        methods: by name; none: all that fit.
        split: train, valid, test or all; None: test, where the table says which rows these are, else all.
        only: column: value, of the rows that are wanted.
        tolerance: see ``Effort``.
        seed: of random orders, weights and resamples.
        log: prints a line for people.

    Raises:
        RebusError: the model, the table or an option cannot be used, or no row is left; an explain.json that is damaged
            is refused before any work.
    """
    if rows < 1:
        raise DataError("--rows", "at least 1 row", str(rows), "name a higher number, or leave it out")
    if not 0.0 <= tolerance <= 0.5:
        raise DataError("--tolerance", "a share of the side from 0 to 0.5", f"{tolerance:g}", "leave it out")
    predictor = Predictor.open(run)
    chosen = predictor.task(task)
    able = methods_for(predictor, chosen.name)
    for name in methods:
        if name not in able:
            known = nearest(name, able if name in METHODS.names() else METHODS.names())
            raise DataError("--methods", f"methods that fit this model: {', '.join(able)}", f"'{name}'", known)
    if predictor.folder is not None:
        read_faithfulness(predictor.folder)
    table = read_table(predictor.recipe.data.model_copy(update={"path": str(data)}))
    split = split or ("test" if predictor.recipe.data.split.column in table.columns else "all")
    wanted = matching(table, chosen_rows(table, predictor.recipe, split), only or {})
    result = measure_rows(
        predictor,
        table,
        chosen,
        wanted,
        [name for name in able if name in methods] if methods else able,
        effort=replace(Effort.of_rows(rows), tolerance=tolerance),
        seed=seed,
        log=log,
    )
    result.table, result.split = table.name, split
    result.settings["only"] = dict(only or {})
    if predictor.folder is not None:
        keep_faithfulness(predictor.folder, chosen.name, result.as_dict())
    return result


def measure_rows(
    predictor: Predictor,
    table: Table,
    task: Task,
    rows: Sequence[int],
    methods: Sequence[str],
    *,
    effort: Effort,
    seed: int = 0,
    log: Callable[[str], None] = lambda _: None,
) -> Faithfulness:
    """Measure methods on rows of a table that was read already.

    Raises:
        DataError: none of the rows can be explained.
    """
    source = rows_of(predictor, table, task)
    rows = [row for row in rows if task.judgeable(source.values, row)]
    things = things_asked(task, source.values, table, rows, predictor.recipe)
    most = max(effort.points, effort.curves, effort.sanity)
    used, problem = _readable(source, spread(list(things) or rows, most))
    if not used:
        do = "choose other rows with --split or --only, or name another table"
        raise DataError(table.name, f"rows that the task '{task.name}' can be explained on", problem or "none", do)
    if problem:
        log(f"left out {min(most, len(things) or len(rows)) - len(used)} rows; the first: {problem}")
    model, other = _copied(predictor)
    what = Measured(
        used,
        placed({row: things[row] for row in used if row in things}, source.values, predictor.recipe, table.root),
        right=lambda some: _right(predictor, source, some),
        types=lambda some: task.types(source.values, some),
        groups=lambda row: as_text(source.values["image"][row])[:512] if "image" in source.values else str(row),
    )
    maps, copies = (Maps(_begin(item, source), explain_with, what.groups) for item in (predictor, other))
    return measure(task.name, what, maps, (model, copies), methods, effort=effort, seed=seed, log=log)


def matching(table: Table, rows: Sequence[int], only: Mapping[str, str]) -> list[int]:
    """The rows whose columns have these values, in upper or lower case. Raises DataError: there is no such column."""
    left = list(rows)
    for column, wanted in only.items():
        if column not in table.columns:
            raise DataError(
                f"--only {column}={wanted}", "a column of the table", f"'{column}'", nearest(column, table.columns)
            )
        values = table.column(column)
        left = [row for row in left if as_text(values[row]).casefold() == wanted.strip().casefold()]
    return left


def _begin(predictor: Predictor, source: Rows) -> Callable[[int], Subject]:
    task = source.task
    names = {
        role: column for role, column in task.settings.columns.items() if role != "image" and role in source.values
    }

    def begin(row: int) -> Subject:
        columns: dict[str, Any] = {column: source.values[role][row] for role, column in names.items()}
        return subject_of(predictor, task, source.image(row), "", columns)

    return begin


def _copied(predictor: Predictor) -> tuple[VisionLanguageModel, Predictor]:
    """A copy of the model to be randomised, and a predictor with it."""
    model = copy.deepcopy(predictor.model)
    result = Predictor(model, predictor.recipe, predictor.tasks, predictor.processor, batch_size=predictor.batch_size)
    return model, result


def _right(predictor: Predictor, source: Rows, rows: Sequence[int]) -> np.ndarray:
    """Whether each row is answered rightly; never, for a task whose answers are more or less far off."""
    predictions = source.predict(predictor, rows)
    marks = source.task.right(source.values, rows, predictions)
    return marks >= 1.0 if source.task.higher_is_better else np.zeros(len(rows), dtype=bool)


def _readable(source: Rows, rows: Sequence[int]) -> tuple[list[int], str]:
    """The rows whose image can be read, and what is wrong with the first of the others."""
    good, problem = [], ""
    for row in rows:
        try:
            source.image(row)
            good.append(row)
        except RebusError as error:
            problem = problem or str(error)
    return good, problem
