"""``ner``: spans of a text and their labels, by tagging its words (Chinese: its characters).

A word's tag is read from its first piece. What the model says is made legal by the Viterbi algorithm over the rules of
BIO or BIOES, as in Collobert et al. 2011, "Natural Language Processing (Almost) from Scratch".

Letters: U units, T tags, L pieces.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rebus import recipe
from rebus.catalogue import Note
from rebus.data import names
from rebus.data.declared import IMAGE, Checker, Columns, Role, RowCells
from rebus.data.marks import Marks, in_characters, in_units
from rebus.data.tagging import OUTSIDE, Span, Units, parts_of, spans_of, tags_of
from rebus.errors import DataError, nearest
from rebus.models.features import Features as Image
from rebus.models.heads import HeadSpec
from rebus.models.layout import IGNORED
from rebus.tasks.answer_view import AnswerView
from rebus.tasks.base import TASKS, Item, Prediction, Values
from rebus.tasks.cells import answer_text
from rebus.tasks.explanation import Example, Goal, Target, log_odds
from rebus.tasks.metrics.intervals import Statistic
from rebus.tasks.metrics.spans import share_of, span_statistics
from rebus.tasks.pieces import located
from rebus.tasks.reading import WordsTask, frame_of, give_window, pieces_of, window_around, windows_of
from rebus.tasks.text_processor import TextProcessor
from rebus.tasks.transformers_head import TOKENS, TransformersHead, named_outputs

Matrix = NDArray[np.float64]


@TASKS.register("ner")
class Ner(WordsTask):
    """Columns: ``tokens``: a list of words, or text; ``tags``: a tag for each, or ``{start, end, label}`` spans."""

    name = "ner"
    pipelines = ("token-classification", "token-classification")
    roles: ClassVar[dict[str, Role]] = {
        "image": IMAGE,
        "tokens": Role(("text", "labels", "category"), names=names.TOKENS, reads="raw"),
        "tags": Role(("tags", "labels", "text", "category"), names=names.TAGS),
    }
    target_role = "tags"
    inputs = ("image", "tokens")
    suits = "recurrent"
    question_role = "tokens"
    watch = "f1"
    padding: ClassVar[dict[str, Any]] = {"target": IGNORED}

    @classmethod
    def suggestion(cls, columns: Columns) -> tuple[int, str] | None:
        """Tokens and tags."""
        return (40, Note("reason.tokens_and_a_tag")) if cls.find_columns(columns) else None

    @classmethod
    def find_columns(cls, columns: Columns) -> dict[str, str | None]:
        """Tokens and a tag for each, or a text and the spans in it."""
        tokens = columns.named(names.TOKENS, "text", "labels")
        tags = columns.named(names.TAGS, "tags") or next(iter(columns.of("tags")), None)
        if tags is None and tokens is not None:
            tags = columns.named(("tags", "labels", *names.TAGS), "labels", "text", "category")
        text = tokens or columns.text(tags)
        return {"image": columns.image, "tokens": text, "tags": tags} if tags and text else {}

    @classmethod
    def checker(cls, cells: RowCells) -> Checker:
        """Tags that do not fit their text."""
        texts, tags = cells.values["tokens"], cells.values["tags"]
        marks = Marks.of(texts, tags, cells.task.label_names)
        column, scheme, doubt = cells.task.columns["tags"], marks.said(), marks.writing.doubt
        cells.notes += [Note("check.tags_read", column=column, scheme=scheme)] if scheme else []
        cells.warnings += [Note("check.tags_doubt", column=column, doubt=doubt)] if doubt else []

        def wrong(row: int) -> DataError | None:
            wrong = None if tags[row] is None or texts[row] is None else marks.wrong(texts[row], tags[row])
            return None if wrong is None else cells.error(row, "tags", *wrong)

        return wrong

    def __init__(self, settings: recipe.TaskSettings) -> None:
        super().__init__(settings)
        self._other: tuple[Any, Marks] | None = None  # the tags of a table that are written in another way, and how
        self.restore({"labels": [], "marks": {}})

    def fit(self, values: Values, rows: Sequence[int]) -> None:
        """Learn how the columns are written, and the labels in sorted order."""
        texts, cells = ([values[role][row] for row in rows] for role in ("tokens", "tags"))
        self.marks = Marks.of(texts, cells, self.settings.label_names)
        result = sorted({label for row in rows if self.usable(values, row) for *_, label in self._read(values, row)[2]})
        if not result:
            raise DataError(
                f"column '{self.settings.columns['tags']}'",
                "spans with labels in the training rows",
                "none",
                "write a tag such as B-PER for each word, or spans as {start, end, label}",
            )
        self.restore({"labels": result, "marks": self.marks.as_dict()})

    def transformers_head(self) -> TransformersHead:
        """A number a tag."""
        return TransformersHead(TOKENS, named_outputs(self.tags))

    def state(self) -> dict[str, Any]:
        """The labels, and how the columns were written."""
        return {"labels": self.labels, "marks": self.marks.as_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what ``fit`` learned."""
        self.labels: list[str] = list(state["labels"])
        self.marks = Marks.from_dict(state["marks"])
        if self.marks.style == "single" and not self.marks.spans:  # each word has a label: there is nothing to join
            self.tags = [f"S-{label}" for label in self.labels]
        else:
            letters = "BI" if self.settings.scheme == "BIO" else "BIES"
            self.tags = [OUTSIDE, *(f"{letter}-{label}" for label in self.labels for letter in letters)]
        self.index = {tag: number for number, tag in enumerate(self.tags)}
        self.legal = legal_steps(self.tags)

    def judgeable(self, values: Values, row: int) -> bool:
        """A text and marks; no mark at all is a fact too."""
        return all(role in values and values[role][row] is not None for role in ("tokens", "tags"))

    def head(self, processor: TextProcessor) -> HeadSpec:
        """A number a tag."""
        seen = ("image",) if self.uses_image else ()
        return HeadSpec("words", len(self.tags), (*seen, "text"))

    def texts(self, values: Values, rows: Sequence[int]) -> list[str]:
        """The texts, words joined."""
        return [self.marks.units(values["tokens"][row]).text for row in rows if values["tokens"][row] is not None]

    def long_text(self, values: Values, row: int) -> str:
        """The text, words joined."""
        return self.marks.units(values["tokens"][row]).text

    def notes(self, values: Values, rows: Sequence[int], processor: TextProcessor) -> list[str]:
        """Also how many rows break the rules of their scheme."""
        loose = sum(not self.marks.keeps_rules(values["tags"][row]) for row in rows)
        text = (
            f"task {self.name}: {loose} rows break the rules of their tags' scheme, such as an I- that follows no B-; "
        )
        read = "they are read as the CoNLL evaluation reads them, a span from there on"
        return [*super().notes(values, rows, processor), *([text + read] if loose else [])]

    def unseen(self, values: Values, rows: Sequence[int]) -> Counter[str]:
        """Labels of spans that training never saw, and how many rows hold each; the spans count as missed."""
        held = (self.marks.read(values["tokens"][row], values["tags"][row])[2] for row in rows)
        counts = Counter(name for spans in held for name in {label for *_, label in spans})
        return Counter({name: count for name, count in counts.items() if name not in self.labels})

    def windows(self, values: Values, row: int, processor: TextProcessor, *, learn: bool) -> list[Item]:
        """Pieces, and where the first one of each unit is."""
        spans: list[Span] = []
        if learn:
            units, spans, _ = self._read(values, row)
        else:
            units = self._units(values, row)
        tags = np.asarray([self.index.get(tag, IGNORED) for tag in self._inside(spans, len(units.offsets))])
        before, after = frame_of(processor)
        pieces = pieces_of(processor, units, most=max(1, min(32, processor.max_length - len(before) - len(after))))
        firsts = np.asarray(pieces.firsts, dtype=np.int64)
        items: list[Item] = []
        for start, end in windows_of(pieces.firsts, len(pieces.ids), processor.max_length - len(before) - len(after)):
            ids = [*before, *pieces.ids[start:end], *after] or [processor.tokenizer.eos_id]
            here = np.flatnonzero((firsts >= start) & (firsts < end))
            at = firsts[here] - start + len(before)
            item: Item = {"text_ids": np.asarray(ids, dtype=np.int64), "units": here, "at": at}
            if learn:
                item["target"] = np.full(len(ids), IGNORED, dtype=np.int64)
                item["target"][at] = tags[here]
            items.append(item)
        return items

    def loss(self, outputs: Tensor, part: dict[str, Tensor]) -> Tensor:
        """Cross-entropy of each unit's first piece."""
        target = part["target"].flatten()
        summed = functional.cross_entropy(
            outputs.float().flatten(0, 1),
            target,
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=self.settings.label_smoothing,
        )
        return summed / (target != IGNORED).sum().clamp(min=1)

    def predict_row(
        self, values: Values, row: int, windows: list[Item], outputs: list[NDArray[np.float32]]
    ) -> Prediction:
        """The spans of the likeliest legal tags; each unit is read where most stands around it."""
        units = self._units(values, row)
        scores = np.zeros((len(units.offsets), len(self.tags)))
        context = np.full(len(units.offsets), -1)
        for window, numbers in zip(windows, outputs, strict=True):
            room = np.minimum(window["at"], len(window["text_ids"]) - 1 - window["at"])
            better = room > context[window["units"]]
            chosen = window["units"][better]
            scores[chosen] = numbers[window["at"][better]]
            context[chosen] = room[better]
        chances = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True) if len(scores) else scores
        path = best_path(chances, self.legal)
        sure = np.exp(chances[np.arange(len(path)), path])
        items = []
        for start, end, label in spans_of([self.tags[number] for number in path]):
            first, last = units.offsets[start][0], units.offsets[end - 1][1]
            score = float(np.exp(np.log(np.maximum(sure[start:end], 1e-12)).mean()))
            entries = {"text": units.text[first:last], "label": label, "start": first, "end": last}
            items.append(entries | ({"words": [start, end]} if units.given else {}) | {"score": round(score, 6)})
        return Prediction(items, float(np.exp(np.log(np.maximum(sure, 1e-12)).mean())) if len(sure) else 1.0)

    def answer_view(self, example: Example, outputs: Any, seen: Image | None) -> AnswerView:
        """Each token with its likeliest tag."""
        chances, places = outputs.detach().float()[0].softmax(-1).max(-1)  # (L,)
        tokens = [
            (float(chance), f"{self.tags[int(tag)]} {float(chance):.0%}")
            for chance, tag in zip(chances, places, strict=True)
        ]
        return AnswerView("tagged", {"answer": example.answer}, {"logits": ("(R, L, C)", outputs)}, tokens=tokens)

    def explanation_targets(self, example: Example, target: Target) -> None:
        """The tags of a span or a word."""
        units = self.marks.units(example.values["tokens"][0])
        if not units.offsets:
            raise DataError(f"task '{self.name}'", "a text of at least one word", "an empty one", "give a text")
        processor = example.session.processor
        spans = example.predicted().value
        example.text, example.answer = units.text, answer_text(spans)
        words = [units.text[start:end] for start, end in units.offsets]
        chosen, label = _chosen_units(words, units.offsets, spans, target)
        window = window_around(self.windows(example.values, 0, processor, learn=False), chosen[0])
        give_window(example, window)
        pieces = pieces_of(processor, units)
        example.places["text_ids"] = located(window["text_ids"].tolist(), pieces.ids, pieces.offsets)
        held = [unit for unit in chosen if unit in window["units"]]
        at = torch.tensor([int(window["at"][list(window["units"]).index(unit)]) for unit in held])
        logits = example.run().float()[0][at.to(example.model.device)]  # (U, T)
        allowed = torch.tensor([label is None or parts_of(tag)[1] == label for tag in self.tags], device=logits.device)
        tags = logits.masked_fill(~allowed, float("-inf")).argmax(-1)
        chance = logits.softmax(-1).gather(-1, tags[:, None])
        names = ", ".join(dict.fromkeys(self.tags[int(tag)] for tag in tags))
        texts = units.text[units.offsets[held[0]][0] : units.offsets[held[-1]][1]]
        goal = Goal(
            Note("target.span", text=texts, tags=names),
            float(chance.log().mean().exp()),
            tuple(int(item) for item in at),
        )
        example.goals = [goal]
        example.measure = lambda outputs: log_odds(outputs[:, at], tags.expand(len(outputs), -1)).mean(1, keepdim=True)

    def statistics(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> dict[str, Statistic]:
        """Precision, recall and F1 of spans, micro, macro and by label; the share of words with the right tag."""
        truth, message = [], []
        right, count = [], []
        for row, prediction in zip(rows, predictions, strict=True):
            units, spans, characters = self._read(values, row)
            items = [(span["start"], span["end"], span["label"]) for span in prediction.value]
            truth.append(characters)
            message.append(items)
            mine, other = (tags_of(each, len(units.offsets)) for each in (spans, in_units(units, items)))
            right.append(sum(a == b for a, b in zip(mine, other, strict=True)))
            count.append(len(mine))
        return {**span_statistics(truth, message), "word_accuracy": share_of(right, count)}

    def quick_score(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> dict[str, float]:
        """Without the figures of each label."""
        result = super().quick_score(values, rows, predictions)
        return {name: value for name, value in result.items() if not name.startswith(("f1 ", "macro_p", "macro_r"))}

    def right(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> NDArray[np.float64]:
        """1 where the row's spans are exactly the true ones."""
        truth = [set(self._read(values, row)[2]) for row in rows]
        lines = [{(span["start"], span["end"], span["label"]) for span in p.value} for p in predictions]
        return np.asarray([float(text == spans) for text, spans in zip(lines, truth, strict=True)])

    def naive(
        self, values: Values, rows: Sequence[int], known: Values, train_rows: Sequence[int]
    ) -> tuple[list[Prediction], str]:
        """Strings that were spans in training, each with its commonest label; the longest one first."""
        counts: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        outside: Counter[tuple[str, ...]] = Counter()
        for row in train_rows:
            units, spans, _ = self._read(known, row)
            words = words_of(units)
            for start, end, label in spans:
                counts[tuple(words[start:end])][label] += 1
            inside = {place for start, end, _ in spans for place in range(start, end)}
            outside.update((word,) for place, word in enumerate(words) if place not in inside)
        # A word that is mostly no span, as "May" may be, is not one here either.
        best = {
            words: min(labels, key=lambda label: (-labels[label], label))
            for words, labels in counts.items()
            if sum(labels.values()) >= outside[words]
        }
        longest = max((len(words) for words in best), default=0)
        lines = []
        for row in rows:
            units = self._units(values, row)
            result = in_characters(units, look_up(words_of(units), best, longest))
            lines.append(Prediction([{"start": start, "end": end, "label": label} for start, end, label in result]))
        return lines, "dictionary of training spans"

    def truth(self, values: Values, row: int) -> Any:
        """The true spans with their text."""
        units, _, spans = self._read(values, row)
        return [{"text": units.text[start:end], "label": label} for start, end, label in spans]

    def _units(self, values: Values, row: int) -> Units:
        """The row's units, cut as its tags cut them where it has any."""
        if "tags" in values and values["tags"][row] is not None and values["tokens"][row] is not None:
            return self._read(values, row)[0]
        return self.marks.units(values["tokens"][row])

    def _read(self, values: Values, row: int) -> tuple[Units, list[Span], list[Span]]:
        text, cell = values["tokens"][row], values["tags"][row]
        marks = self._marks(values)
        wrong = marks.wrong(text, cell)
        if wrong is not None:
            raise DataError(f"row {row + 1}, column '{self.settings.columns['tags']}'", *wrong)
        units, inner, spans = marks.read(text, cell)
        if marks is not self.marks:  # b-loc is LOC, where the model knows no loc
            inner, spans = ([(start, end, self._known(label)) for start, end, label in each] for each in (inner, spans))
        return units, inner, spans

    def _marks(self, values: Values) -> Marks:
        """How these columns are written: as in training, unless their tags are written in another scheme."""
        tags = values["tags"]
        if not self.labels or self.marks.spans:
            return self.marks
        if self._other is None or self._other[0] is not tags:
            result = Marks.of(values["tokens"], tags, self.settings.label_names)
            alike = result.spans or result.style == "single" or result.writes_like(self.marks)
            self._other = (tags, self.marks if alike else replace(result, cut=self.marks.cut))
        return self._other[1]

    def _known(self, label: str) -> str:
        """The label that training had, in other capitals."""
        alike = [item for item in self.labels if item.casefold() == label.casefold()]
        return alike[0] if len(alike) == 1 and label not in self.labels else label

    def _inside(self, spans: Sequence[Span], count: int) -> list[str]:
        """Tags as the model knows them."""
        if self.tags[:1] == [OUTSIDE]:
            return tags_of(spans, count, self.settings.scheme)
        return [f"S-{label}" for *_, label in spans] if spans else [OUTSIDE] * count


def words_of(units: Units) -> list[str]:
    """The text of each unit."""
    return [units.text[start:end] for start, end in units.offsets]


def look_up(words: Sequence[str], known: dict[tuple[str, ...], str], longest: int) -> list[Span]:
    """From left to right, the longest run of words that is known."""
    result: list[Span] = []
    place = 0
    while place < len(words):
        sizes = range(min(longest, len(words) - place), 0, -1)
        size = next((size for size in sizes if tuple(words[place : place + size]) in known), 0)
        if size:
            result.append((place, place + size, known[tuple(words[place : place + size])]))
        place += max(size, 1)
    return result


def legal_steps(tags: Sequence[str]) -> Matrix:
    """(T + 1, T + 1) 0 where a tag may follow another, else minus infinity; the last row begins, the last column ends.

    Inside follows only a begun span of the same label, and under BIOES a begun span must end.
    """
    ends = any(parts_of(tag)[0] == "E" for tag in tags)

    def may_follow(before: tuple[str, str], after: tuple[str, str]) -> bool:
        is_open = before[0] in ("B", "I")
        if after[0] in ("I", "E"):
            return is_open and before[1] == after[1]
        return not (is_open and ends)

    edge = (OUTSIDE, "")
    parts = [*(parts_of(tag) for tag in tags), edge]
    return np.asarray([[0.0 if may_follow(part, other) else -np.inf for other in parts] for part in parts])


def best_path(chances: Matrix, steps: Matrix) -> NDArray[np.int64]:
    """The likeliest sequence of tags: (U, T) log-probabilities and ``legal_steps`` -> (U,) numbers of tags.

    Source: Viterbi 1967, "Error Bounds for Convolutional Codes and an Asymptotically Optimum Decoding Algorithm".
    """
    count = len(chances)
    if not count:
        return np.zeros(0, dtype=np.int64)
    between = steps[:-1, :-1]
    best = chances[0] + steps[-1, :-1]
    came = np.zeros(chances.shape, dtype=np.int64)
    for place in range(1, count):
        ways = best[:, None] + between  # (before, after)
        came[place] = ways.argmax(0)
        best = ways.max(0) + chances[place]
    path = np.zeros(count, dtype=np.int64)
    path[-1] = (best + steps[:-1, -1]).argmax()
    for place in range(count - 1, 0, -1):
        path[place - 1] = came[place, path[place]]
    return path


def _chosen_units(
    words: list[str], offsets: list[tuple[int, int]], spans: list[dict[str, Any]], target: Target
) -> tuple[list[int], str | None]:
    """The units that a target of ``ner`` names, and the label that is explained; None: the likeliest tag of each."""
    wanted = None if target is None else str(target)
    for span in spans:
        if wanted is None or wanted in (span["text"], span["label"]):
            inside = [n for n, (start, end) in enumerate(offsets) if start < span["end"] and end > span["start"]]
            return inside, str(span["label"])
    if wanted is None:
        return [0], None
    if wanted in words:
        return [words.index(wanted)], None
    known = [*words, *(str(span["label"]) for span in spans)]
    raise DataError(
        "the target", "a word of the text, or a span or a label that was found", f"'{wanted}'", nearest(wanted, known)
    )
