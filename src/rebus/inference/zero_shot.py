"""Tasks that a model was not trained for, built from a table's columns: what a decoder can write or find likely.

A language model then goes on from plain text; one that converses is spoken to in turns. Classes of images, which a
model with a shared space tells by their names, are in ``rebus.evaluation.class_prompts``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rebus.data.kinds import infer
from rebus.data.row_check import missing_columns
from rebus.data.table import Table
from rebus.errors import DataError, RebusError
from rebus.inference.predictor import Predictor
from rebus.recipe import Kind, TaskSettings
from rebus.tasks import TASKS
from rebus.tasks.base import Values
from rebus.tasks.cells import missing
from rebus.tasks.writing import WritingTask, writing_task

_SAMPLE = 500  # rows that are looked at to find languages and lengths
_LONGEST = 512  # most tokens written where the right texts are longer


def settings_for(table: Table, name: str | None = None, kinds: Mapping[str, Kind] | None = None) -> TaskSettings:
    """A task with the columns of a table that play its roles.

    Args:
        table: the rows.
        name: of the task; None: found from the columns.
        kinds: column: kind, where the guess is wrong.

    Raises:
        DataError: the task needs training, or the table lacks its columns.
    """
    known = {column: kind for column, kind in (kinds or {}).items() if column in table.columns}
    inference = infer(table, known, [name] if name else [])
    if not inference.tasks:
        received = ", ".join(f"{column} ({kind})" for column, kind in inference.kinds.items()) or "none"
        do = f"name it: --task NAME, one of {', '.join(_untrained())}"
        raise DataError(table.name, "columns that a task can be found from", received, do)
    entry = inference.tasks[0]
    if not TASKS.get(entry.name).untrained:
        able = ", ".join(_untrained())
        do = f"name one with --task, or train: rebus train {table.name} --task {entry.name}"
        if TASKS.get(entry.name).answers == "label":
            do += "; a model trained to `retrieve` tells classes by name with --zero-shot"
        raise DataError("the model", f"a task that needs no training: {able}", f"'{entry.name}'", do)
    errors = missing_columns(table, [entry])
    if errors:
        do = "rename the column that it is, or name another task with --task"
        raise DataError(errors[0].where, errors[0].expected, errors[0].found, do)
    return entry


def untrained_task(predictor: Predictor, table: Table, settings: TaskSettings) -> WritingTask:
    """The task, set up for a model that was not trained for it.

    Raises:
        DataError: the model writes nothing.
    """
    if predictor.model.decoder is None:
        raise DataError("the model", "one that writes", "one that only reads", "train it for the task")
    settings = settings.model_copy(update={"layout": "chat" if speaks(predictor) else "plain"}, deep=True)
    task = writing_task(TASKS.get(settings.name)(settings))
    if task.continues:
        return task
    values = task.values({column: table.column(column) for column in settings.columns.values()})
    rows = [row for row in range(len(table)) if _readable(task, values, row)]
    task.fit(values, rows)
    sample = rows[:_SAMPLE]
    if not settings.instruction and sample:
        task.settings = settings.replace(instruction=task.request(values, sample))
    task.settings = task.settings.replace(max_new_tokens=_room(predictor, task, values, sample))
    return task


def speaks(predictor: Predictor) -> bool:
    """Whether the model was trained on turns of a conversation."""
    writing = [task for task in predictor.tasks.values() if task.writes and not task.continues]
    return predictor.processor.tokenizer.has_chat and any(item.settings.layout == "chat" for item in writing)


def _untrained() -> list[str]:
    """Tasks that need no training."""
    return [name for name in TASKS.names() if TASKS.get(name).untrained]


def _readable(task: WritingTask, values: Values, row: int) -> bool:
    try:
        return task.judgeable(values, row)
    except RebusError:
        return False  # counted, with its reason, where rows are judged


def _room(predictor: Predictor, task: WritingTask, values: Values, rows: Sequence[int]) -> int:
    """Tokens for the longest of the right texts and a quarter more."""
    texts = [text for row in rows for text in task.targets(values, row) if not missing(text)]
    longest = max((len(ids) for ids in predictor.processor.tokenizer.encode_many(texts)), default=16)
    return min(_LONGEST, longest + longest // 4 + 4)
