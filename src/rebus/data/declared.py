"""What a task declares of tables: which columns it reads, which tables suit it, what is wrong with a row.

Tasks lie in a room above and are found by their names in ``TASKS``. Nothing below that room knows a task by name, so
that a task of another package gets its columns found and its rows checked as ours do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from rebus.data import names
from rebus.data.table import Table
from rebus.errors import DataError
from rebus.recipe import KINDS, Kind, TaskSettings
from rebus.registry import Registry

Reads = Literal["text", "data", "number", "label", "labels", "boxes", "tags", "yes", "raw"]
_READ_AS: dict[Kind, Reads] = {
    "category": "label",
    "number": "number",
    "labels": "labels",
    "image": "data",
    "boxes": "boxes",
    "tags": "tags",
    "messages": "raw",
}
SHORT: tuple[Kind, ...] = ("text", "category")
WRITTEN: tuple[Kind, ...] = ("text", "category", "number", "labels")  # what may be an answer


@dataclass(frozen=True)
class Role:
    """A column that a task reads.

    Attributes:
        kinds: the kinds of column that fit, the most usual first.
        required: whether the task cannot do without.
        names: what such a column is usually called, beside the role's own name.
        reads: what a cell is taken as: ``text``; ``data``, such as a path; a ``number``; a ``label`` or several;
            ``boxes``; ``tags``; ``yes`` or no; ``raw``, as it is. None: as the first of the kinds is.
        several: whether a cell may hold several texts, in a list.
        lists: whether each cell that is written as a list is one.
        learned: whether it is a text that the model learns to write.
    """

    kinds: tuple[Kind, ...]
    required: bool = True
    names: tuple[str, ...] = ()
    reads: Reads | None = None
    several: bool = False
    lists: bool = False
    learned: bool = False

    @property
    def cells(self) -> Reads:
        """What a cell is taken as."""
        return self.reads or _READ_AS.get(self.kinds[0], "text")


IMAGE = Role(("image",), required=False, names=names.IMAGE)
TYPE = Role(("category", "text", "ignore"), required=False, names=names.TYPE, reads="data")
TEXT = Role(SHORT, required=False, names=(*names.TEXT, *names.CAPTION))


class Columns:
    """Columns by kind, and the one that best fits a role.

    Args:
        columns: names, in the table's order.
        kinds: column: kind.
        inside: (answers' column, passages' column) -> whether the answers stand in the passages; None: not known.
    """

    def __init__(
        self, columns: Sequence[str], kinds: Mapping[str, Kind], inside: Callable[[str, str], bool] | None = None
    ) -> None:
        self.all = list(columns)
        self.kinds = dict(kinds)
        self.inside = inside or (lambda answers, passages: True)

    def of(self, *kinds: Kind) -> list[str]:
        """Columns of these kinds."""
        return [name for name in self.all if self.kinds.get(name) in kinds]

    def named(self, words: tuple[str, ...], *kinds: Kind, without: Iterable[str | None] = ()) -> str | None:
        """The column of these kinds (none: of any kind) that one of the words names, but for those ``without``."""
        taken = set(without)
        return names.first_named(
            [name for name in (self.of(*kinds) if kinds else self.all) if name not in taken], words
        )

    @property
    def readable(self) -> bool:
        """Whether there is something to predict from: an image, a text, another package's input, or columns beside that
        of the target.
        """
        plugin = not {*self.kinds.values()} <= {*KINDS}
        return self.image is not None or bool(self.of("text")) or plugin or self.alone

    @property
    def alone(self) -> bool:
        """Whether there are numbers, categories and dates alone, two columns or more."""
        others = [name for name in self.learnable if self.kinds[name] not in ("number", "category", "date", "labels")]
        return not others and len(self.learnable) > 1

    def is_last(self, kind: Kind) -> bool:
        """Whether the last column, the usual place of what is to be predicted, is of this kind."""
        return bool(self.learnable) and self.kinds[self.learnable[-1]] == kind

    @property
    def learnable(self) -> list[str]:
        """Columns that are not left out."""
        return [name for name in self.all if self.kinds.get(name) != "ignore"]

    @property
    def image(self) -> str | None:
        """The image column; the best named one of several."""
        return self.named(names.IMAGE, "image") or next(iter(self.of("image")), None)

    @property
    def question(self) -> str | None:
        """The question column, by its name."""
        return self.named(names.QUESTION, *SHORT)

    @property
    def answer(self) -> str | None:
        """The answer column, by its name."""
        return self.named(names.ANSWER, *WRITTEN)

    @property
    def caption(self) -> str | None:
        """The text that describes the image."""
        asked = [name for name in self.all if names.named(name, names.QUESTION)]  # a question describes no image
        return self.named(names.CAPTION, *SHORT) or self.text(*asked)

    def text(self, *taken: str | None) -> str | None:
        """The text to read, leaving out columns that play another role."""
        free = [name for name in self.of("text") if name not in taken]
        return names.first_named(free, (*names.TEXT, *names.CAPTION)) or next(iter(free), None)

    def output(self, *taken: str | None) -> str | None:
        """The text to be written, by its name, leaving out columns that play another role."""
        words = (*names.OUTPUT, "target", "labels", "summary", "摘要", *names.CHOSEN)
        return self.named(words, *WRITTEN, without=taken)

    def about_passage(self) -> dict[str, str]:
        """A question, a passage and an answer, by their names; empty where one is not there."""
        question, answer, passage = self.question, self.answer, self.named(names.PASSAGE, "text")
        if not (question and answer and passage) or passage in (question, answer):
            return {}
        return {"question": question, "passage": passage, "answer": answer}

    def target(self, role: Role) -> str | None:
        """What is to be predicted: by its name, else the last column (its usual place) of the most usual kind."""
        usual, *others = role.kinds
        column = self.named(role.names, usual) or next(reversed(self.of(usual)), None)
        return column or (self.named(role.names, *others) if others else None)


@dataclass
class RowCells:
    """A table's cells as a task reads them.

    Attributes:
        table: the rows.
        task: the task's settings, columns filled in.
        values: role: one value a row.
        notes: how the table was read, where that is not plain; a checker may add some.
        warnings: what a person should look at; a checker may add some.
    """

    table: Table
    task: TaskSettings
    values: Mapping[str, Sequence[Any]]
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def where(self, row: int, role: str) -> str:
        """A cell's place, for people."""
        return f"{self.table.where(row)}, column '{self.task.columns[role]}'"

    def written(self, row: int, role: str) -> Any:
        """A cell as the table holds it."""
        return self.table.value(row, self.task.columns[role])

    def error(self, row: int, role: str, expected: str, received: str, do: str) -> DataError:
        """What is wrong with a cell."""
        return DataError(self.where(row, role), expected, received, do)


