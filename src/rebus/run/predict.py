"""A table in, the same table with predictions out, a portion at a time."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rebus import atomic
from rebus.data.readers import read_table
from rebus.data.table import Table
from rebus.errors import DataError, RebusError
from rebus.run.evaluate import store_for
from rebus.run.folder import Run
from rebus.run.predictor import Predictor
from rebus.tasks import Prediction, Task
from rebus.tasks.cells import missing

PORTION = 1024  # rows predicted and written together
Row = dict[str, Any]


@dataclass(frozen=True)
class PredictSummary:
    """What was done.

    Attributes:
        rows: written.
        skipped: rows that could not be read; they are written too, with the reason under ``error``.
        seconds: it took.
    """

    rows: int
    skipped: int
    seconds: float


def predict_table(run: Run, data: str | Path, out: str | Path) -> PredictSummary:
    """Predict every row with every task of the Run.

    The output holds the table's own columns but for pictures kept as bytes, then ``TASK`` and ``TASK_confidence`` a
    task, and ``error``, which is empty unless a row could not be read.

    Args:
        run: the Run.
        data: a table or folder.
        out: a .csv, .jsonl or .parquet file.

    Raises:
        DataError: the table lacks a column the model reads, or the suffix is unknown.
        RunError: ``out`` cannot be written.
    """
    started = time.time()
    out = Path(out)
    if out.suffix not in WRITERS:
        raise DataError(
            out, "a file ending in .csv, .jsonl or .parquet", f"'{out.suffix}'", "choose one of these for --out"
        )
    predictor = Predictor.open(run.folder)
    table = read_table(predictor.recipe.data.model_copy(update={"path": str(data), "kinds": {}}))
    tasks = [task for task in predictor.tasks.values() if task.predicts]
    for task in tasks:
        predictor.input_values(task, {name: [] for name in table.columns})  # missing columns are told before any work
    skipped = 0

    def write_all(beside: Path) -> None:
        nonlocal skipped
        with WRITERS[out.suffix](beside) as write:
            for start in range(0, len(table), PORTION):
                rows, bad = predict_portion(predictor, tasks, table, range(start, min(start + PORTION, len(table))))
                skipped += bad
                write(rows)

    atomic.write_with(out, write_all)
    return PredictSummary(len(table), skipped, time.time() - started)


def predict_portion(predictor: Predictor, tasks: list[Task], table: Table, rows: range) -> tuple[list[Row], int]:
    """Some rows with their predictions, and how many of them could not be read."""
    part = table.select(rows)
    written = [{name: told for name, told in row.items() if not isinstance(told, bytes)} for row in part]
    errors = [""] * len(rows)
    columns = {name: part.column(name) for name in part.columns}
    for task in tasks:
        values = predictor.input_values(task, columns)
        store = store_for(predictor, part, task)
        column = task.settings.columns.get("picture", "")
        pictures = columns.get(column, [None] * len(rows))
        good = []
        for row in range(len(rows)):
            try:
                if store is not None and not missing(pictures[row]):
                    store.get(row)
            except RebusError as error:
                errors[row] = str(error)
                continue
            good.append(row)

        def picture_of(row: int, store: Any = store, pictures: Any = pictures) -> Any:
            return None if store is None or missing(pictures[row]) else store.get(row)

        told = dict(zip(good, predictor.run_task(task, values, good, picture_of), strict=True))
        for row, target in enumerate(written):
            said: Prediction | None = told.get(row)
            name = task.name if task.name not in table.columns else f"{task.name}_predicted"
            target[name] = None if said is None else said.value
            target[f"{task.name}_confidence"] = None if said is None else round(said.confidence, 6)
    for row, told_wrong in enumerate(errors):
        written[row]["error"] = told_wrong
    return written, sum(bool(error) for error in errors)


Write = Callable[[list[Row]], None]


@contextmanager
def _csv(path: Path) -> Iterator[Write]:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer: list[Any] = []

        def write(rows: list[Row]) -> None:
            if not writer and rows:
                writer.append(csv.DictWriter(file, list(rows[0])))
                writer[0].writeheader()
            for row in rows:
                writer[0].writerow({name: _flat(value) for name, value in row.items()})

        yield write
        _flush(file)


@contextmanager
def _jsonl(path: Path) -> Iterator[Write]:
    with open(path, "w", encoding="utf-8") as file:

        def write(rows: list[Row]) -> None:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")

        yield write
        _flush(file)


@contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    writers: list[Any] = []

    def write(rows: list[Row]) -> None:
        plain = [{name: _flat(value) for name, value in row.items()} for row in rows]
        made = pa.Table.from_pylist(plain, schema=writers[0].schema if writers else None)
        if not writers:  # a column that is empty so far may yet hold text
            fields = [pa.field(f.name, pa.string() if pa.types.is_null(f.type) else f.type) for f in made.schema]
            made = made.cast(pa.schema(fields))
            writers.append(pq.ParquetWriter(path, made.schema))
        writers[0].write_table(made)

    try:
        yield write
    finally:
        for writer in writers:
            writer.close()
    if not writers:
        pq.write_table(pa.table({}), path)


def _flat(value: Any) -> Any:
    """Lists and dictionaries as JSON text: a cell holds one value."""
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (list, dict)) else value


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


WRITERS = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
