"""Score a model on rows: predictions, figures with intervals, the naive baseline; as a whole and by a column."""

from __future__ import annotations

import lzma
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rebus import recipe
from rebus.checkpoints.run_folder import Run
from rebus.data import cells
from rebus.data.corpus import looks_like_corpus, open_source
from rebus.data.readers import read_table
from rebus.data.row_check import RowCheck
from rebus.data.splits import row_keys
from rebus.data.table import Table
from rebus.errors import DataError, RebusError, nearest
from rebus.evaluation.ablation import Ablation, ablate, shuffle_columns
from rebus.evaluation.constant_answer import constant_answer
from rebus.evaluation.held_out import judge_held_out, judge_texts
from rebus.evaluation.nearest_caption import NAME as NEAREST
from rebus.evaluation.nearest_caption import applies, nearest_captions
from rebus.evaluation.plain import plain_model
from rebus.evaluation.rows import Rows, read_own, rows_of
from rebus.evaluation.subgroups import Groups, group_figures
from rebus.inference.predictor import Predictor
from rebus.inference.session import chosen_rows
from rebus.inference.zero_shot import settings_for, untrained_task
from rebus.notebook import rendered
from rebus.resolve.corpus import saved_shards
from rebus.tasks import Prediction, Task, TaskScore
from rebus.tasks.base import Values
from rebus.tasks.likelihood import LikelihoodTask

if TYPE_CHECKING:
    from rich.console import Console

MANY = 50  # values of a column beyond which figures for each make no sense