Checker = Callable[[int], DataError | None]  # row number -> what is wrong with the row


class TaskColumns:
    """What a task declares of the tables that it learns from."""

    name: ClassVar[str]
    roles: ClassVar[dict[str, Role]]
    target_role: ClassVar[str | None] = None  # what is to be predicted; a row that lacks only this is unlabelled
    needs_one: ClassVar[tuple[str, ...]] = ()  # roles of which a row needs one
    row_content: ClassVar[str] = ""  # what a row should hold, where that is more than a value
    last_resort: ClassVar[bool] = False  # whether it is suggested only because nothing else fits

    @classmethod
    def suggestion(cls, columns: Columns) -> tuple[int, str] | None:
        """Its turn among the tasks that the columns suggest, the lowest first, and why; None: they do not."""
        return None

    @classmethod
    def find_columns(cls, columns: Columns) -> Mapping[str, str | None]:
        """Role: column: by its usual names, else the first column left of a kind that fits."""
        return cls.usual_columns(columns, {})

    @classmethod
    def usual_columns(cls, columns: Columns, taken: Mapping[str, str | None]) -> dict[str, str | None]:
        """The rule of ``find_columns`` for the roles that are not ``taken`` yet."""
        chosen = dict(taken)
        for by_name in (True, False):
            for role, wanted in cls.roles.items():
                if chosen.get(role) is None and (by_name or wanted.required) and role not in taken:
                    words = (role, *wanted.names)
                    free = [name for name in columns.of(*wanted.kinds) if name not in chosen.values()]
                    chosen[role] = names.first_named(free, words) if by_name else next(iter(free), None)
        return {role: chosen.get(role) for role in cls.roles}

    @classmethod
    def needed_roles(cls, columns: Collection[str]) -> tuple[str, ...]:
        """Roles without which a row is of no use, where these roles have columns."""
        return tuple(role for role, wanted in cls.roles.items() if wanted.required)

    @classmethod
    def lacking(cls, columns: Collection[str]) -> str | None:
        """What is needed one way or another, where there is neither."""
        return None

    @classmethod
    def checker(cls, cells: RowCells) -> Checker:
        """What finds a value that is wrong, beside what its role's kind says; made once for a table."""
        return lambda row: None


TASKS: Registry[type[TaskColumns]] = Registry("task", needs=("name", "roles", "watch"), home="rebus.tasks")


def declared(task: str) -> type[TaskColumns]:
    """What a task declares. Raises RecipeError: there is no such task."""
    return TASKS.get(task)


def role_of(task: TaskSettings, role: str) -> Role:
    """A role of a task; one that the task does not know holds texts."""
    return declared(task.name).roles.get(role, Role(SHORT, required=False))
