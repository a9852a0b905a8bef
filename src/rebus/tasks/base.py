"""What a task is: the columns it needs, what it asks of the model, its loss, its predictions, its figures.

A task knows no model parts and no loops. It is fitted on a table's columns, then gives training items by row number.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rebus import recipe
from rebus.catalogue import Note
from rebus.data import declared, names
from rebus.data.declared import Columns, TaskColumns
from rebus.data.frame import Frame
from rebus.data.role_cells import role_values
from rebus.errors import DataError, RecipeError, nearest
from rebus.generation.sampling import Sampling
from rebus.models.features import Features as Image
from rebus.models.heads import HeadSpec
from rebus.notebook import html_table
from rebus.registry import Registry
from rebus.tasks.answer_view import AnswerView
from rebus.tasks.cells import answer_text, as_text, missing, pad_texts
from rebus.tasks.cuts import counting
from rebus.tasks.explanation import Example, Goal, Target, begin_example
from rebus.tasks.linear import Features
from rebus.tasks.metrics.intervals import Statistic, compare, figures
from rebus.tasks.session import Portion, Session
from rebus.tasks.text_processor import TextProcessor
from rebus.tasks.transformers_head import TransformersHead

Item = dict[str, NDArray[Any]]
Values = dict[str, Sequence[Any]]  # role: one value a row
ExampleKey = tuple[int, int, int]  # (seed, epoch, index of the example): what is random in training is a function of it


@dataclass(frozen=True)
class Prediction:
    """One answer.

    Attributes:
        value: text, label, list of labels or number, by the task.
        confidence: probability of the value, 0 to 1 (for text: the geometric mean over its tokens); None: the task
            says none.
        scores: label: probability, where the task has labels.
        extra: what the task's figures need beside the value, e.g. the vectors of two texts; not for people.
    """

    value: Any
    confidence: float | None = None
    scores: dict[str, float] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def _repr_html_(self) -> str:
        scores = sorted(self.scores.items(), key=lambda pair: -pair[1])[:5]
        others = ", ".join(f"{label} {share:.1%}" for label, share in scores)
        columns = {"value": str(self.value)}
        if self.confidence is not None:
            columns["confidence"] = f"{self.confidence:.1%}"
        if others:
            columns["scores"] = others
        return html_table(list(columns), [list(columns.values())])


@dataclass
class TaskScore:
    """A task's figures on some rows.

    Attributes:
        metrics: name: value.
        intervals: name: the 95% bootstrap interval, rows of one image resampled together.
        baseline: the naive predictor's figures under the same names.
        gains: name: (difference, low, high) against the baseline, paired over the same resamples.
        baseline_name: what that predictor is.
        by_type: type: {name: value}, where there is a type column.
        correct: one number a row, in the rows' order: 1 right, 0 wrong, or an error.
        others: another baseline's name: its figures under ``metrics``, and ``gains`` against it.
    """

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    baseline: dict[str, float] = field(default_factory=dict)
    gains: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    baseline_name: str = ""
    by_type: dict[str, dict[str, float]] = field(default_factory=dict)
    correct: list[float] = field(default_factory=list)
    others: dict[str, dict[str, Any]] = field(default_factory=dict)


class Task(TaskColumns, ABC):
    """The base of all tasks.

    Args:
        settings: the recipe's entry for the task, ``columns`` filled in.
    """

    watch: str  # the figure that says which of two models is better
    higher_is_better: ClassVar[bool] = True
    predicts: ClassVar[bool] = True  # whether it says something of a whole row
    suits: ClassVar[str] = "encoder"  # the text tower that learns it best from little text (docs/LOG.md)
    says_confidence: ClassVar[bool] = True  # whether its predictions have a confidence
    writes: ClassVar[bool] = False  # whether a decoder writes what it says
    inputs: ClassVar[tuple[str, ...]] = ("image",)  # roles that a prediction is made from
    specials: ClassVar[tuple[str, ...]] = ()  # special tokens that a tokenizer for it needs
    tower: ClassVar[str | None] = None  # the kind of text tower it needs
    has_places: ClassVar[bool] = False  # whether its items say where things are in the image
    either: ClassVar[tuple[str, ...]] = ()  # roles of which one is enough to predict from
    packs: ClassVar[bool] = False  # whether it learns from all rows of an image at once
    joins: ClassVar[bool] = True  # whether it reads what the fusion gives
    has_plain: ClassVar[bool] = False  # whether there is a plain model of it, see ``plain``
    reads_columns: ClassVar[bool] = False  # whether columns of numbers, categories and dates are inputs unless said
    question_role: ClassVar[str | None] = "text"  # the role that a question, or a text alone, is given as
    asked_with: ClassVar[Literal["question", "image"] | None] = None  # what makes it the task that people ask
    converses: ClassVar[bool] = False  # whether it reads turns of a conversation
    continues: ClassVar[bool] = False  # whether it goes on from a prompt as it is
    streams: ClassVar[bool] = False  # whether its answer is written token by token
    answers: ClassVar[Literal["label", "labels", "number", "text", "likeness", "vector", ""]] = ""  # what a value is
    pipelines: ClassVar[tuple[str, str]] = ("", "")  # what model hubs call it with images, and without
    compares: ClassVar[bool] = False  # whether its loss compares the rows of a batch, see ``contrast.Comparing``
    draws_negatives: bool = False  # whether its head draws wrong pairs from the batch
    mixes_targets: ClassVar[bool] = False  # whether its targets can be mixed as images are
    lays_prompts: ClassVar[bool] = False  # whether a text alone that is gone on from is laid out as its prompt
    lays_turns: ClassVar[bool] = False  # whether its texts may be laid out as turns
    reads_documents: ClassVar[bool] = False  # whether it learns from raw text without a table
    hides_words: ClassVar[bool] = False  # whether it guesses words that are hidden
    untrained: ClassVar[bool] = False  # whether a language model does it without having been trained for it
    explains: ClassVar[bool] = True  # whether there is an output for an image or a text to explain
    views: int = 1  # of each image in a training batch; 2: another one stands under ``views``
    on_tower: ClassVar[bool] = False  # whether its usual head is one linear layer on a tower's own vector

    def __init__(self, settings: recipe.TaskSettings) -> None:
        self.settings = settings
        unknown = [role for role in settings.columns if role not in self.roles]
        if unknown:
            raise RecipeError(
                f"task '{self.name}', columns",
                f"roles among {', '.join(self.roles)}",
                f"'{unknown[0]}'",
                "rename the role",
            )

    def transformers_head(self) -> TransformersHead | None:
        """The head of transformers' models that gives its answers; None: there is none."""
        return None

    def values(self, columns: Mapping[str, Sequence[Any]]) -> Values:
        """The task's own columns out of a table's, by role.

        Raises:
            DataError: a required column is not there.
        """
        result: Values = {}
        for role, wanted in self.roles.items():
            column = self.settings.columns.get(role)
            if column is not None and column in columns:
                result[role] = role_values(self.settings, role, columns[column])
            elif wanted.required:
                raise DataError(
                    where=f"task '{self.name}'",
                    expected=f"a column for '{role}' ({' or '.join(wanted.kinds)})",
                    found="none" if column is None else f"no column '{column}'; there are: {', '.join(columns)}",
                    do=f"name it with --set tasks.0.columns.{role}=COLUMN",
                )
        return result

    def fit(self, values: Values, rows: Sequence[int]) -> None:
        """Learn from the training rows what the task must know before it begins: labels, mean and spread."""

    def state(self) -> dict[str, Any]:
        """What ``fit`` learned, as JSON values."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave."""

    def usable(self, values: Values, row: int) -> bool:
        """Whether a row has what the task trains on."""
        return self.judgeable(values, row)

    def judgeable(self, values: Values, row: int) -> bool:
        """Whether a prediction for the row can be compared with a true value."""
        return all(not missing(values[role][row]) for role, wanted in self.roles.items() if wanted.required)

    @property
    def uses_image(self) -> bool:
        """Whether the task has an image column."""
        return "image" in self.settings.columns

    @abstractmethod
    def head(self, processor: TextProcessor) -> HeadSpec:
        """What the task asks of the model."""

    @abstractmethod
    def texts(self, values: Values, rows: Sequence[int]) -> list[str]:
        """All text of some rows, to train a tokenizer on."""

    def words(self) -> list[str]:
        """Words that the tokenizer should keep whole."""
        return []

    @abstractmethod
    def items(
        self, values: Values, rows: Sequence[int], processor: TextProcessor, key: ExampleKey | None
    ) -> list[Item]:
        """Training items of the rows that share one image.

        Args:
            values: the task's columns.
            rows: row numbers.
            processor: text to ids.
            key: (seed, epoch, index) that all chance is drawn from; None: no chance, every row.
        """

    def moved(self, items: list[Item], values: Values, rows: Sequence[int], frame: Frame) -> list[Item]:
        """The items of ``rows`` once their image was moved, for tasks with ``has_places``."""
        return items

    @abstractmethod
    def collate(self, items: list[Item], owner: list[int]) -> dict[str, Tensor]:
        """Items of a batch as tensors; ``owner`` (R,) is the position of each item's image."""

    @abstractmethod
    def loss(self, outputs: Tensor, part: dict[str, Tensor]) -> Tensor:
        """The mean loss of a batch, a scalar."""

    @abstractmethod
    def predict(
        self, session: Session, values: Values, portion: Portion, sampling: Sampling | None = None
    ) -> list[Prediction]:
        """What the model says of the portion's rows, one by one, in their order.

        Args:
            session: the model.
            values: the task's columns; what is to be predicted may be absent.
            portion: the rows, with their inputs.
            sampling: how texts are written; None: as the settings say.
        """

    def question_values(self, text: str, system: str | None = None) -> Values:
        """What a question, or a text alone, is given as; empty: the task reads none.

        Args:
            text: the question.
            system: what stands before it, for a task that converses.
        """
        return {self.question_role: [text]} if self.question_role in self.settings.columns else {}

    def question_sampling(self) -> Sampling | None:
        """How the answer to a single question is written; None: as in a table."""
        return None

    def explanation_targets(self, example: Example, target: Target) -> None:
        """Fill in what is explained of an example: its part, text, answer and goals.

        Raises:
            DataError: the target is none of the task's.
        """
        raise DataError("the explanation", "a task whose outputs are known", f"'{self.name}'", "name another task")

    def prompt(self, values: Values, row: int) -> str:
        """What a decoder is asked; nothing: it is asked nothing."""
        return ""

    def targets(self, values: Values, row: int) -> list[str]:
        """The texts that would be right, of a task that writes."""
        return []

    def asked_text(self, values: Values, row: int) -> str:
        """The text that the model is given with a row, for people."""
        text = self.prompt(values, row)
        return text if text or "text" not in values else as_text(values["text"][row])[:300]

    def tried(self, values: Values, rows: Sequence[int]) -> Values:
        """The columns with what each row is tried with beside its own, for judging the task on these rows."""
        return values

    def known_labels(self) -> list[str]:
        """The labels that it tells apart; none: its answers are no labels."""
        return []

    def answer_view(self, example: Example, outputs: Any, seen: Image | None) -> AnswerView:
        """What is shown of an example's answer.

        Args:
            example: with its goals.
            outputs: the head's, of the example.
            seen: what the image tower gave; None: there is no image.
        """
        return AnswerView("plain", {"answer": example.answer})

    @abstractmethod
    def statistics(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> dict[str, Statistic]:
        """Figures of predictions for ``rows``, as functions of the rows' weights."""

    @abstractmethod
    def naive(
        self, values: Values, rows: Sequence[int], known: Values, train_rows: Sequence[int]
    ) -> tuple[list[Prediction], str]:
        """What a predictor that never looks would say to ``rows``, and what it is called.

        Args:
            values: columns that hold ``rows``.
            rows: what it is asked.
            known: columns that hold ``train_rows``, which it has seen.
            train_rows: rows of ``known``.
        """

    def plain_text(self, values: Values, row: int) -> str | None:
        """The text that ``plain`` reads of a row; None: it reads none."""
        return None

    def plain(
        self, values: Values, rows: Sequence[int], known: Values, train_rows: Sequence[int], features: Features
    ) -> tuple[list[Prediction], str] | None:
        """What a plain model, fitted in seconds on ``features`` of ``train_rows``, says to ``rows``, and its name.

        Args:
            values: columns that hold ``rows``.
            rows: what it is asked.
            known: columns that hold ``train_rows``.
            train_rows: rows of ``known`` that it is fitted on.
            features: of ``plain_text`` and of the images, for ``train_rows`` and for ``rows``.

        Returns:
            None where these rows have nothing to fit it on.
        """
        return None

    @abstractmethod
    def right(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> NDArray[np.float64]:
        """How good each prediction is: 1 right, 0 wrong, or an error in the column's unit."""

    def types(self, values: Values, rows: Sequence[int]) -> list[str] | None:
        """The type of each row, where the task has a type column."""
        return None

    def unseen(self, values: Values, rows: Sequence[int]) -> Counter[str]:
        """Labels of these rows that training never saw, and how many rows hold each; they count as errors."""
        return Counter()

    def notes(self, values: Values, rows: Sequence[int], processor: TextProcessor) -> list[str]:
        """What people should know of the training rows: how many texts are cut, for one."""
        return []

    def remarks(self, predictions: Sequence[Prediction]) -> list[str]:
        """What is wrong with predictions for held-out rows as a whole, with advice."""
        return []

    def quick_score(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> dict[str, float]:
        """The figures alone, for watching a run."""
        return figures(self.statistics(values, rows, predictions), len(rows))

    def score(
        self,
        values: Values,
        rows: Sequence[int],
        predictions: list[Prediction],
        train_rows: Sequence[int],
        *,
        known: Values | None = None,
        n: int = 1000,
    ) -> TaskScore:
        """Figures with intervals from ``n`` resamples, beside the naive baseline.

        Args:
            values: columns that hold ``rows``.
            rows: what was predicted.
            predictions: one a row.
            train_rows: what the baseline may know; none: no baseline.
            known: columns that hold ``train_rows``; None: ``values``.
            n: resamples.

        Raises:
            DataError: there are no rows.
        """
        naive, name = self.naive(values, rows, known or values, train_rows) if train_rows else ([], "")
        return self.compared(values, rows, predictions, naive, name, n=n)

    def compared(
        self,
        values: Values,
        rows: Sequence[int],
        predictions: list[Prediction],
        naive: list[Prediction],
        name: str,
        *,
        n: int = 1000,
    ) -> TaskScore:
        """Figures of predictions beside those of a baseline of this name; ``naive`` [] where there is none."""
        baselines = self.statistics(values, rows, naive) if naive else None
        groups = [as_text(values["image"][row])[:512] for row in rows] if "image" in values else None
        comparison = compare(self.statistics(values, rows, predictions), baselines, len(rows), n=n, groups=groups)
        correct = self.right(values, rows, predictions)
        by_type: dict[str, dict[str, float]] = {}
        types = self.types(values, rows)
        for kind in sorted(set(types or [])):
            at = [place for place, other in enumerate(types or []) if other == kind]
            by_type[kind] = {"right": float(correct[at].mean()), "count": len(at)}
            if naive:
                by_type[kind]["baseline"] = float(
                    self.right(values, [rows[i] for i in at], [naive[i] for i in at]).mean()
                )
        return TaskScore(
            metrics={key: value.value.value for key, value in comparison.items()},
            intervals={key: (value.value.low, value.value.high) for key, value in comparison.items()},
            baseline={key: value.baseline.value for key, value in comparison.items() if value.baseline is not None},
            gains={
                key: (value.difference.value, value.difference.low, value.difference.high)
                for key, value in comparison.items()
                if value.difference is not None
            },
            baseline_name=name,
            by_type=by_type,
            correct=[float(x) for x in correct],
        )

    def shown(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> list[tuple[Any, Any, float]]:
        """What people are shown of each row: what the model says, what would be right, and how good that is.

        ``right`` says what the last is.
        """
        marks = self.right(values, rows, predictions)
        return [
            (prediction.value, self.truth(values, row), float(mark))
            for row, prediction, mark in zip(rows, predictions, marks, strict=True)
        ]

    def truth(self, values: Values, row: int) -> Any:
        """The right value of a row, as shown to people."""
        return values[next(role for role in reversed(self.roles) if self.roles[role].required)][row]


def cut_notes(task: Task, values: Values, rows: Sequence[int], processor: TextProcessor) -> list[str]:
    """How many of the rows that a text tower reads hold a text that is cut."""
    count = 0
    for row in rows:
        # A token is at least one byte long, so that most texts need not be looked at.
        long = [text for text in task.texts(values, [row]) if len(text.encode()) > processor.max_length - 8]
        with counting() as cuts:
            for text in long:
                processor.read(text)
        count += bool(cuts.texts)
    if not count:
        return []
    message = f"task {task.name}: {count} of {len(rows)} rows hold a text of more than {processor.max_length} tokens"
    return [f"{message}, of which the start is read; otherwise: --set text.max_length=TOKENS"]


class VectorTask(Task):
    """A task whose head gives C numbers an item: classify, tag, regress."""

    inputs = ("image", "text")
    needs_one: ClassVar[tuple[str, ...]] = ("image", "text")
    has_plain = True
    mixes_targets = True
    reads_columns = True

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.target_role is None and hasattr(cls, "roles"):
            cls.target_role = next((role for role, item in reversed(cls.roles.items()) if item.required), None)

    @classmethod
    def find_columns(cls, columns: Columns) -> Mapping[str, str | None]:
        """What is to be predicted, then the image and the text to predict it from."""
        taken = {cls.target_role: cls.find_target(columns)} if cls.target_role else {}
        others = cls.usual_columns(columns, {**taken, "image": None, "text": None})
        text = columns.text(*others.values()) if "text" in cls.roles else None
        return {**others, "image": columns.image if "image" in cls.roles else None, "text": text}

    @classmethod
    def find_target(cls, columns: Columns) -> str | None:
        """The column of what is to be predicted; none that is named as another role's."""
        role = cls.target_role or ""
        others = {name for other, value in cls.roles.items() if other != role for name in (other, *value.names)}
        target = cls.roles[role]
        column = columns.named((role,), *target.kinds) or columns.target(target)
        return None if column is not None and names.named(column, tuple(others)) else column

    def notes(self, values: Values, rows: Sequence[int], processor: TextProcessor) -> list[str]:
        """How many texts are cut."""
        return [*super().notes(values, rows, processor), *cut_notes(self, values, rows, processor)]

    def plain_text(self, values: Values, row: int) -> str | None:
        """The text column's."""
        if "text" not in values:
            return None
        return "" if missing(values["text"][row]) else as_text(values["text"][row])

    @abstractmethod
    def target(self, values: Values, row: int) -> NDArray[Any]:
        """What the head should give, as an array."""

    def soft(self, target: NDArray[Any]) -> NDArray[np.float32]:
        """A target as numbers that can be mixed with another row's; the loss takes it too."""
        return np.asarray(target, dtype=np.float32)

    def output_names(self) -> list[str]:
        """What each of the head's C numbers stands for, by which an explanation names and chooses one.

        None: one number, or numbers without names.
        """
        return []

    @abstractmethod
    def decode(self, outputs: Tensor) -> list[Prediction]:
        """(R, C) -> R predictions."""

    def predict(
        self, session: Session, values: Values, portion: Portion, sampling: Sampling | None = None
    ) -> list[Prediction]:
        """All rows in one pass."""
        part = self.collate(self.items(values, portion.rows, session.processor, None), portion.owner.tolist())
        return self.decode(session.outputs(self.name, part, portion.batch))

    def explanation_targets(self, example: Example, target: Target) -> None:
        """One of the head's numbers."""
        text = as_text(example.values.get("text", [""])[0]) if "text" in self.settings.columns else None
        begin_example(example, text)
        logits = example.run().float()[0]  # (C,)
        example.answer = answer_text(self.decode(logits[None])[0].value)
        goal, example.measure = self.goal(logits, target)
        example.goals = [goal]

    def goal(self, logits: Tensor, target: Target) -> tuple[Goal, Callable[[Tensor], Tensor]]:
        """The number that is explained, the named one or else the largest, and how outputs (N, C) give it, (N, 1)."""
        known = self.output_names() or [str(number + 1) for number in range(len(logits))]
        if target is not None and str(target) not in known:
            do = nearest(str(target), known)
            raise DataError("the target", f"an output of task '{self.name}'", f"'{target}'", do)
        number = int(logits.argmax()) if target is None else known.index(str(target))
        goal = Goal(Note("target.output", name=known[number], task=self.name), float(logits[number]))
        return goal, lambda outputs: outputs.float()[:, number : number + 1]

    def answer_view(self, example: Example, outputs: Any, seen: Image | None) -> AnswerView:
        """The head's numbers by their names."""
        logits = outputs.detach().float()[0]  # (C,)
        names = self.output_names() or [str(number + 1) for number in range(len(logits))]
        facts = {
            "answer": example.answer,
            "values": ", ".join(f"{n} {float(x):.4g}" for n, x in zip(names, logits, strict=True)),
        }
        return AnswerView("outputs", facts, {"logits": ("(R, C)", outputs)})

    def reads(self) -> tuple[str, ...]:
        """The modalities the task has columns for; others are read as ``data.inputs`` says."""
        return tuple(role for role in ("image", "text") if role in self.settings.columns)

    def texts(self, values: Values, rows: Sequence[int]) -> list[str]:
        """The text column's."""
        if "text" not in values:
            return []
        return [as_text(values["text"][row]) for row in rows if not missing(values["text"][row])]

    def items(
        self, values: Values, rows: Sequence[int], processor: TextProcessor, key: ExampleKey | None
    ) -> list[Item]:
        """One item a row."""
        items: list[Item] = []
        for row in rows:
            if key is not None and not self.usable(values, row):
                continue
            item: Item = {"target": self.target(values, row)} if key is not None else {}
            if "text" in values:
                item["text_ids"] = np.asarray(processor.read(as_text(values["text"][row])), dtype=np.int64)
                item["has_text"] = np.asarray(not missing(values["text"][row]))
            items.append(item)
        return items

    def collate(self, items: list[Item], owner: list[int]) -> dict[str, Tensor]:
        """Pad texts; stack targets."""
        part = {"owner": torch.tensor(owner, dtype=torch.long)}
        if items and "target" in items[0]:
            part["target"] = torch.from_numpy(np.stack([item["target"] for item in items]))
        if items and "text_ids" in items[0]:
            part["text_ids"], part["text_mask"] = pad_texts([item["text_ids"] for item in items])
            part["text_mask"] &= torch.tensor([bool(item["has_text"]) for item in items])[:, None]
        return part


TASKS = cast(Registry[type[Task]], declared.TASKS)