@dataclass
class Evaluation:
    """Figures of a model on a table.

    Attributes:
        rows: task: how many rows were judged.
        tasks: task: figures.
        by: task: {value of a column: {figure: value}}.
        column: that column.
        skipped: rows left out, with the reason of each.
        notes: how the figures came about, where that is not plain.
        ablation: task: what it loses without its images or its text, where that was asked.
        columns: task: what each column adds that is an input by itself, by shuffling its cells.
        groups: task: its main figure for groups of rows; see ``rebus.evaluation.subgroups``.
    """

    rows: dict[str, int] = field(default_factory=dict)
    tasks: dict[str, TaskScore] = field(default_factory=dict)
    by: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    column: str = ""
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ablation: dict[str, Ablation] = field(default_factory=dict)
    columns: dict[str, Ablation] = field(default_factory=dict)
    groups: dict[str, Groups] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, without the row-by-row marks."""
        tasks = {name: asdict(score) for name, score in self.tasks.items()}
        for score in tasks.values():
            score.pop("correct")
        result: dict[str, Any] = {"skipped": self.skipped, **({"notes": self.notes} if self.notes else {})}
        if self.ablation:
            result["ablation"] = {name: value.as_dict() for name, value in self.ablation.items()}
        if self.columns:
            result["columns"] = {name: value.as_dict() for name, value in self.columns.items()}
        if self.groups:
            result["groups"] = self.groups
        return {"rows": self.rows, "tasks": tasks, "column": self.column, "by": self.by, **result}

    def _repr_html_(self) -> str:
        return rendered(self.render)

    def render(self, console: Console) -> None:
        """Print tables of the figures."""
        from rich.table import Table as Grid

        for name, score in self.tasks.items():
            grid = Grid(title=f"{name}, {self.rows[name]} rows", title_justify="left")
            for heading in ("figure", "value", "95% interval", score.baseline_name or "baseline"):
                grid.add_column(heading)
            for key, value in score.metrics.items():
                low, high = score.intervals.get(key, (value, value))
                base = score.baseline.get(key)
                grid.add_row(key, f"{value:.3f}", f"{low:.3f} to {high:.3f}", "" if base is None else f"{base:.3f}")
            console.print(grid)
            for other, figures in score.others.items():
                for key, (gain, low, high) in figures["gains"].items():
                    beside = f"{figures['metrics'][key]:.3f}, the model {gain:+.3f} ({low:+.3f} to {high:+.3f})"
                    console.print(f"  {other}: {key} {beside}", markup=False)
            groups = {f"type {k}": v for k, v in score.by_type.items()} | {
                f"{self.column} {k}": v for k, v in self.by.get(name, {}).items()
            }
            for group, figures in groups.items():
                text = "  ".join(
                    f"{key} {value:g}" if key == "count" else f"{key} {value:.3f}" for key, value in figures.items()
                )
                console.print(f"  {group}: {text}")
        for name, added in self.columns.items():
            for column, loss in added.losses.items():
                shown = f"{loss['lost']:+.3f} ({loss['low']:+.3f} to {loss['high']:+.3f})"
                console.print(f"  {name}: column {column} adds {shown} {added.metric}", markup=False)
        for note in self.notes:
            console.print(note, markup=False)
        if self.skipped:
            console.print(f"left out {len(self.skipped)} rows; the first: {self.skipped[0]}")


def evaluate_run(
    run: Run | str | Path,
    data: str | Path | None = None,
    *,
    split: str | None = None,
    by: str | None = None,
    task: str | Sequence[str] | None = None,
    kinds: Mapping[str, recipe.Kind] | None = None,
    ablations: bool = False,
) -> Evaluation:
    """Judge a model.

    Args:
        run: a Run, or a checkpoint of another project.
        data: a table; None: the one the Run was trained from.
        split: train, valid, test or all; None: test of its own table, all of another.
        by: a column whose values are also judged apart.
        task: what to judge it on; None: what it was trained for, and for a language model what the table's columns
            suggest. A task that it was not trained for is set up from the columns, for a decoder to do untrained.
        kinds: column: kind, for such tasks, where the guess is wrong.
        ablations: also what it loses when its images or its text are taken away; see ``rebus.evaluation.ablation``.

    Raises:
        RebusError: the model or the table cannot be read, or there is nothing to judge.
    """
    predictor = Predictor.open(run.folder if isinstance(run, Run) else run)
    settings = predictor.recipe.data
    wanted = [task] if isinstance(task, str) else list(task or [])
    raw = all(task.reads_documents for task in predictor.tasks.values())  # judged on any table
    general = raw or not settings.path  # made for no table's columns
    general_text = raw and wanted in ([], list(predictor.tasks))
    if general_text and by is None and not ablations:
        judged = judge_raw(predictor, Path(run.folder if isinstance(run, Run) else run), data)
        if judged is not None:
            return judged
    if data is None and (general or not settings.path):
        do = "name a table: rebus evaluate MODEL DATA"
        raise DataError("rebus evaluate", "a table to judge a language model on", "none", do)
    own = None if general else read_own(settings, required=data is None)
    table = own if data is None else read_table(settings.model_copy(update={"path": str(data)}))
    assert table is not None  # noqa: S101 - read_own raised
    split = split or ("test" if data is None else "all")
    rows = chosen_rows(table, predictor.recipe, split)
    if by is not None and by not in table.columns:
        raise DataError(f"--by {by}", "a column of the table", f"'{by}'", nearest(by, table.columns))
    evaluation = Evaluation(column=by or "")
    trained = {} if general else {n: value for n, value in predictor.tasks.items() if not wanted or n in wanted}
    if wanted:  # in a table whose columns have other names, the task is looked for anew
        trained = {
            n: value for n, value in trained.items() if set(value.settings.columns.values()) <= set(table.columns)
        }
    for name, known_task in trained.items():
        if not known_task.predicts and not set(known_task.settings.columns.values()) <= set(table.columns):
            continue  # a table to answer questions about need not have boxes
        known: Values | None = None
        training: list[int] = []
        memory: Rows | None = None
        if own is not None:
            known = known_task.values({column: own.column(column) for column in own.columns})
            training = [row for row in chosen_rows(own, predictor.recipe, "train") if known_task.usable(known, row)]
            memory = Rows(known_task, known, predictor.inputs_of(known_task, own))
        source = rows_of(predictor, table, known_task)
        asked, message = judge(evaluation, predictor, source, rows, known, training, table, by, memory=memory)
        if name not in evaluation.tasks and known_task.predicts:
            raise nothing_to_judge(evaluation, table, name, split)
        if own is not None and (data is not None or split == "all") and split != "train":
            inputs = [column for columns in predictor.recipe.data.inputs.values() for column in columns]
            evaluation.notes += note_of_training_rows(known_task, table, asked, own, training, inputs)
        if ablations and known_task.predicts:
            evaluation.ablation[name] = ablate(predictor, known_task, source.values, asked, message, source.inputs)
    if ablations and not evaluation.ablation:
        can = "a task that the model was trained for, with images or text"
        raise DataError("rebus evaluate --ablate", can, ", ".join(wanted) or "none", "leave --ablate or --task out")
    untrained: list[str | None] = [name for name in wanted if name not in trained]
    for other in untrained or ([None] if general and not wanted else []):
        judge_untrained(evaluation, predictor, table, rows, other, split, by, kinds)
    return evaluation


def judge_raw(predictor: Predictor, folder: Path, data: str | Path | None) -> Evaluation | None:
    """A language model judged on raw text: text files, or (``data`` None) what its own Run held out.

    Returns:
        None where ``data`` is a table, or the Run was not made from raw text.
    """
    result, settings = Evaluation(), predictor.recipe
    (name, task), *_ = predictor.tasks.items()
    if data is not None and looks_like_corpus(data) and task.continues:
        source = open_source(settings.data.model_copy(update={"path": str(data)}), settings.corpus)
        texts = [document.text for document in source.documents()]
        result.rows[name], result.tasks[name] = len(texts), judge_texts(predictor, texts)
        return result
    shards = saved_shards(folder, settings, predictor.processor.tokenizer) if data is None else None
    if shards is None or not isinstance(task, LikelihoodTask):
        return None
    score, facts = judge_held_out(predictor, task, shards)
    if score is not None:
        result.rows[name], result.tasks[name] = facts["judged"]["documents"], score
    return result


def judge_untrained(
    evaluation: Evaluation,
    predictor: Predictor,
    table: Table,
    rows: Sequence[int],
    name: str | None,
    split: str,
    by: str | None = None,
    kinds: Mapping[str, recipe.Kind] | None = None,
) -> None:
    """Add the figures of a task that the model was not trained for; rows that cannot be judged are counted.

    Raises:
        DataError: the table does not suit the task, or there is nothing to judge.
    """
    task = untrained_task(predictor, table, settings_for(table, name, kinds))
    source = rows_of(predictor, table, task)
    check = RowCheck(table, task.settings, {c: table.column(c) for c in task.settings.columns.values()})
    good = []
    for row in rows:
        error = check.invalid(row) or check.absent(row)
        if error is None:
            good.append(row)
        else:
            evaluation.skipped.append(str(error))
    training = list(good) if task.blind_baseline else []
    if not training and split in ("valid", "test"):
        training = [row for row in chosen_rows(table, predictor.recipe, "train") if task.usable(source.values, row)]
    usable, _ = judge(evaluation, predictor, source, good, source.values, training, table, by)
    if not usable:
        raise nothing_to_judge(evaluation, table, task.name, split)
    score = evaluation.tasks[task.name]
    if task.continues and not score.baseline:
        score.baseline = {"bits_per_byte": packed_size([task.targets(source.values, row)[0] for row in usable])}
        score.baseline_name = "xz -9"


def packed_size(texts: Sequence[str]) -> float:
    """Bits a byte of text takes once a compressor has packed all of it, which is what a model should beat."""
    whole = "\n".join(texts).encode()
    return 8 * len(lzma.compress(whole, preset=9)) / max(len(whole), 1)


def nothing_to_judge(evaluation: Evaluation, table: Table, name: str, split: str) -> DataError:
    """That no row of a split can be judged."""
    return DataError(
        table.name,
        f"rows of the split '{split}' that the task '{name}' can be judged on",
        "none" if not evaluation.skipped else f"none that can be read ({evaluation.skipped[0]})",
        "choose another --split: train, valid, test or all",
    )


def note_of_training_rows(
    task: Task, table: Table, judged: Sequence[int], own: Table, training: Sequence[int], inputs: Sequence[str] = ()
) -> list[str]:
    """What should be known where rows that are judged were training rows: the same cells in the columns that are read.

    Those are the task's and ``inputs``.
    """
    read = dict.fromkeys((*task.settings.columns.values(), *inputs))
    columns = [name for name in read if name in table.columns and name in own.columns]
    before, now = row_keys(own, columns), row_keys(table, columns)
    learned = {before[row] for row in training}
    again = sum(now[row] in learned for row in judged)
    if not again:
        return []
    return [
        f"task {task.name}: {again:,} of {len(judged):,} rows are among those that the model was trained on, which "
        "flatters the figures; for held-out rows alone name no table, or add --split test"
    ]


def notes_of_rows(task: Task, values: Values, judged: Sequence[int]) -> list[str]:
    """What should be known of rows that are judged: labels that training never saw."""
    notes = []
    unseen = task.unseen(values, judged)
    if unseen:
        shown = ", ".join(f"'{name}' in {count}" for name, count in unseen.most_common(5))
        notes.append(f"task {task.name}: labels that training never saw count as wrong: {shown} of {len(judged)} rows")
    return notes


def _count_passed_over(evaluation: Evaluation, task: Task, table: Table, rows: Sequence[int], total: int) -> None:
    """Say of rows that cannot be judged what is wrong with them, or that they hold nothing to compare with."""
    if not rows:
        return
    columns = {role: name for role, name in task.settings.columns.items() if name in table.columns}
    settings = task.settings.model_copy(update={"columns": columns})
    check = RowCheck(table, settings, {name: table.column(name) for name in columns.values()})
    wrong = [str(error) for row in rows if (error := check.invalid(row)) is not None]
    evaluation.skipped += wrong
    if len(wrong) < len(rows):
        evaluation.notes.append(
            f"task {task.name}: {len(rows) - len(wrong)} of {total} rows hold nothing to compare with"
        )


def judge(
    evaluation: Evaluation,
    predictor: Predictor,
    source: Rows,
    rows: Sequence[int],
    known: Values | None,
    training: Sequence[int],
    table: Table,
    by: str | None = None,
    *,
    memory: Rows | None = None,
) -> tuple[list[int], list[Prediction]]:
    """Add one task's figures to ``evaluation``; rows whose image cannot be read are counted, never hidden.

    Args:
        evaluation: changed in place.
        predictor: the model.
        source: the table that holds ``rows``, as the task sees it.
        rows: to judge.
        known: columns that hold ``training``; None: the source's.
        training: rows that baselines may know.
        table: that holds ``rows``, for ``by``.
        by: a column whose values are also judged apart.
        memory: the table that holds ``training`` with its images, for baselines that look at them.

    Returns:
        The rows that were judged and the prediction for each.
    """
    task, values = source.task, source.values
    usable, passed_over = [], []
    for row in rows:
        try:
            if not task.judgeable(values, row):
                passed_over.append(row)
                continue
            source.image(row)
        except RebusError as error:
            evaluation.skipped.append(str(error))
            continue
        usable.append(row)
    _count_passed_over(evaluation, task, table, passed_over, len(rows))
    if not usable:
        return [], []
    evaluation.notes += notes_of_rows(task, values, usable)
    predictions = source.predict(predictor, usable)
    evaluation.rows[task.name] = len(usable)
    evaluation.tasks[task.name] = score = task.score(values, usable, predictions, training, known=known)
    if (constant := constant_answer(task, values, usable, predictions)) is not None:
        evaluation.notes.append(constant)
    if task.predicts and not task.writes:
        added = shuffle_columns(predictor, task, values, usable, predictions, source.inputs)
        evaluation.columns |= {} if added is None else {task.name: added}
    if task.predicts and (apart := group_figures(predictor.recipe, task, values, usable, predictions, table)):
        evaluation.groups[task.name] = apart
    if memory is not None and training and applies(task, predictor):
        naive = nearest_captions(predictor, source, usable, memory, training)
        if naive:
            beside = task.compared(values, usable, predictions, naive, NEAREST)
            score.others[NEAREST] = {"metrics": beside.baseline, "gains": beside.gains}
    minutes = predictor.recipe.train.time_limit
    if memory is not None and (plain := plain_model(source, usable, memory, training, minutes)) is not None:
        beside = task.compared(values, usable, predictions, plain.told, plain.name)
        score.others[plain.name] = {
            "metrics": beside.baseline,
            "gains": beside.gains,
            **{"rows": plain.rows, "of": plain.of, "seconds": round(plain.seconds, 1)},
        }
    if by is None:
        return usable, predictions
    groups: dict[str, list[int]] = {}
    for place, row in enumerate(usable):
        groups.setdefault(cells.label(table.value(row, by)), []).append(place)
    if len(groups) > MANY:
        raise DataError(
            f"--by {by}", f"at most {MANY} different values", f"{len(groups)}", "name a column of few values"
        )
    evaluation.by[task.name] = {
        group: {
            "count": float(len(groups[group])),
            **task.quick_score(values, [usable[i] for i in groups[group]], [predictions[i] for i in groups[group]]),
        }
        for group in cells.in_order(groups)
    }
    return usable, predictions
