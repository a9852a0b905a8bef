"""A table in, the same table with predictions out, a portion at a time."""

from __future__ import annotations

import glob
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rebus import atomic
from rebus.checkpoints.run_folder import Run
from rebus.data.readers import read_table
from rebus.data.table import Table
from rebus.errors import DataError, RebusError
from rebus.inference.prediction_files import WRITERS, Predicted
from rebus.inference.predictor import Predictor
from rebus.inference.session import chosen_rows
from rebus.progress import track
from rebus.tasks import Prediction, Task
from rebus.tasks.cuts import counting

PORTION = 1024  # rows predicted and written together
PORTION_WRITING = 64  # of tasks that write text, which take longer


@dataclass(frozen=True)
class PredictSummary:
    """What was done.

    Attributes:
        rows: written.
        skipped: rows that could not be read; they are written too, with the reason under ``error``.
        seconds: it took.
        cut: how many texts were not read whole, as a sentence; empty: none.
        absent: columns that are inputs by themselves and are not in the table: all their values are missing.
    """

    rows: int
    skipped: int
    seconds: float
    cut: str = ""
    absent: tuple[str, ...] = ()


class StoppedEarlyError(KeyboardInterrupt):
    """A signal while a table was predicted; the message says which rows are in which file."""


def predict_table(run: Run, data: str | Path, out: str | Path, *, split: str | None = None) -> PredictSummary:
    """Predict every row with every task of the Run.

    The output holds the table's own columns but for images kept as bytes, then a task's ``TASK`` and, unless it is a
    number, ``TASK_confidence``, and ``error``, which is empty unless a row could not be read.

    Args:
        run: the Run.
        data: a table or folder.
        out: a .csv, .jsonl or .parquet file.
        split: train, valid, test or all; None: all.

    Raises:
        StoppedEarlyError: a signal; the rows so far are in ``NAME.partial.SUFFIX`` beside ``out``.
        DataError: the table lacks a column the model reads, or the suffix is unknown.
        RunError: ``out`` cannot be written.
    """
    started = time.time()
    out = Path(out)
    if out.suffix not in WRITERS:
        raise DataError(
            out, "a file ending in .csv, .jsonl or .parquet", f"'{out.suffix}'", "choose one of these for --out"
        )
    if os.path.exists(out) and any(
        os.path.exists(source) and os.path.samefile(source, out) for source in _sources(data)
    ):
        raise DataError(out, "a file that is not read", "the table itself", "choose another file for --out")
    predictor = Predictor.open(run.folder)
    table = read_table(predictor.recipe.data.model_copy(update={"path": str(data), "kinds": {}}))
    if split is not None:
        table = table.select(chosen_rows(table, predictor.recipe, split))
    tasks = [task for task in predictor.tasks.values() if task.predicts]
    for task in tasks:
        predictor.input_values(task, {name: [] for name in table.columns})  # missing columns are told before any work
    skipped = 0
    step = PORTION_WRITING if any(task.writes for task in tasks) else PORTION

    def write_all(beside: Path) -> None:
        nonlocal skipped
        done = 0
        try:
            with WRITERS[out.suffix](beside, table) as write, track("rows", len(table) * len(tasks)):
                for start in range(0, len(table), step):
                    part = table.select(range(start, min(start + step, len(table))))
                    predicted, bad = predict_portion(predictor, tasks, part)
                    skipped += bad
                    write(part, predicted)
                    done = start + len(part)
        except KeyboardInterrupt:
            if not done:
                raise
            partial = out.with_suffix(f".partial{out.suffix}")
            beside.replace(partial)
            raise StoppedEarlyError(f"Stopped. The first {done:,} of {len(table):,} rows are in {partial}") from None

    with counting() as cuts:
        atomic.write_with(out, write_all)
    inputs = [name for columns in predictor.recipe.data.inputs.values() for name in columns]
    absent = tuple(name for name in inputs if name not in table.columns)
    return PredictSummary(len(table), skipped, time.time() - started, str(cuts), absent)


def predict_portion(predictor: Predictor, tasks: list[Task], part: Table) -> tuple[Predicted, int]:
    """Predictions for some rows, a column a name, and how many of the rows could not be read."""
    rows = range(len(part))
    added: dict[str, list[Any]] = {}
    errors = [""] * len(part)
    columns = {name: part.column(name) for name in part.columns}
    for task in tasks:
        values = predictor.input_values(task, columns)
        inputs = predictor.inputs_of(task, part)
        good = []
        for row in rows:
            try:
                inputs.check(row)
            except RebusError as error:
                errors[row] = str(error)
                continue
            good.append(row)

        answers = dict(zip(good, predictor.run_task(task, values, good, inputs), strict=True))
        predictions: list[Prediction | None] = [answers.get(row) for row in rows]
        name = task.name if task.name not in part.columns else f"{task.name}_predicted"
        added[name] = [None if prediction is None else prediction.value for prediction in predictions]
        if task.says_confidence:
            sure = [
                None if prediction is None or prediction.confidence is None else round(prediction.confidence, 6)
                for prediction in predictions
            ]
            added[f"{task.name}_confidence"] = sure
    added["error"] = errors
    return added, sum(bool(error) for error in errors)


def _sources(data: str | Path) -> list[str]:
    """Files that a table may be read from: itself, those of a pattern, those in a folder."""
    text = os.path.expanduser(data)
    return [text, *glob.glob(text), *(entry.path for entry in (os.scandir(text) if os.path.isdir(text) else ()))]
