"""From a recipe to everything a run needs to know of its data: fail here, before any work, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rebus import recipe as settings
from rebus.checkpoints.hf_dual import settle_like
from rebus.checkpoints.hf_save_heads import settle_head
from rebus.data import jpeg
from rebus.data.check import CheckReport, check_table
from rebus.data.kinds import Inference, infer, kinds_told
from rebus.data.readers import read_table
from rebus.data.role_cells import settled
from rebus.data.splits import assign_splits
from rebus.data.store import ImageStore
from rebus.data.table import Table
from rebus.errors import DataError, RecipeError
from rebus.models.fusion import FUSIONS
from rebus.models.towers import TOWERS, tower_kinds
from rebus.resolve.augmentation import settle_changes
from rebus.resolve.inline import settle_inline
from rebus.resolve.pretrain_image import settle_images
from rebus.resolve.tune import usual_epochs
from rebus.tasks import TASKS, Task
from rebus.tasks.base import Values, VectorTask
from rebus.tasks.reading import WordsTask
from rebus.tasks.retrieve import PairTask

Log = Callable[[str], None]
ENOUGH_TEXTS = 40_000  # texts seen, some again and again, after which learning to classify them gains no more


@dataclass
class Prepared:
    """A recipe met with its data.

    Attributes:
        recipe: resolved, no blank left where the run needs a value.
        table: the rows.
        inference: what was inferred, with notes for people.
        report: what the check found.
        splits: train, valid or test for each row; "left out" for a broken row that was skipped.
        tasks: name: task, fitted on the training rows.
        values: name: the task's columns.
    """

    recipe: settings.Recipe
    table: Table
    inference: Inference
    report: CheckReport
    splits: list[str]
    tasks: dict[str, Task]
    values: dict[str, Values]

    def rows(self, split: str, task: Task | None = None) -> list[int]:
        """Row numbers of a split; with a task, those that hold what it needs."""
        chosen = [row for row, name in enumerate(self.splits) if name == split]
        if task is None:
            return chosen
        values = self.values[task.name]
        return [row for row in chosen if task.usable(values, row)]

    def training_rows(self) -> list[int]:
        """Training rows that at least one task can use."""
        return [
            row
            for row in self.rows("train")
            if any(task.usable(self.values[name], row) for name, task in self.tasks.items())
        ]

    @property
    def image_column(self) -> str | None:
        """The image column, None where no task sees images."""
        if self.recipe.model.image.kind == "none":
            return None
        return shared_image_column(self.recipe.tasks)

    def images(self) -> ImageStore | None:
        """Decoded images by row."""
        column = self.image_column
        return None if column is None else open_store(self.table, column, self.recipe)

    def shared(self) -> Sequence[object] | None:
        """The image column, by which rows are gathered for one pass; None where the model sees no images."""
        column = self.image_column
        return None if column is None else self.table.values(column)

    def texts(self) -> list[str]:
        """All text of the training rows, to train a tokenizer on."""
        rows = self.rows("train")
        found: list[str] = []
        for name, task in self.tasks.items():
            found.extend(task.texts(self.values[name], [row for row in rows if task.usable(self.values[name], row)]))
        return found

    def words(self) -> list[str]:
        """Words that the tokenizer should keep whole: the names of things in images."""
        return [word for task in self.tasks.values() for word in task.words()]


@dataclass(frozen=True)
class Checked:
    """A table that was read and checked, before anything is refused.

    Attributes:
        recipe: with the table's kinds and tasks; no task where none was found, which ``report.errors`` says.
        table: its rows.
        inference: what its columns hold and which tasks suit them.
        report: what is in it and what is wrong with it.
        splits: train, valid or test, one a row.
    """

    recipe: settings.Recipe
    table: Table
    inference: Inference
    report: CheckReport
    splits: list[str]


def check_data(recipe: settings.Recipe) -> Checked:
    """Read, infer, split and check the table that a recipe names: the first half of ``prepare``.

    Raises:
        DataError: the table cannot be read. RecipeError: a setting does not fit it.
    """
    if not recipe.data.path:
        raise RecipeError("data.path", "a table or a folder", "nothing", "name it: rebus train DATA")
    for entry in recipe.tasks:
        TASKS.get(entry.name)  # a misspelt name is refused first; a plug-in declares its columns
    table = read_table(recipe.data)
    given = {task.name: task.columns for task in recipe.tasks}
    inference = infer(table, kinds_told(recipe.data), list(given), given)
    recipe = recipe.model_copy(deep=True)
    recipe.data.path = str(Path(recipe.data.path).resolve())
    recipe.data.kinds = dict(inference.kinds)
    refusal = None
    try:
        recipe.tasks = settled(filled(recipe.tasks, inference), table, recipe.data)
    except DataError as error:
        refusal = error
    images = [column for column, kind in inference.kinds.items() if kind == "image"]
    splits = assign_splits(table, recipe.data.split, images, seed=0)
    report = check_table(table, recipe.data, inference.kinds, recipe.tasks, splits if refusal is None else ())
    report.warnings += inference.warnings
    if refusal is not None:
        report.errors.insert(0, refusal)
    return Checked(recipe, table, inference, report, splits)


def prepare(recipe: settings.Recipe, log: Log) -> Prepared:
    """Read, infer, check, split, fit.

    Raises:
        DataError: the data cannot be trained on; RecipeError: the recipe does not fit it.
    """
    checked = check_data(recipe)
    for note in (*checked.report.notes, *checked.inference.notes):
        log(note)
    return fit_tasks(checked, log)


def fit_tasks(checked: Checked, log: Log) -> Prepared:
    """The second half of ``prepare``: refuse or leave out rows, fit tasks, fill in what the recipe leaves open.

    Raises:
        DataError: the data cannot be trained on; RecipeError: the recipe does not fit it.
    """
    table, inference, report = checked.table, checked.inference, checked.report
    left_out = refuse_or_count(report, checked.recipe.data, log)
    recipe = checked.recipe.model_copy(deep=True)
    splits = ["left out" if row in left_out else name for row, name in enumerate(checked.splits)]
    columns = {name: table.values(name) for name in table.columns}
    tasks: dict[str, Task] = {}
    values: dict[str, Values] = {}
    training = [row for row, name in enumerate(splits) if name == "train"]
    for entry in recipe.tasks:
        task = TASKS.get(entry.name)(entry)
        values[task.name] = task.values(columns)
        if not training:
            raise DataError(
                recipe.data.path, "rows to train on", "none in the split 'train'", "lower data.split.valid and test"
            )
        task.fit(values[task.name], training)
        tasks[task.name] = task
    settle_like(recipe)
    found = [survey.levels for survey in report.images if survey.levels is not None]
    if recipe.data.levels is None and found:
        recipe.data.levels = min(low for low, _ in found), max(high for _, high in found)
    settle_images(recipe, len(training), log)
    resolve_model(recipe, len(training), log)
    settle_changes(recipe, tasks, values, training, log)
    if shared_image_column(recipe.tasks) is not None:
        recipe.data.jpeg = jpeg.settled(recipe.data.jpeg)  # decoders may differ by a level: a resume keeps its own
    prepared = Prepared(recipe, table, inference, report, splits, tasks, values)
    if not prepared.training_rows():
        raise DataError(recipe.data.path, "training rows that a task can use", "none", "run: rebus data check")
    return prepared


def filled(tasks: list[settings.TaskSettings], inference: Inference) -> list[settings.TaskSettings]:
    """The recipe's tasks with inferred columns where it names none; the inferred tasks where it has no task."""
    if not tasks:
        if inference.refusal is not None:
            raise inference.refusal
        if not inference.tasks:
            raise DataError(
                where="the table",
                expected="columns that a task can be found from",
                found=", ".join(f"{column} ({kind})" for column, kind in inference.kinds.items()) or "no column",
                do=_remedy(inference),
            )
        return inference.tasks
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise RecipeError("tasks", "each task once", ", ".join(names), "merge the two entries of the same name")
    guessed = {task.name: task.columns for task in inference.tasks}
    return [
        task.model_copy(update={"columns": {**guessed.get(task.name, {}), **task.columns}}, deep=True) for task in tasks
    ]


