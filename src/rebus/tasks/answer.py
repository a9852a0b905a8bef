"""``answer``: an image and a question in, words out (visual question answering). Or questions alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rebus.catalogue import Note
from rebus.data import names
from rebus.data.declared import IMAGE, SHORT, TYPE, WRITTEN, Columns, Role
from rebus.data.messages import without_marks
from rebus.tasks.base import TASKS, Prediction, Values
from rebus.tasks.baselines import most_frequent_answer
from rebus.tasks.cells import as_text
from rebus.tasks.metrics.answers import answer_scores, answer_statistics
from rebus.tasks.metrics.intervals import Statistic
from rebus.tasks.writing import WritingTask


@TASKS.register("answer")
class Answer(WritingTask):
    """Columns: ``image``, ``question``, ``answer`` (one text, or several right ones), ``type`` of question."""

    name = "answer"
    pipelines = ("visual-question-answering", "text-generation")
    untrained = True
    roles: ClassVar[dict[str, Role]] = {
        "image": IMAGE,
        "question": Role(SHORT, names=names.QUESTION),
        "answer": Role(WRITTEN, names=names.ANSWER, several=True, learned=True),
        "type": TYPE,
    }
    target_role = "answer"
    inputs = ("image", "question")
    question_role = "question"
    asked_with = "question"
    watch = "exact_match"
    has_plain = True

    @classmethod
    def suggestion(cls, columns: Columns) -> tuple[int, str] | None:
        """A question and an answer."""
        return (50, Note("reason.a_question_and_an")) if columns.question and columns.answer else None

    @classmethod
    def find_columns(cls, columns: Columns) -> dict[str, str | None]:
        """By their names."""
        question, answer = columns.question, columns.answer
        return {"image": columns.image, "question": question, "answer": answer, "type": columns.named(names.TYPE)}

    def prompt(self, values: Values, row: int) -> str:
        """The question, unless the settings hide it from the model."""
        question = "" if "question" in self.settings.unseen else as_text(values["question"][row])
        return without_marks(question) if "image" in values else question

    def statistics(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> dict[str, Statistic]:
        """Exact match and VQA soft accuracy, overall and as the mean over types."""
        return answer_statistics(*self.texts_and_truths(values, rows, predictions), self.types(values, rows))

    def right(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> NDArray[np.float64]:
        """Exact match."""
        return answer_scores(*self.texts_and_truths(values, rows, predictions))

    def naive(
        self, values: Values, rows: Sequence[int], known: Values, train_rows: Sequence[int]
    ) -> tuple[list[Prediction], str]:
        """The most frequent training answer to the same question."""
        train_rows = [row for row in train_rows if self.targets(known, row)]
        message = most_frequent_answer(
            [as_text(known["question"][row]) for row in train_rows],
            [self.targets(known, row)[0] for row in train_rows],
            [as_text(values["question"][row]) for row in rows],
            types=self.types(values, rows),
            train_types=self.types(known, train_rows),
        )
        return [Prediction(text) for text in message], "most frequent answer per question"
