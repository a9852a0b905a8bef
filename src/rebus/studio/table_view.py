"""A table as the page Explore reads it: its rows filtered, searched, judged. It knows no page."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from rebus import recipe
from rebus.checkpoints.run_folder import Run
from rebus.data.kinds import infer_kinds
from rebus.data.readers import read_table
from rebus.data.splits import assign_splits
from rebus.data.table import Table
from rebus.errors import DataError, RebusError, RunError
from rebus.evaluation.rows import rows_of
from rebus.inference.embedding import shared_space
from rebus.inference.predictor import Predictor
from rebus.models.modalities import file_kinds
from rebus.retrieval.build_index import FOLDER, index_run
from rebus.retrieval.index import load_index
from rebus.retrieval.search import find_run
from rebus.tasks.cells import answer_text, as_text

JUDGED = 200  # rows that the model is asked for its worst mistakes
FOUND = 96  # results of a search
_VALUES = 60  # different values of a column that are listed


@dataclass(frozen=True)
class Mark:
    """What the model said of a row.

    Attributes:
        told: its answer.
        truth: the right one.
        right: 1 right, 0 wrong, or an error in the column's unit.
        confidence: of the answer; None: the task says none.
        wrong: whether to call it a mistake.
    """

    told: str
    truth: str
    right: float
    confidence: float | None
    wrong: bool


@dataclass(frozen=True)
class Book:
    """A table with what was inferred of it.

    Attributes:
        path: of the table.
        table: its rows.
        kinds: column: kind.
        splits: train, valid or test, one a row.
    """

    path: Path
    table: Table
    kinds: dict[str, recipe.Kind]
    splits: list[str]

    @property
    def images(self) -> list[str]:
        """All image columns."""
        return [name for name, kind in self.kinds.items() if kind == "image"]

    @property
    def files(self) -> list[str]:
        """All columns whose cells may be paths of files."""
        kinds = file_kinds()
        return [name for name, kind in self.kinds.items() if kind in kinds]

    @property
    def image(self) -> str | None:
        """The first image column."""
        return next(iter(self.images), None)

    @property
    def texts(self) -> list[str]:
        """Columns that can be read."""
        return [name for name, kind in self.kinds.items() if kind not in ("image", "boxes", "mask")]

    @property
    def telling(self) -> list[str]:
        """The three columns that say most of a row: texts before labels, never the split."""
        order = {"text": 0, "messages": 0, "category": 1, "labels": 1, "number": 2, "tags": 2}
        able = [name for name in self.texts if self.kinds[name] in order]
        return sorted(able, key=lambda name: order[self.kinds[name]])[:3]

    def values(self, column: str) -> list[str]:
        """The commonest values of a column."""
        counts = Counter(as_text(value)[:120] for value in self.table.column(column))
        return [value for value, _ in counts.most_common(_VALUES) if value]

    def rows(self, split: str, column: str | None, value: str | None, text: str) -> list[int]:
        """The rows that pass every filter; with ``text`` those that say it most come first.

        Args:
            split: train, valid, test or all.
            column: whose value is looked at; None: no such filter.
            value: that it must have.
            text: words, of which each must stand somewhere in the row; their number decides the order.
        """
        result = [row for row, name in enumerate(self.splits) if split in ("all", name)]
        if column and value:
            if column not in self.table.columns:
                raise DataError(self.table.name, "a column of the table", f"'{column}'", "choose another column")
            cells = self.table.column(column)
            result = [row for row in result if as_text(cells[row])[:120] == value]
        words = text.lower().split()
        if not words:
            return result
        lines = [""] * len(self.table)
        for name in self.texts:
            for row, cell in enumerate(self.table.column(name)):
                lines[row] += " \n" + as_text(cell).lower()
        scored = [(row, _frequency(lines[row], words)) for row in result]
        return [row for row, score in sorted(scored, key=lambda pair: -pair[1]) if score]

    def row_of(self) -> dict[Any, int]:
        """Image's value: the first row that has it."""
        if self.image is None:
            return {}
        result: dict[Any, int] = {}
        for row, value in enumerate(self.table.column(self.image)):
            result.setdefault(value, row)
        return result