def _remedy(inference: Inference) -> str:
    """What to do where no task was found: a table of numbers and classes alone has nothing that a model reads."""
    if set(inference.kinds.values()) <= {"number", "category", "labels", "ignore"}:
        return (
            "models learn from images, texts and conversations, not from numbers and classes alone: add such a "
            "column, or say which one is: --kind COLUMN=text"
        )
    return "name the task and its columns: --task classify --set tasks.0.columns.label=COLUMN"


def refuse_or_count(report: CheckReport, data: settings.Data, log: Log) -> set[int]:
    """Stop at broken rows, or leave them out and say how many.

    Raises:
        DataError: there are errors that leaving rows out does not cure, or broken rows while ``on_bad`` is refuse.
    """
    if report.errors:
        raise report.errors[0]
    if report.bad_rows and data.on_bad == "refuse":
        first = report.bad_rows[min(report.bad_rows)]
        raise DataError(
            where=first.where,
            expected=first.expected,
            found=f"{first.found} ({len(report.bad_rows)} broken rows in all; `rebus data check` lists them)",
            do=f"{first.do}; or leave such rows out and have them counted with --set data.on_bad=skip",
        )
    for line in report.unused.lines():
        log(f"not used: {line}")
    for warning in report.warnings:
        log(f"warning: {warning}")
    if report.bad_rows:
        log(f"left out {len(report.bad_rows)} broken rows of {report.rows}; `rebus data check` lists them")
    return {*report.bad_rows, *report.unlabelled}


