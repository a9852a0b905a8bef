"""``extract``: the answer to a question, as it stands in a passage; "" where the passage has none.

The model gives each word of the passage two numbers, as the first and as the last word of the answer; the place before
the question stands for no answer. As in Devlin et al. 2019, "BERT", and Rajpurkar et al. 2018, "Know What You Don't
Know: Unanswerable Questions for SQuAD".

Letters: R windows, L pieces, U words of a passage.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rebus import recipe
from rebus.catalogue import Note
from rebus.data import names
from rebus.data.declared import IMAGE, SHORT, WRITTEN, Checker, Columns, Role, RowCells
from rebus.data.marks import answers_of, find_answer, in_units, wrong_answer
from rebus.data.tagging import Units, units_of
from rebus.errors import DataError, nearest
from rebus.models.features import Features as Image
from rebus.models.heads import HeadSpec
from rebus.tasks.answer_view import AnswerView
from rebus.tasks.base import TASKS, Item, Prediction, Values
from rebus.tasks.cells import as_text, missing
from rebus.tasks.cuts import cut
from rebus.tasks.explanation import Example, Goal, Target, log_odds
from rebus.tasks.metrics.extraction import extract_scores, extract_statistics
from rebus.tasks.metrics.intervals import Statistic
from rebus.tasks.metrics.words import words
from rebus.tasks.pieces import located
from rebus.tasks.reading import WordsTask, frame_of, give_window, pieces_of, window_around, windows_of
from rebus.tasks.text_processor import TextProcessor
from rebus.tasks.transformers_head import ANSWERS, TransformersHead

_SENTENCE = re.compile(r"[^.!?。！？；;\n]+(?:\.(?=\d)[^.!?。！？；;\n]+)*")  # 3.5 is no end of a sentence
FAR = -1e9  # the score of a place that is no word of the passage


@TASKS.register("extract")
class Extract(WordsTask):
    """Columns: ``question``, ``passage``, ``answer`` (one or several right ones), perhaps ``start`` in characters."""

    name = "extract"
    pipelines = ("document-question-answering", "question-answering")
    roles: ClassVar[dict[str, Role]] = {
        "image": IMAGE,
        "question": Role(SHORT, names=names.QUESTION),
        "passage": Role(SHORT, names=names.PASSAGE),
        "start": Role(("number", "ignore"), required=False, names=("answer_start", "start"), reads="data"),
        "answer": Role(WRITTEN, names=names.ANSWER, several=True, learned=True),
    }
    inputs = ("image", "question", "passage")
    question_role = "question"
    watch = "f1"
    padding: ClassVar[dict[str, Any]] = {"segment_ids": 0, "allowed": False}

    @classmethod
    def suggestion(cls, columns: Columns) -> tuple[int, str] | None:
        """Answers that are words of a passage."""
        roles = columns.about_passage() if columns.image is None else {}
        inside = roles and columns.inside(roles["answer"], roles["passage"])
        return (30, Note("reason.answers_that_stand_in")) if inside else None

    @classmethod
    def find_columns(cls, columns: Columns) -> dict[str, str | None]:
        """Question, passage, answer, and where it begins."""
        question, answer = columns.question, columns.answer
        passage = columns.named(names.PASSAGE, "text") or columns.text(question, answer)
        roles: dict[str, str | None] = {**columns.about_passage()}
        roles = roles or {"question": question, "passage": passage, "answer": answer}
        return {**roles, "start": columns.named(("answer_start", "start"))}

    @classmethod
    def needed_roles(cls, columns: Collection[str]) -> tuple[str, ...]:
        """An answer may be absent: the passage has none."""
        return ("question", "passage")

    @classmethod
    def checker(cls, cells: RowCells) -> Checker:
        """Answers that do not stand in their passage."""
        values = cells.values

        def wrong(row: int) -> DataError | None:
            if "answer" not in values:
                return None
            start = values["start"][row] if "start" in values else None
            wrong = wrong_answer(values["passage"][row], values["answer"][row], start)
            return None if wrong is None else cells.error(row, "answer", *wrong)

        return wrong

    def __init__(self, settings: recipe.TaskSettings) -> None:
        super().__init__(settings)
        self.restore({"unanswerable": False, "longest": 1})

    def transformers_head(self) -> TransformersHead:
        """Two numbers a token."""
        return TransformersHead(ANSWERS, {})

    def fit(self, values: Values, rows: Sequence[int]) -> None:
        """Learn whether there are questions without an answer, and how long answers are."""
        lengths, without = [], False
        for row in rows:
            if not self.judgeable(values, row):
                continue
            units = units_of(as_text(values["passage"][row]))
            at = self._place(values, row, units)
            without = without or at is None
            if at is not None:
                lengths.append(at[1] - at[0])
        if not lengths:
            raise DataError(
                f"column '{self.settings.columns['answer']}'",
                "answers that stand in their passages in the training rows",
                "none",
                "name the right columns with --set tasks.0.columns.answer=COLUMN and .passage=COLUMN",
            )
        self.restore({"unanswerable": without, "longest": max(8, round(1.5 * float(np.quantile(lengths, 0.99))))})

    def state(self) -> dict[str, Any]:
        """What ``fit`` learned."""
        return {"unanswerable": self.unanswerable, "longest": self.longest}

    def restore(self, state: dict[str, Any]) -> None:
        """Take it back."""
        self.unanswerable, self.longest = bool(state["unanswerable"]), int(state["longest"])

    def judgeable(self, values: Values, row: int) -> bool:
        """A question and a passage; no answer is a fact too."""
        return not missing(values["question"][row]) and not missing(values["passage"][row])

    def head(self, processor: TextProcessor) -> HeadSpec:
        """Two numbers a piece: begins, ends."""
        seen = ("image",) if self.uses_image else ()
        return HeadSpec("words", 2, (*seen, "text"))

    def texts(self, values: Values, rows: Sequence[int]) -> list[str]:
        """Questions and passages."""
        return [as_text(values[role][row]) for row in rows for role in ("question", "passage")]

    def long_text(self, values: Values, row: int) -> str:
        """The passage."""
        return as_text(values["passage"][row])

    def windows(self, values: Values, row: int, processor: TextProcessor, *, learn: bool) -> list[Item]:
        """The question with each part of the passage."""
        units = units_of(as_text(values["passage"][row]))
        answer = self._place(values, row, units) if learn else None
        reader = processor.reader or processor.tokenizer
        before, after = frame_of(processor)
        alone = processor.tokenizer.eos_id if processor.reader is None else processor.reader.unknown_id
        after_question = after or [alone]
        room = processor.max_length - len(before or [alone]) - len(after_question) - len(after)
        question = as_text(values["question"][row])
        asked = cut(list(reader.encode(question)), max(room // 2, 0), question, "end")
        asked = [*(before or [alone]), *asked, *after_question]
        room = max(processor.max_length - len(asked) - len(after), 1)
        pieces = pieces_of(processor, units, most=max(1, min(32, room)))
        firsts = np.asarray(pieces.firsts, dtype=np.int64)
        items: list[Item] = []
        for start, end in windows_of(pieces.firsts, len(pieces.ids), room):
            ids = [*asked, *pieces.ids[start:end], *after]
            here = np.flatnonzero((firsts >= start) & (firsts < end))
            at = firsts[here] - start + len(asked)
            allowed = np.zeros(len(ids), dtype=bool)
            allowed[at] = True
            allowed[0] = True
            segments = np.repeat([0, 1], [len(asked), len(ids) - len(asked)])
            item: Item = {"text_ids": np.asarray(ids, dtype=np.int64), "segment_ids": segments, "allowed": allowed}
            item |= {"units": here, "at": at}
            if learn:
                ends = (answer[0], answer[1] - 1) if answer is not None else (-1, -1)
                inside = len(here) > 0 and here[0] <= ends[0] and ends[1] <= here[-1]
                item["ends"] = np.asarray([at[e - here[0]] for e in ends] if inside else [0, 0], dtype=np.int64)
            items.append(item)
        return items

    def collate(self, items: list[Item], owner: list[int]) -> dict[str, Tensor]:
        """Windows padded, and the first and last place of each answer, (R, 2)."""
        part = super().collate(items, owner)
        if items and "ends" in items[0]:
            part["ends"] = torch.from_numpy(np.stack([item["ends"] for item in items]))
        return part

    def loss(self, outputs: Tensor, part: dict[str, Tensor]) -> Tensor:
        """Cross-entropy over the places where an answer may begin, and where it may end."""
        scores = outputs.float().masked_fill(~part["allowed"][..., None], FAR)
        return functional.cross_entropy(scores, part["ends"], label_smoothing=0.0)

    def predict_row(
        self, values: Values, row: int, windows: list[Item], outputs: list[NDArray[np.float32]]
    ) -> Prediction:
        """The span whose first and last word score best together, above what the place of no answer scores."""
        text = as_text(values["passage"][row])
        units = units_of(text)
        best, span, sure, nothing = -np.inf, (0, 0), 0.0, 1.0
        for window, numbers in zip(windows, outputs, strict=True):
            places = np.concatenate([[0], window["at"]])
            chances = numbers[places].astype(np.float64)  # (1 + U, 2), no answer first
            chances -= np.logaddexp.reduce(chances, axis=0)
            none = float(chances[0].sum())
            nothing = min(nothing, float(np.exp(none)))
            result = best_span(chances[1:, 0], chances[1:, 1], self.longest)
            if result is not None and result[2] - none > best:
                best, sure = result[2] - none, float(np.exp(result[2]))
                span = (int(window["units"][result[0]]), int(window["units"][result[1]]) + 1)
        if not np.isfinite(best) or (self.unanswerable and best < 0):
            return Prediction("", nothing, extra={"start": None, "end": None})
        start, end = units.offsets[span[0]][0], units.offsets[span[1] - 1][1]
        return Prediction(text[start:end], sure, extra={"start": start, "end": end})

    def answer_view(self, example: Example, outputs: Any, seen: Image | None) -> AnswerView:
        """How likely the answer begins, or ends, at each token."""
        ends = outputs.detach().float()[0].softmax(0)[:, :2].tolist()
        tokens = [(max(first, last), f"{first:.0%} · {last:.0%}") for first, last in ends]
        return AnswerView("span", {"answer": example.answer}, {"logits": ("(R, L, C)", outputs)}, tokens=tokens)

    def explanation_targets(self, example: Example, target: Target) -> None:
        """Where the answer begins and ends."""
        processor = example.session.processor
        question, passage = (as_text(example.values[role][0]) for role in ("question", "passage"))
        units = units_of(passage)
        message = example.predicted()
        example.answer = str(message.value)
        span = (message.extra["start"], message.extra["end"]) if message.value else None
        if target is not None:
            start = passage.find(str(target))
            if start < 0 or not str(target).strip():
                known = [passage[a:b] for a, b in units.offsets]
                raise DataError("the target", "words of the passage", f"'{target}'", nearest(str(target), known))
            span = (start, start + len(str(target)))
        inside = [n for n, (a, b) in enumerate(units.offsets) if span is not None and a < span[1] and b > span[0]]
        window = window_around(self.windows(example.values, 0, processor, learn=False), inside[0] if inside else -1)
        give_window(example, window)
        reader = processor.reader or processor.tokenizer
        shift = len(question) + 1
        example.text = f"{question}\n{passage}"
        ids = window["text_ids"].tolist()
        begin = int(window["segment_ids"].sum() * -1) + len(ids)  # where the passage begins
        asked = located(ids[:begin], *reader.encode_with_offsets(question))
        pieces = pieces_of(processor, units)
        example.places["text_ids"] = asked + located(ids[begin:], pieces.ids, pieces.offsets, shift)
        order = list(window["units"])
        held = [unit for unit in inside if unit in order]
        ends = [int(window["at"][order.index(unit)]) for unit in (held[0], held[-1])] if held else [0, 0]
        at = torch.tensor(ends, device=example.model.device)
        allowed = torch.from_numpy(np.asarray(window["allowed"])).to(at.device)

        def places(outputs: Tensor) -> Tensor:
            return outputs.float().masked_fill(~allowed[:, None], -1e9).mT  # (N, 2, L)

        chance = places(example.run())[0].softmax(-1).gather(-1, at[:, None])
        text = passage[slice(*span)] if span is not None and held else ""
        named = Note("target.answer", text=text) if text else Note("target.no_answer")
        example.goals = [Goal(named, float(chance.prod()), tuple(dict.fromkeys(ends)))]
        example.measure = lambda outputs: log_odds(places(outputs), at.expand(len(outputs), -1)).sum(1, keepdim=True)

    def statistics(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> dict[str, Statistic]:
        """Exact match and F1."""
        return extract_statistics([p.value for p in predictions], [self.references(values, row) for row in rows])

    def right(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> NDArray[np.float64]:
        """Exact match."""
        return extract_scores([p.value for p in predictions], [self.references(values, row) for row in rows])[0]

    def naive(
        self, values: Values, rows: Sequence[int], known: Values, train_rows: Sequence[int]
    ) -> tuple[list[Prediction], str]:
        """The sentence that shares most words with the question."""
        lines = [closest_sentence(as_text(values["question"][row]), as_text(values["passage"][row])) for row in rows]
        return [Prediction(sentence) for sentence in lines], "sentence most like the question"

    def references(self, values: Values, row: int) -> list[str]:
        """The right answers; none where the question has no answer."""
        start = values["start"][row] if "start" in values else None
        return [answer for answer, _ in answers_of(values["answer"][row], start)]

    def truth(self, values: Values, row: int) -> Any:
        """The first right answer."""
        return next(iter(self.references(values, row)), "")

    def _place(self, values: Values, row: int, units: Units) -> tuple[int, int] | None:
        """Units [first, last + 1) of the answer; None where there is none."""
        cell, start = values["answer"][row], values["start"][row] if "start" in values else None
        wrong = wrong_answer(units.text, cell, start)
        if wrong is not None:
            raise DataError(f"row {row + 1}, column '{self.settings.columns['answer']}'", *wrong)
        for answer, at in answers_of(cell, start):
            result = find_answer(units.text, answer, at)
            inside = in_units(units, [(*result, "")]) if result is not None else []
            if inside:
                return inside[0][:2]
        return None


def best_span(starts: NDArray[np.float64], ends: NDArray[np.float64], longest: int) -> tuple[int, int, float] | None:
    """The first word, the last word and the score of the best span of at most ``longest`` words, from (U,) scores each.

    None where there is no word.
    """
    best: tuple[int, int, float] | None = None
    for size in range(min(longest, len(starts))):
        both = starts[: len(starts) - size] + ends[size:]
        place = int(both.argmax())
        if best is None or both[place] > best[2]:
            best = (place, place + size, float(both[place]))
    return best


def closest_sentence(question: str, passage: str) -> str:
    """The sentence of a passage that holds most of the question's words; of equals the shorter one."""
    asked = set(words(question))
    sentences = [result.group().strip() for result in _SENTENCE.finditer(passage) if result.group().strip()]
    return max(sentences, key=lambda text: (len(asked & set(words(text))), -len(text)), default="")
