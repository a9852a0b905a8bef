"""Everything that can be said about a table before any training: what is in it and what is wrong with it.

It decides nothing: the caller refuses or leaves rows out by ``errors`` and ``bad_rows``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rebus.data import cells, measures
from rebus.data.cell_check import check_cells
from rebus.data.duplicates import duplicate_rows, fingerprint, shared_texts
from rebus.data.encodings import garbled
from rebus.data.image_survey import ImageSurvey, survey_images
from rebus.data.lists import parse_value
from rebus.data.marks import Marks
from rebus.data.messages import unread_fields
from rebus.data.role_cells import role_values
from rebus.data.row_check import RowCheck, missing_columns
from rebus.data.splits import split_column
from rebus.data.table import Table
from rebus.data.unused import Unused
from rebus.errors import DataError, ImageError, RebusError
from rebus.notebook import rendered
from rebus.recipe import Data, Kind, TaskSettings

if TYPE_CHECKING:
    from rich.console import Console

_SHOWN = 20


@dataclass
class CheckReport:
    """What a check found.

    Attributes:
        name: of the table.
        rows: how many.
        kinds: column: kind.
        tasks: task: its columns by role.
        splits: split: rows.
        columns: column: figures that fit its kind.
        images: one survey an image column.
        duplicates: (row, the earlier row it repeats).
        leaks: (held-out row, training row) that hold the same image or text.
        errors: what no leaving out of rows cures; training refuses.
        bad_rows: row: what is wrong with it; training refuses or leaves it out and counts it.
        notes: how the table was read, where that is not plain.
        warnings: what a person should know.
        skipped: rows that the reader already left out.
        unlabelled: rows of a held-out split that lack only what is to be predicted; they are left out.
        unused: what the files say and training will not use, by kind.
        places: a row's file and line, for the rows named here.
        fingerprint: of the table's content; see ``rebus.data.duplicates.fingerprint``.
        says_splits: whether the table itself says which rows are held out.
        skips_bad: whether the settings leave bad rows out instead of refusing them.
    """

    name: str
    rows: int
    kinds: dict[str, Kind]
    tasks: dict[str, dict[str, str]]
    splits: dict[str, int]
    columns: dict[str, dict[str, Any]] = field(default_factory=dict)
    images: list[ImageSurvey] = field(default_factory=list)
    duplicates: list[tuple[int, int]] = field(default_factory=list)
    leaks: list[tuple[int, int]] = field(default_factory=list)
    errors: list[RebusError] = field(default_factory=list)
    bad_rows: dict[int, RebusError] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    skipped: list[DataError] = field(default_factory=list)
    unlabelled: list[int] = field(default_factory=list)
    unused: Unused = field(default_factory=Unused)
    places: dict[int, str] = field(default_factory=dict)
    fingerprint: str = ""
    says_splits: bool = False
    skips_bad: bool = False

    @property
    def exit_code(self) -> int:
        """2: training refuses the table; 1: it leaves out the bad rows that are listed; 0: it takes all rows."""
        if self.errors or (self.bad_rows and not self.skips_bad):
            return 2
        return 1 if self.bad_rows or self.skipped else 0

    @property
    def good(self) -> bool:
        """Whether training would take the table as it is."""
        return not self.errors and not self.bad_rows

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values; of long lists the first 20 and the count."""
        bad = sorted(self.bad_rows)
        return {
            "name": self.name,
            "rows": self.rows,
            "fingerprint": self.fingerprint,
            "kinds": dict(self.kinds),
            "tasks": self.tasks,
            "splits": self.splits,
            "columns": self.columns,
            "images": [survey.as_dict() for survey in self.images],
            "duplicate_rows": self._pairs(self.duplicates),
            "leaks": self._pairs(self.leaks),
            "errors": [error.as_dict() for error in self.errors],
            "bad_rows": {
                "count": len(bad),
                "first": [{"row": row, **self.bad_rows[row].as_dict()} for row in bad[:_SHOWN]],
            },
            "skipped": {"count": len(self.skipped), "first": [error.as_dict() for error in self.skipped[:_SHOWN]]},
            "notes": self.notes,
            "unlabelled": len(self.unlabelled),
            "unused": self.unused.as_dict(),
            "warnings": self.warnings,
        }

    def _repr_html_(self) -> str:
        return rendered(self.render)

    def render(self, console: Console) -> None:
        """Print the report."""
        from rebus.data.check_render import render_report

        render_report(self, console)

    def _pairs(self, pairs: list[tuple[int, int]]) -> dict[str, Any]:
        shown = [[self.places.get(a, str(a)), self.places.get(b, str(b))] for a, b in pairs[:_SHOWN]]
        return {"count": len(pairs), "first": shown}


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
    _unread_columns(report, tasks)
    _unread_fields(report, table)
    values = {name: table.column(name) for name, kind in kinds.items() if kind not in ("ignore", "image")}
    _measure(report, values, data)
    for name in [name for name, kind in kinds.items() if kind == "image"]:
        _images(report, table, name, data, splits)
    report.errors += missing_columns(table, tasks)
    if not report.errors:
        _rows(report, table, tasks, values, splits, report.says_splits)
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
    named = [row for pair in (*report.duplicates[:_SHOWN], *report.leaks[:_SHOWN]) for row in pair]
    named += [survey.rows[survey.blank[0]][0] for survey in report.images if survey.blank]
    report.places = {row: table.where(row) for row in named}
    _tell(report)
    return report


