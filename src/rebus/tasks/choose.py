"""``choose``: a question with choices; the likeliest choice is the answer, whether or not the model was trained on any.

It is trained to write the right choice, and predicts by how likely the decoder finds each of them: a longer choice is
less likely for its length alone, so that what is said is the likeliest by byte (Brown et al. 2020, "Language Models are
Few-Shot Learners", section 2.4, normalise by token; bytes make tokenizers comparable).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rebus.catalogue import Note
from rebus.data import names
from rebus.data.choices import LETTERS, AnswerStyle, row_choices, wrong_choices
from rebus.data.declared import SHORT, TYPE, WRITTEN, Checker, Columns, Role, RowCells
from rebus.errors import DataError, nearest
from rebus.generation.sampling import Sampling
from rebus.generation.score import score
from rebus.tasks import layout
from rebus.tasks.base import TASKS, Prediction, Values
from rebus.tasks.cells import as_text, missing
from rebus.tasks.explanation import Example, Target
from rebus.tasks.metrics.intervals import Statistic, mean_of
from rebus.tasks.session import Portion, Session
from rebus.tasks.text_processor import TextProcessor
from rebus.tasks.writing import WritingTask


@TASKS.register("choose")
class Choose(WritingTask):
    """Columns: ``question``, ``choices`` (or ``A``, ``B``, ... one each), ``answer``, perhaps ``context`` and ``type``.

    The answer is the right choice's text, its letter or its number, from 0 or from 1.
    """

    name = "choose"
    pipelines = ("visual-question-answering", "multiple-choice")
    untrained = True
    lays_turns = False
    roles: ClassVar[dict[str, Role]] = {
        "context": Role(SHORT, required=False, names=names.PASSAGE),
        "question": Role(SHORT, names=names.ASKED),
        "choices": Role(("labels", "text", "category"), required=False, names=names.CHOICES, reads="text", lists=True),
        **{letter: Role(("text", "category", "number"), required=False) for letter in LETTERS},
        "answer": Role(WRITTEN, names=names.RIGHT_CHOICE, reads="data", learned=True),
        "type": TYPE,
    }
    target_role = "answer"
    watch = "accuracy_norm"
    blind_baseline = True
    question_role = "question"
    streams = False
    answer_key = "target.choice"
    inputs: ClassVar[tuple[str, ...]] = ("context", "question", "choices", *LETTERS)

    @classmethod
    def suggestion(cls, columns: Columns) -> tuple[int, str] | None:
        """Choices and which of them is right, without images."""
        roles = cls.find_columns(columns) if columns.image is None else {}
        choices = roles.get("choices") or (roles.get("A") and roles.get("B"))
        there = choices and roles.get("question") and roles.get("answer")
        return (20, Note("reason.choices_and_which_of")) if there else None

    @classmethod
    def find_columns(cls, columns: Columns) -> dict[str, str | None]:
        """Question, choices (in one column or one each) and the right one."""
        together = columns.named(names.CHOICES, "labels", "text", "category")
        apart = {
            letter: column
            for letter, words in names.CHOICE_COLUMNS.items()
            if together is None and (column := columns.named(words, *WRITTEN)) is not None
        }
        taken = {together, *apart.values()}
        answer = columns.named(names.RIGHT_CHOICE, without=taken)
        asked = columns.named(names.ASKED, without={*taken, answer})
        passage = columns.named(names.PASSAGE, without={*taken, answer, asked})
        choices = {"choices": together} if together else apart
        return {"question": asked, "context": passage, **choices, "answer": answer, "type": columns.named(names.TYPE)}

    @classmethod
    def lacking(cls, columns: Collection[str]) -> str | None:
        """Choices, one way or the other."""
        there = "choices" in columns or {"A", "B"} <= set(columns)
        return None if there else "a column of choices ('choices'), or one each ('A', 'B', ...)"

    @classmethod
    def checker(cls, cells: RowCells) -> Checker:
        """Choices that are too few, and answers that name none of them."""
        values = cells.values
        style = AnswerStyle.of(values["answer"], [row_choices(values, row) for row in range(len(cells.table))])
        role = next(role for role in ("choices", *LETTERS) if role in values)

        def wrong(row: int) -> DataError | None:
            if missing(values["question"][row]):
                return None
            return wrong_choices(row_choices(values, row), values["answer"][row], style, cells.where(row, role))

        return wrong

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.style = AnswerStyle()

    def fit(self, values: Values, rows: Sequence[int]) -> None:
        """Learn whether answers count from 0 or from 1."""
        options = [row_choices(values, row) for row in rows]
        self.style = AnswerStyle.of([values["answer"][row] for row in rows], options)

    def state(self) -> dict[str, Any]:
        """How answers are written."""
        return {"first": self.style.first, "numbers": self.style.numbers}

    def restore(self, state: dict[str, Any]) -> None:
        """Take it back."""
        self.style = AnswerStyle(int(state["first"]), bool(state["numbers"]))

    def prompt(self, values: Values, row: int) -> str:
        """The settings' instruction, the context and the question."""
        parts = [as_text(values[role][row]) for role in ("context", "question") if role in values]
        return "\n".join(part for part in (self.settings.instruction, *parts) if part.strip())

    def choices(self, values: Values, row: int) -> list[str]:
        """What can be chosen.

        Raises:
            DataError: fewer than two.
        """
        result = row_choices(values, row)
        if len(result) < 2:
            shown = f"'{result[0]}' alone" if result else "none"
            do = "fill them in, or leave the row out"
            raise DataError(f"task '{self.name}', row {row + 1}", "at least two choices", shown, do)
        return result

    def answer(self, values: Values, row: int) -> int | None:
        """The place of the right choice; None where the row names none of them."""
        if "answer" not in values or missing(values["answer"][row]):
            return None
        return self.style.index(values["answer"][row], row_choices(values, row))

    def predict(
        self, session: Session, values: Values, portion: Portion, sampling: Sampling | None = None
    ) -> list[Prediction]:
        """The likeliest choice of each row."""
        processor, rows = session.processor, portion.rows
        scored = score(
            session.model,
            [self.ask(values, row, processor) for row in rows],
            [self.continuations(values, row, processor) for row in rows],
            condition=self.condition(session, values, portion),
            vocab_size=processor.tokenizer.vocab_size,
        )
        return [
            self.chosen(values, row, [item.logprob for item in ones]) for row, ones in zip(rows, scored, strict=True)
        ]

    def explained_answer(self, example: Example, prompt: list[int], target: Target) -> tuple[list[int], Target]:
        """The ids of the choice that is explained, without an end."""
        processor = example.session.processor
        text = self.choices(example.values, 0)
        example.answer = str(example.predicted().value)
        wanted = example.answer if target is None else str(target)
        if wanted not in text:
            raise DataError("the target", "one of the choices", f"'{target}'", nearest(wanted, text))
        ids = list(self.continuations(example.values, 0, processor)[text.index(wanted)])
        while len(ids) > 1 and ids[-1] in processor.tokenizer.eos_ids:
            ids.pop()
        if example.answer != wanted:
            example.remarks.append(Note("remark.own_choice", text=example.answer))
        return ids, None

    def targets(self, values: Values, row: int) -> list[str]:
        """The right choice."""
        right = self.answer(values, row)
        return [] if right is None else [row_choices(values, row)[right]]

    def judgeable(self, values: Values, row: int) -> bool:
        """A question, at least two choices, and one of them right."""
        asked = not missing(values["question"][row])
        return asked and len(row_choices(values, row)) > 1 and self.answer(values, row) is not None

    def texts(self, values: Values, rows: Sequence[int]) -> list[str]:
        """Questions and all choices."""
        items = [text for row in rows for text in (self.prompt(values, row), *row_choices(values, row))]
        return [text for text in items if text]

    def continuations(self, values: Values, row: int, processor: TextProcessor) -> list[list[int]]:
        """Each choice's ids after ``ask``; with turns, its end is part of it."""
        text = self.choices(values, row)
        if self.settings.layout == "plain":
            context = layout.plain_text(self.messages(values, row))
            return [layout.continuation_ids(context, choice, processor) for choice in text]
        return [self.reply(values, row, choice, processor) for choice in text]

    def chosen(self, values: Values, row: int, logprobs: Sequence[float]) -> Prediction:
        """The likeliest choice by byte, of the choices' summed log-probabilities."""
        text = self.choices(values, row)
        summed = np.asarray(logprobs, dtype=np.float64)
        by_byte = summed / np.array([max(len(choice.encode()), 1) for choice in text])
        best = int(by_byte.argmax())
        chance = np.exp(summed - summed.max())
        chance /= chance.sum()
        scores: dict[str, float] = {}
        for choice, share in zip(text, chance, strict=True):
            scores[choice] = scores.get(choice, 0.0) + float(share)
        places = {"likeliest": int(summed.argmax()), "by_byte": best}
        return Prediction(text[best], float(chance[best]), scores, extra=places)

    def statistics(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> dict[str, Statistic]:
        """``accuracy`` of the likeliest, ``accuracy_norm`` of the likeliest by byte, ``chance`` of a blind choice."""
        chance = [1 / len(row_choices(values, row)) for row in rows]
        return {
            "accuracy_norm": mean_of(self._hits(values, rows, predictions, "by_byte")),
            "accuracy": mean_of(self._hits(values, rows, predictions, "likeliest")),
            "chance": mean_of(chance),
        }

    def right(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> NDArray[np.float64]:
        """1 where the likeliest choice by byte is the right one."""
        return self._hits(values, rows, predictions, "by_byte")

    def naive(
        self, values: Values, rows: Sequence[int], known: Values, train_rows: Sequence[int]
    ) -> tuple[list[Prediction], str]:
        """The place that is right most often in training; the last one where a row has fewer choices."""
        places = Counter(place for row in train_rows if (place := self.answer(known, row)) is not None)
        usual = min(places, key=lambda place: (-places[place], place)) if places else 0
        lines = []
        for row in rows:
            text = self.choices(values, row)
            place = min(usual, len(text) - 1)
            lines.append(Prediction(text[place], extra={"likeliest": place, "by_byte": place}))
        return lines, "most frequent place"

    def _hits(
        self, values: Values, rows: Sequence[int], predictions: list[Prediction], which: str
    ) -> NDArray[np.float64]:
        message = zip(rows, predictions, strict=True)
        return np.array([float(text.extra[which] == self.answer(values, row)) for row, text in message])