def _frequency(line: str, words: Sequence[str]) -> float:
    """How often words stand in a text, for its length; 0 where one is missing."""
    counts = [line.count(word) for word in words]
    return 0.0 if 0 in counts else sum(1 + math.log(count) for count in counts) / math.sqrt(len(line))


def own_table(run: Path | None) -> Path | None:
    """The table a Run was trained from; None where there is none."""
    if run is None:
        return None
    try:
        path = Run(run).recipe.data.path
    except RebusError:
        return None
    return Path(path) if path and Path(path).is_file() else None


def open_book(path: Path, run: Path | None) -> Book:
    """Read a table, by the settings of the Run where it is the one that the Run was trained from.

    Raises:
        DataError: it cannot be read.
    """
    settings = recipe.Data(path=str(path))
    if run is not None:
        try:
            own = Run(run).recipe.data
        except RebusError:
            own = settings
        if own.path and Path(own.path).resolve() == path.resolve():
            settings = own.model_copy(update={"path": str(path)})
    return _read(settings.model_dump_json(), _stamp(path))


@lru_cache(maxsize=4)
def _read(settings: str, stamp: float) -> Book:
    data = recipe.Data.model_validate_json(settings)
    table = read_table(data)
    known = {name: kind for name, kind in data.kinds.items() if name in table.columns}
    kinds = infer_kinds(table, known)
    images = [name for name, kind in kinds.items() if kind == "image"]
    return Book(Path(str(data.path)), table, kinds, assign_splits(table, data.split, images, seed=0))


def _stamp(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError as error:
        raise DataError(path, "a table", f"'{error.strerror}'", "check the path") from error


def judged(book: Book, rows: Sequence[int], predictor: Predictor) -> dict[int, Mark]:
    """What the model says of at most ``JUDGED`` of these rows, spread over them, the worst mistake first.

    Raises:
        DataError: it predicts nothing, a column that it reads is missing, or no row can be judged.
    """
    task = predictor.task(None)
    source = rows_of(predictor, book.table, task)
    usable = []
    step = max(1, len(rows) // (JUDGED * 2))
    for row in rows[::step]:
        try:
            if not task.judgeable(source.values, row):
                continue
            source.image(row)
        except RebusError:  # an image that cannot be read shows as such in its card
            continue
        usable.append(row)
        if len(usable) == JUDGED:
            break
    if not usable:
        do = "choose other rows, or a Run that was trained on such a table"
        raise DataError(book.table.name, f"rows that the task '{task.name}' can be judged on", "none", do)
    message = source.predict(predictor, usable)
    right = task.right(source.values, usable, message)
    errors = task.answers == "number"  # in the column's unit, not shares
    order = sorted(
        range(len(usable)), key=lambda at: (-right[at] if errors else right[at], -(message[at].confidence or 0.0))
    )  # the surest mistake first
    return {
        usable[at]: Mark(
            answer_text(message[at].value),
            answer_text(task.truth(source.values, usable[at])),
            float(right[at]),
            message[at].confidence,
            not errors and bool(right[at] < 0.5),
        )
        for at in order
    }


def alike(book: Book, run: Path, query: str) -> list[int]:
    """Rows whose image is nearest to a text or to an image (the path of a file), by the Run's own vectors.

    Raises:
        RebusError: the model reads no such query, or the table has nothing that it can be compared with.
    """
    folder = Run.open(run).folder / FOLDER
    try:
        if load_index(folder, "").data != str(book.path.resolve()):
            folder = folder.with_name(
                f"{FOLDER}-{hashlib.blake2b(str(book.path.resolve()).encode(), digest_size=4).hexdigest()}"
            )
    except RunError:
        pass  # there is none yet
    kinds = {name: kind for name, kind in book.kinds.items() if kind == "image"}
    index_run(run, book.path, out=folder, kinds=kinds)
    known = book.row_of()
    hits = find_run(run, query, k=FOUND, index=folder, what="image")
    places = {book.table.where(row): row for row in known.values()}
    rows = [known.get(hit.name, places.get(hit.place)) for hit in hits]
    return [row for row in rows if row is not None]


def reads_words(predictor: Predictor) -> bool:
    """Whether texts and images share a space, so that images can be found by words."""
    return shared_space(predictor.model)