def open_store(table: Table, column: str, recipe: settings.Recipe) -> ImageStore:
    """A column's images, as the recipe says they are decoded and fitted."""
    data, image = recipe.data, recipe.image
    return ImageStore(
        table,
        column,
        size=image.size,
        fit=image.fit,
        background=data.background,
        pixel_budget=data.pixel_budget,
        cache_mb=data.cache_mb // (data.workers + 1) if data.workers else data.cache_mb,  # each process keeps its own
        resample=image.resample,
        edge=image.edge,
        jpeg=data.jpeg,
        levels=data.levels,
    )


def shared_image_column(tasks: Sequence[settings.TaskSettings]) -> str | None:
    """The one image column that all tasks share.

    Raises:
        RecipeError: two tasks name different ones.
    """
    found = {task.columns["image"] for task in tasks if "image" in task.columns}
    if len(found) > 1:
        raise RecipeError("tasks", "one image column for all tasks", ", ".join(sorted(found)), "train them apart")
    return next(iter(found), None)


def resolve_model(recipe: settings.Recipe, rows: int, log: Log = lambda _: None) -> None:
    """Choose what the recipe leaves at ``auto``, in place.

    Args:
        recipe: met with its columns.
        rows: to train on.
        log: prints a line for people.

    Raises:
        RecipeError: the model reads nothing that the tasks have.
    """
    model = recipe.model
    blind = (
        [entry.name for entry in recipe.tasks if entry.name == "patch_classify"] if model.image.kind == "none" else []
    )
    if blind:
        raise RecipeError(
            "model.image.kind", "an image tower, which the task 'patch_classify' is for", "'none'", "set convnet or vit"
        )
    check_pairs(model, [TASKS.get(entry.name) for entry in recipe.tasks])
    sees = shared_image_column(recipe.tasks) is not None
    if model.image.kind == "auto":
        model.image.kind = "convnet" if sees else "none"
    kinds = [TASKS.get(entry.name) for entry in recipe.tasks]
    writes = any(kind.writes for kind in kinds)
    reads = any(
        set(kind.inputs) - {"image"} & set(entry.columns)
        for kind, entry in zip(kinds, recipe.tasks, strict=True)
        if not kind.writes
    )
    if model.text.kind == "auto":
        choose_text_tower(model.text, kinds, writes=writes, sees=sees)
    if recipe.text.segment == "auto" and any(issubclass(kind, WordsTask) for kind in kinds):
        recipe.text.segment = "none"  # spans begin and end at any character
    for kind in kinds:
        if kind.tower is not None and model.text.kind != kind.tower:
            expected = f"{kind.tower}, which the task '{kind.name}' is for"
            raise RecipeError("model.text.kind", expected, f"'{model.text.kind}'", "set it so, or train them apart")
    if model.fusion.kind != "none":
        FUSIONS.get(model.fusion.kind)
    if (reads and not writes and not sees) or not any(kind.joins for kind in kinds):  # there is nothing to join
        model.fusion.kind = "none"
    settle_head(recipe, kinds, reads=reads or writes)
    check_towers(model)
    settle_inline(recipe, log)
    if model.image.kind == "none" and not reads and not writes:
        raise RecipeError(
            "model.image.kind",
            "an image tower, as the tasks have no text column",
            "'none'",
            "set it to convnet or vit",
        )
    if model.text.kind == "none" and model.image.kind == "none" and not writes:
        raise RecipeError("model.text.kind", "a tower that reads the text", "'none'", "set it to decoder or encoder")
    train = recipe.train
    if train.steps is None and train.epochs is None and train.time_limit is None:
        train.epochs = usual_epochs(recipe)
        if recipe.base is None and not sees and all(issubclass(kind, VectorTask) for kind in kinds):
            # a class of a text is soon learned, and then the texts by heart (docs/LOG.md)
            train.epochs = min(train.epochs, max(3.0, round(ENOUGH_TEXTS / max(rows, 1), 1)))


