"""Everything that can be said about a table before any training: what is in it and what is wrong with it.

It decides nothing: the caller refuses or leaves rows out by ``errors`` and ``bad_rows``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

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
from rebus.errors import DataError, ImageError
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
                    told = check_cells(task, role, column, values.get(column) or table.column(column))
                    report.notes += told.notes
                    report.warnings += told.warnings
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
                report.warnings.append(f"column '{name}': {figures['not_finite']} values are not finite numbers")
        elif kind == "date":
            reading = reading_of(column, "date")
            dates = [date for value in column if (date := as_date(value, reading.order)) is not None]
            figures |= {"first": str(min(dates)), "last": str(max(dates))} if dates else {}
        report.columns[name] = figures


def _garbled(report: CheckReport, name: str, column: list[Any]) -> None:
    count, first, other = garbled(value for value in column if isinstance(value, str))
    if count:
        told = f"'{first[:40]}' would be '{other[:40]}'" if other else f"'{first[:40]}' holds U+FFFD"
        report.warnings.append(
            f"column '{name}': {count} texts were decoded wrongly before they were saved: {told}; "
            "export them again, in UTF-8"
        )


def _images(report: CheckReport, table: Table, name: str, data: Data, splits: Sequence[str]) -> None:
    survey = survey_images(table, name, data, splits)
    report.images.append(survey)
    report.leaks += survey.leaks
    for at, error in survey.errors.items():
        for row in survey.rows[at]:
            where = f"{table.where(row)}, column '{name}'"
            report.bad_rows.setdefault(row, ImageError(where, error.expected, error.found, error.do))


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
        report.warnings += [f"task {name}: {count} rows hold nothing for it" for name, count in sorted(lacking.items())]


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
            report.warnings.append(
                f"column '{text}' names the row's own '{column}' in {own:.0%} of rows: the model "
                "may read the answer instead of learning it"
            )


def _label_warnings(
    report: CheckReport, column: str, labels: list[list[str]], counts: Counter[str], splits: Sequence[str]
) -> None:
    rare = sum(count < 5 for count in counts.values())
    if rare:
        report.warnings.append(f"column '{column}': {rare} of {len(counts)} labels have fewer than 5 rows")
    (_, most), least = counts.most_common(1)[0], min(counts.values())
    if most > 10 * least:
        report.warnings.append(f"column '{column}': the most frequent label has {most} rows, the rarest {least}")
    if report.says_splits:
        judged = "test" if "test" in splits else "valid"
        held_out = Counter(label for row, name in zip(labels, splits, strict=True) if name == judged for label in row)
        alone = sorted(set(counts) - set(held_out))
        if alone and held_out.total() >= 5 * len(counts):
            shown = ", ".join(alone[:5]) + (", ..." if len(alone) > 5 else "")
            report.warnings.append(f"column '{column}': {len(alone)} labels are in no held-out row ({shown})")
    _unseen_labels(report, column, labels, splits)


def _unseen_labels(report: CheckReport, column: str, labels: list[list[str]], splits: Sequence[str]) -> None:
    """Warn of labels that only rows outside training have."""
    if splits:
        training = {label for row, name in zip(labels, splits, strict=True) if name == "train" for label in row}
        unseen = sorted({label for row in labels for label in row} - training)
        if unseen:
            shown = ", ".join(unseen[:5]) + (", ..." if len(unseen) > 5 else "")
            report.warnings.append(f"column '{column}': {len(unseen)} labels are in no training row ({shown})")


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
        f"no row is in the split '{name}'" for name in ("valid", "test") if report.splits.get(name) == 0
    ]
    if report.unlabelled:
        report.warnings.append(
            f"{len(report.unlabelled)} rows have no label and are left out: they can neither be learned nor judged; "
            "`rebus predict` gives them one"
        )
    if report.skipped:
        report.warnings.append(f"{len(report.skipped)} left out while reading; the first: {report.skipped[0]}")
    if report.duplicates:
        report.warnings.append(f"{len(report.duplicates)} rows repeat an earlier row")
    if report.leaks:
        what = "image" if report.images else "text"
        report.warnings.append(
            f"{len(report.leaks)} rows outside training hold a {what} that training rows hold too"
            + (", or one that looks the same; " if report.images else "; ")
            + (
                "the table's own split puts them apart: move them, or drop them from the held-out rows"
                if report.says_splits
                else "keep them together with --set data.split.group=COLUMN"
            )
        )
    for survey in report.images:
        if survey.levels is not None:
            low, high = min(one.low for one in survey.extremes), max(one.high for one in survey.extremes)
            black, white = survey.levels
            report.notes.append(
                f"column '{survey.column}': {len(survey.extremes)} images have more than 8 bits a sample, values "
                f"{low:g} to {high:g}: {black:g} is black, {white:g} white (others: --set data.levels=[BLACK,WHITE])"
            )
        if paged := sum(header is not None and header.pages > 1 for header in survey.headers):
            report.warnings.append(f"column '{survey.column}': {paged} images have several pages; the first is used")
        if dark := _dim(survey):
            report.warnings.append(
                f"column '{survey.column}': {dark} images are nearly of one colour (less than 16 of 255 levels apart)"
            )
        if survey.blank:
            first = report.places.get(survey.rows[survey.blank[0]][0], "")
            report.warnings.append(
                f"column '{survey.column}': {len(survey.blank)} images are blank, of one colour (first: {first})"
            )
        if survey.empty:
            report.warnings.append(f"column '{survey.column}': {len(survey.empty)} rows have no image")
        whole = len(survey.rows) - sum(header is None for header in survey.headers)
        if 0 < len(survey.decoded) < whole - len(survey.errors):
            report.warnings.append(
                f"column '{survey.column}': all {len(survey.rows)} headers were read, {len(survey.decoded)} images "
                "were decoded (a sample): damage and near-duplicates among the others are not known"
            )