def _unread_columns(report: CheckReport, tasks: Sequence[TaskSettings]) -> None:
    """Columns that could be learned from and that no task reads."""
    read = {column for task in tasks for column in task.columns.values()}
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
            style = data.numbers.get(name) or cells.numbers(column, words=words).style
            read = [cells.number(value, style) for value in column if not cells.is_blank(value, words)]
            figures |= measures.number_figures(read)
            if figures["not_finite"]:
                report.warnings.append(f"column '{name}': {figures['not_finite']} values are not finite numbers")
        report.columns[name] = figures


def _garbled(report: CheckReport, name: str, column: list[Any]) -> None:
    count, first, other = garbled(value for value in column if isinstance(value, str))
    if count:
        told = f"'{first[:40]}' would be '{other[:40]}'" if other else f"'{first[:40]}' holds U+FFFD"
        report.warnings.append(
            f"column '{name}': {count} texts were decoded wrongly before they were saved: {told}; "
            "export them again, in UTF-8"
        )


def _one(value: Any) -> list[str]:
    return [] if value is None else [value]


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
    says: bool,
) -> None:
    """A row is bad where a value is wrong, or where it lacks something for every task.

    A row that the table itself holds out is unlabelled, not bad, where it lacks only what is to be predicted.
    """
    if not tasks:
        return
    wanted = {column for task in tasks for column in task.columns.values()}
    columns = {name: values[name] if name in values else table.column(name) for name in wanted}
    checks = [RowCheck(table, task, columns, set(report.bad_rows)) for task in tasks]
    for check in checks:
        if isinstance(marks := getattr(check, "marks", None), Marks):
            where = f"column '{check.task.columns['tags']}'"
            report.notes += [f"{where}: tags are read as {marks.said()}"] if marks.said() else []
            doubt = marks.writing.doubt
            report.warnings += [f"{where}: {doubt}; write O for no span and B-, I- for spans"] if doubt else []
    lacking: Counter[str] = Counter()
    for row in range(len(table)):
        wrong = next((error for check in checks if (error := check.invalid(row)) is not None), None)
        absent = [check.absent(row) for check in checks]
        lacking.update(check.task.name for check, error in zip(checks, absent, strict=True) if error is not None)
        if wrong is None and all(error is not None for error in absent):
            declared = (says and splits[row] in ("valid", "test")) or all(
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
    if task.name == "patch_classify":
        boxes = role_values(task, "boxes", table.column(task.columns["boxes"]))
        said = [[cells.label(box.get("label")) for box in row or () if isinstance(box, dict)] for row in boxes]
        _unseen_labels(report, task.columns["boxes"], said, splits)
    role = {"classify": "label", "tag": "labels", "regress": "target"}.get(task.name)
    if role is None:
        return
    column = task.columns[role]
    known = role_values(task, role, values[column] if column in values else table.column(column))
    where = f"{table.name}, column '{column}'"
    flag = f"or name another column with --set tasks.N.columns.{role}=COLUMN"
    if task.name == "regress":
        numbers = {value for value in known if isinstance(value, float)}
        if len(numbers) < 2:
            found = f"only {next(iter(numbers)):g}" if numbers else "none"
            report.errors.append(DataError(where, "at least two different numbers", found, f"add other rows, {flag}"))
        return
    labels = [list(value or ()) if task.name == "tag" else _one(value) for value in known]
    counts = Counter(label for row in labels for label in row)
    least = 2 if task.name == "classify" else 1
    if len(counts) < least:
        found = f"only '{next(iter(counts))}'" if counts else "none"
        report.errors.append(DataError(where, f"at least {least} different labels", found, f"add other rows, {flag}"))
        return
    _label_warnings(report, column, labels, counts, splits)
    if task.name == "classify" and "text" in task.columns and task.columns["text"] in values:
        firsts = [row[0] if row else "" for row in labels]
        own, chance = measures.leak_share(values[task.columns["text"]], firsts)
        if own >= 0.5 and own > 2 * chance:
            report.warnings.append(
                f"column '{task.columns['text']}' names the row's own '{column}' in {own:.0%} of rows: the model "
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