def choose_text_tower(text: settings.Tower, kinds: Sequence[type[Task]], *, writes: bool, sees: bool) -> None:
    """Fill in a text tower that is left at ``auto``, in place; what somebody said of it stays."""
    needed = next((kind.tower for kind in kinds if kind.tower is not None), None)
    by_word = any(issubclass(kind, WordsTask) for kind in kinds)  # a word's tag depends on what follows it too
    if needed or writes or (sees and not by_word):
        text.kind = needed or "decoder"
        return
    text.kind = "encoder" if sees else kinds[0].suits
    said = text.model_fields_set
    if "dropout" not in said:  # texts to be read are few and soon known by heart
        text.dropout = 0.1
    if text.kind == "recurrent" and "depth" not in said:
        text.depth = 2


def check_pairs(model: settings.Model, kinds: Sequence[type[Task]]) -> None:
    """Refuse to do without a tower that a task on images with texts reads. Raises RecipeError."""
    task = next((kind.name for kind in kinds if issubclass(kind, PairTask)), None)
    for name, kind, do in (
        ("image", model.image.kind, "set it to convnet or vit"),
        ("text", model.text.kind, "set it to decoder, encoder, recurrent or wordvectors"),
    ):
        if task is not None and kind == "none":
            raise RecipeError(f"model.{name}.kind", f"a {name} tower, which the task '{task}' is for", "'none'", do)


def check_towers(model: settings.Model) -> None:
    """Refuse a kind that no tower has, and a tower of another modality. Raises RecipeError."""
    for name, kind in (("image", model.image.kind), ("text", model.text.kind)):
        if kind != "none" and TOWERS.get(kind).modality != name:
            do = f"choose {', '.join(tower_kinds(name))}"
            raise RecipeError(f"model.{name}.kind", f"a tower that reads a {name}", f"'{kind}'", do)
