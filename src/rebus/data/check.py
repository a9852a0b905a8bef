"""Everything that can be said about a table before any training: what is in it and what is wrong with it.

It decides nothing: the caller refuses or leaves rows out by ``errors`` and ``bad_rows``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rebus.catalogue import Note, named
from rebus.data import cells, measures
from rebus.data.cell_check import check_cells
from rebus.data.check_report import SHOWN, CheckReport
from rebus.data.declared import declared, role_of
from rebus.data.duplicates import duplicate_rows, fingerprint, shared_texts
from rebus.data.encodings import garbled
from rebus.data.image_survey import ImageSurvey, survey_images
from rebus.data.lists import parse_value
from rebus.data.messages import unread_fields
from rebus.data.role_cells import role_values
from rebus.data.row_check import RowCheck, missing_columns
from rebus.data.splits import split_column
from rebus.data.table import Table
from rebus.data.tabular_cells import as_date, reading_of
from rebus.errors import DataError
from rebus.recipe import Data, Kind, TaskSettings

__all__ = ["CheckReport", "check_table"]


def check_table(
    table: Table, data: Data, kinds: Mapping[str, Kind], tasks: Sequence[TaskSettings], splits: Sequence[str]
) -> CheckReport:
    """Check a table.

    All rows and all images' headers are looked at; what is measured on a sample says so.

    Args:
        table: the rows.
        data: background, pixel budget.
        kinds: column: kind.
        tasks: what is to be learned, columns filled in; empty: only the table itself is checked.
        splits: (N,) train, valid or test; empty: leakage is not looked for.
    """
    counts = Counter(splits)
    report = CheckReport(
        name=table.name,
        rows=len(table),
        kinds=dict(kinds),
        tasks={task.name: dict(task.columns) for task in tasks},
        splits={name: counts[name] for name in ("train", "valid", "test")} if splits else {},
        skipped=list(table.skipped),
        notes=list(table.notes),
        warnings=list(table.warnings),
        says_splits=_says_splits(table, data, splits),
        skips_bad=data.on_bad == "skip",
    )
    report.unused.update(table.unused)
    inputs = {column for columns in data.inputs.values() for column in columns}
    noted = {
        name for name, kind in kinds.items() if "tabular" in data.inputs and kind in ("number", "category", "date")
    }
    _unread_columns(report, tasks, inputs | noted)
    _unread_fields(report, table)
    values = {name: table.column(name) for name, kind in kinds.items() if kind not in ("ignore", "image")}
    _measure(report, values, data)
    for name in [name for name, kind in kinds.items() if kind == "image"]:
        _images(report, table, name, data, splits)
    report.errors += missing_columns(table, tasks, inputs=bool(inputs))
    if not report.errors:
        _rows(report, table, tasks, values, splits, inputs=bool(inputs))
        for task in tasks:
            for role, column in task.columns.items():
                if kinds.get(column) != "image":
                    message = check_cells(task, role, column, values.get(column) or table.column(column))
                    report.notes += message.notes
                    report.warnings += message.warnings
            _targets(report, table, task, values, splits)
    report.duplicates, report.fingerprint = duplicate_rows(table), fingerprint(table)
    if splits and not report.images:
        texts = [name for name, kind in kinds.items() if kind == "text"]
        joined = [" ".join(str(values[name][row]) for name in texts) for row in range(len(table))] if texts else []
        report.leaks = shared_texts(joined, splits) if texts else []
    apart = set(report.unlabelled)  # neither learned nor judged
    report.leaks = [(row, other) for row, other in report.leaks if row not in apart]
    named = [row for pair in (*report.duplicates[:SHOWN], *report.leaks[:SHOWN]) for row in pair]
    named += [survey.rows[survey.blank[0]][0] for survey in report.images if survey.blank]
    report.places = {row: table.where(row) for row in named}
    _tell(report)
    return report


def _unread_columns(report: CheckReport, tasks: Sequence[TaskSettings], inputs: set[str]) -> None:
    """Columns that could be learned from and that are not read."""
    read = inputs | {column for task in tasks for column in task.columns.values()}
    for name, kind in report.kinds.items():
        if tasks and kind != "ignore" and name not in read:
            report.unused.add(f"cells of column '{name}' ({kind}), which no task reads", count=report.rows)


def _unread_fields(report: CheckReport, table: Table) -> None:
    """Fields of turns that nothing reads, where the reader left them in."""
    for name in [name for name, kind in report.kinds.items() if kind == "messages"]:
        for row, value in enumerate(table.column(name)):
            for field_name in unread_fields(parse_value(value) if isinstance(value, str) else value):
                report.unused.add(f"turns with '{field_name}', which is not read", table.where(row))


def _says_splits(table: Table, data: Data, splits: Sequence[str]) -> bool:
    """Whether the table itself says which rows are held out."""
    return bool(splits) and data.split.folds is None and split_column(table, data.split) is not None


def _measure(report: CheckReport, values: dict[str, list[Any]], data: Data) -> None:
    for name, column in values.items():
        kind = report.kinds[name]
        words = cells.blank_words(kind in ("category", "labels", "number"), data.blanks)
        if kind in ("text", "category", "labels"):
            _garbled(report, name, column)
        figures: dict[str, Any] = {"empty": sum(cells.is_blank(value, words) for value in column)}
        if kind == "text":
            figures |= measures.text_figures(column)
        elif kind == "messages":
            figures |= measures.turn_figures(column)
        elif kind in ("category", "labels"):
            several, mark = kind == "labels", data.separators.get(name)
            if several and mark is None:
                mark = cells.found_separator(column)
            figures |= measures.label_figures(
                [
                    label
                    for value in column
                    if not cells.is_blank(value, words)
                    for label in (cells.labels(value, mark, words) if several else [cells.label(value)])
                ]
            )
        elif kind == "number":
            reading = reading_of(column, "number", data.numbers.get(name))
            figures |= measures.number_figures(
                [reading.number(value) for value in column if not cells.is_blank(value, words)]
            )
            figures["unit"] = reading.unit
            if figures["not_finite"]:
                report.warnings.append(Note("check.not_finite", column=name, count=figures["not_finite"]))
        elif kind == "date":
            reading = reading_of(column, "date")
            dates = [date for value in column if (date := as_date(value, reading.order)) is not None]
            figures |= {"first": str(min(dates)), "last": str(max(dates))} if dates else {}
        report.columns[name] = figures


def _garbled(report: CheckReport, name: str, column: list[Any]) -> None:
    count, first, other = garbled(value for value in column if isinstance(value, str))
    if count:
        key = "check.would_be" if other else "check.holds_fffd"
        example = Note(key, text=first[:40], other=other[:40])
        report.warnings.append(Note("check.garbled", column=name, count=count, example=example))


def _images(report: CheckReport, table: Table, name: str, data: Data, splits: Sequence[str]) -> None:
    survey = survey_images(table, name, data, splits)
    report.images.append(survey)
    report.leaks += survey.leaks
    for at, error in survey.errors.items():
        for row in survey.rows[at]:
            where = f"{table.where(row)}, column '{name}'"
            report.bad_rows.setdefault(row, error.at(where))


def _rows(
    report: CheckReport,
    table: Table,
    tasks: Sequence[TaskSettings],
    values: dict[str, list[Any]],
    splits: Sequence[str],
    *,
    inputs: bool,
) -> None:
    """A row is bad where a value is wrong, or where it lacks something for every task.

    A row that the table itself holds out is unlabelled, not bad, where it lacks only what is to be predicted.
    """
    if not tasks:
        return
    wanted = {column for task in tasks for column in task.columns.values()}
    columns = {name: values[name] if name in values else table.column(name) for name in wanted}
    checks = [RowCheck(table, task, columns, inputs=inputs) for task in tasks]
    for check in checks:
        report.notes += check.cells.notes
        report.warnings += check.cells.warnings
    lacking: Counter[str] = Counter()
    for row in range(len(table)):
        wrong = next((error for check in checks if (error := check.invalid(row)) is not None), None)
        absent = [check.absent(row) for check in checks]
        lacking.update(check.task.name for check, error in zip(checks, absent, strict=True) if error is not None)
        if wrong is None and all(error is not None for error in absent):
            declared = (report.says_splits and splits[row] in ("valid", "test")) or all(
                check.target() in table.unlabelled for check in checks
            )
            if declared and all(check.unlabelled(row) for check in checks):
                report.unlabelled.append(row)
                continue
            wrong = absent[0]
        if wrong is not None:
            report.bad_rows.setdefault(row, wrong)
    if report.splits:
        for row in report.unlabelled:
            report.splits[splits[row]] -= 1
    if len(tasks) > 1:
        report.warnings += [
            Note("check.nothing_for_task", task=name, count=count) for name, count in sorted(lacking.items())
        ]


def _targets(
    report: CheckReport, table: Table, task: TaskSettings, values: dict[str, list[Any]], splits: Sequence[str]
) -> None:
    """What is to be said of the column that is to be predicted, by what its cells are."""
    role = declared(task.name).target_role
    if role is None or role not in task.columns or not role_of(task, role).required:
        return
    column, reads = task.columns[role], role_of(task, role).cells
    if reads not in ("boxes", "number", "label", "labels"):
        return
    known = role_values(task, role, values[column] if column in values else table.column(column))
    if reads == "boxes":
        names = [[cells.label(box.get("label")) for box in row or () if isinstance(box, dict)] for row in known]
        _unseen_labels(report, column, names, splits)
        return
    where = f"{table.name}, column '{column}'"
    do = f"add other rows, or name another column with --set tasks.N.columns.{role}=COLUMN"
    if reads == "number":
        numbers = {value for value in known if isinstance(value, float)}
        if len(numbers) < 2:
            received = f"only {next(iter(numbers)):g}" if numbers else "none"
            report.errors.append(DataError(where, "at least two different numbers", received, do))
        return
    labels = [list(value or ()) if reads == "labels" else [] if value is None else [value] for value in known]
    counts = Counter(label for row in labels for label in row)
    least = 2 if reads == "label" else 1
    if len(counts) < least:
        received = f"only '{next(iter(counts))}'" if counts else "none"
        report.errors.append(DataError(where, f"at least {least} different labels", received, do))
        return
    _label_warnings(report, column, labels, counts, splits)
    text = task.columns.get("text")
    if reads == "label" and text in values:
        own, chance = measures.leak_share(values[text], [row[0] if row else "" for row in labels])
        if own >= 0.5 and own > 2 * chance:
            report.warnings.append(Note("check.names_answer", column=text, label=column, share=own))


def _label_warnings(
    report: CheckReport, column: str, labels: list[list[str]], counts: Counter[str], splits: Sequence[str]
) -> None:
    rare = sum(count < 5 for count in counts.values())
    if rare:
        report.warnings.append(Note("check.rare_labels", column=column, rare=rare, count=len(counts)))
    (_, most), least = counts.most_common(1)[0], min(counts.values())
    if most > 10 * least:
        report.warnings.append(Note("check.uneven", column=column, most=most, least=least))
    if report.says_splits:
        judged = "test" if "test" in splits else "valid"
        held_out = Counter(label for row, name in zip(labels, splits, strict=True) if name == judged for label in row)
        alone = sorted(set(counts) - set(held_out))
        if alone and held_out.total() >= 5 * len(counts):
            shown = ", ".join(alone[:5]) + (", ..." if len(alone) > 5 else "")
            report.warnings.append(Note("check.not_held_out", column=column, count=len(alone), labels=shown))
    _unseen_labels(report, column, labels, splits)


def _unseen_labels(report: CheckReport, column: str, labels: list[list[str]], splits: Sequence[str]) -> None:
    """Warn of labels that only rows outside training have."""
    if splits:
        training = {label for row, name in zip(labels, splits, strict=True) if name == "train" for label in row}
        unseen = sorted({label for row in labels for label in row} - training)
        if unseen:
            shown = ", ".join(unseen[:5]) + (", ..." if len(unseen) > 5 else "")
            report.warnings.append(Note("check.not_trained", column=column, count=len(unseen), labels=shown))


def _dim(survey: ImageSurvey) -> int:
    """How many images show next to nothing, blank ones apart."""
    if not len(survey.thumbs):
        return 0
    thumbs = survey.thumbs.reshape(len(survey.thumbs), -1, 3).astype(int)
    return int(((thumbs.max(1) - thumbs.min(1)).max(1) < 16).sum()) - len(survey.blank)


def _tell(report: CheckReport) -> None:
    """Errors and warnings about the whole."""
    if report.splits and not report.splits["train"]:
        report.errors.append(
            DataError(
                f"{report.name}, splits", "rows to train on", "none", "lower data.split.valid and data.split.test"
            )
        )
    report.warnings += [
        Note("check.empty_split", split=named("split", name))
        for name in ("valid", "test")
        if report.splits.get(name) == 0
    ]
    if report.unlabelled:
        report.warnings.append(Note("check.unlabelled", count=len(report.unlabelled)))
    if report.skipped:
        report.warnings.append(Note("check.skipped", count=len(report.skipped), first=str(report.skipped[0])))
    if report.duplicates:
        report.warnings.append(Note("check.repeats", count=len(report.duplicates)))
    if report.leaks:
        key = "check.leaks.image" if report.images else "check.leaks.text"
        do = Note("check.own_split" if report.says_splits else "check.group_split")
        report.warnings.append(Note(key, count=len(report.leaks), do=do))
    for survey in report.images:
        if survey.levels is not None:
            low, high = (
                min(extreme.low for extreme in survey.extremes),
                max(extreme.high for extreme in survey.extremes),
            )
            black, white = survey.levels
            levels = {"low": low, "high": high, "black": black, "white": white}
            report.notes.append(Note("check.deep", column=survey.column, count=len(survey.extremes), **levels))
        if paged := sum(header is not None and header.pages > 1 for header in survey.headers):
            report.warnings.append(Note("check.pages", column=survey.column, count=paged))
        if dark := _dim(survey):
            report.warnings.append(Note("check.dim", column=survey.column, count=dark))
        if survey.blank:
            first = report.places.get(survey.rows[survey.blank[0]][0], "")
            report.warnings.append(Note("check.blank", column=survey.column, count=len(survey.blank), first=first))
        if survey.empty:
            report.warnings.append(Note("check.no_image", column=survey.column, count=len(survey.empty)))
        whole = len(survey.rows) - sum(header is None for header in survey.headers)
        if 0 < len(survey.decoded) < whole - len(survey.errors):
            sizes = {"headers": len(survey.rows), "decoded": len(survey.decoded)}
            report.warnings.append(Note("check.sampled", column=survey.column, **sizes))
