"""What tasks that write share: texts written by the decoder, several of them packed in one row of the batch."""

from __future__ import annotations

import unicodedata
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rebus.data.messages import Message
from rebus.errors import DataError
from rebus.generation.sampling import Sampling
from rebus.generation.score import score
from rebus.models.fusion import Condition
from rebus.models.heads import HeadSpec
from rebus.models.layout import IGNORED
from rebus.tasks import layout
from rebus.tasks.base import ExampleKey, Item, Prediction, Task, Values
from rebus.tasks.cells import as_texts, missing, pad_texts, pad_to
from rebus.tasks.explanation import Example, Target
from rebus.tasks.linear import Features, classes_of, nearest
from rebus.tasks.metrics.text_generation import caption_matches
from rebus.tasks.session import Portion, Session
from rebus.tasks.text_processor import TextProcessor
from rebus.tasks.word_goals import MOST_TOKENS, likeliest_answer, place_prompt, set_word_goals

_MOST_READ_BACK = 2000  # texts of a sample
ROW = 256  # tokens up to which rows are made longer to hold several texts
FEW = 200  # different texts up to which they are classes to a plain model


class WritingTask(Task):
    """A task whose answer is text. Subclasses say what the prompt and the wanted texts of a row are."""

    writes: ClassVar[bool] = True
    streams: ClassVar[bool] = True
    answers = "text"
    lays_turns: ClassVar[bool] = True
    judges_likelihood: ClassVar[bool] = False  # whether figures also tell how likely the true texts are
    blind_baseline: ClassVar[bool] = False  # whether the naive baseline needs no rows to learn from
    answer_key: ClassVar[str] = "target.answer"  # of the message that names an answer that is explained
    explained_tokens: ClassVar[int] = 0  # how many are written to be explained; 0: as many as the settings allow

    @abstractmethod
    def prompt(self, values: Values, row: int) -> str:
        """The question, or nothing."""

    def right_texts(self, values: Values, row: int) -> list[str]:
        """All texts that would be right."""
        return as_texts(values[self.target_role][row]) if self.target_role in values else []

    def targets(self, values: Values, row: int) -> list[str]:
        """The texts that are learned: the first of the right ones."""
        return self.right_texts(values, row)[:1]

    def texts_and_truths(
        self, values: Values, rows: Sequence[int], predictions: list[Prediction]
    ) -> tuple[list[str], list[list[str]]]:
        """What was predicted for each row, and what would be right."""
        return [str(prediction.value) for prediction in predictions], [self.right_texts(values, row) for row in rows]

    def right(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> NDArray[np.float64]:
        """Exact match: the words of one of the right texts, in their order."""
        return caption_matches(*self.texts_and_truths(values, rows, predictions))

    def request(self, values: Values, rows: Sequence[int]) -> str:
        """What to say before each prompt to a model that was never trained for the task."""
        return ""

    def messages(self, values: Values, row: int) -> list[Message]:
        """What is said before the answer, as turns of a conversation."""
        return [{"role": "user", "content": self.prompt(values, row)}]

    def head(self, processor: TextProcessor) -> HeadSpec:
        """A decoder."""
        return HeadSpec("write", reads=("image",) if self.uses_image else ())

    def texts(self, values: Values, rows: Sequence[int]) -> list[str]:
        """Prompts and targets."""
        names: list[str] = []
        for row in rows:
            names.extend([self.prompt(values, row), *self.targets(values, row)])
        return [text for text in names if text]

    def prompt_ids(self, text: str, processor: TextProcessor) -> list[int]:
        """A prompt as one turn of a conversation: ``<|bos|><|user|>text<|assistant|>``."""
        return layout.prompt_ids([{"role": "user", "content": text}], processor)

    def shows(self, values: Values, row: int) -> bool:
        """Whether a row has an image."""
        return "image" in values and not missing(values["image"][row])

    def ask(self, values: Values, row: int, processor: TextProcessor) -> list[int]:
        """The ids that the answer to a row goes on from."""
        turns = layout.shown(self.messages(values, row), processor, self.shows(values, row))
        return layout.prompt_ids(turns, processor, self.settings.layout)

    def reply(self, values: Values, row: int, text: str, processor: TextProcessor) -> list[int]:
        """The ids of a text as the answer to a row, its end included."""
        return layout.answer_ids(self.messages(values, row), text, processor, self.settings.layout)

    def lay(self, values: Values, row: int, target: str, processor: TextProcessor) -> layout.Laid:
        """A row with one of its targets as ids; the prompt itself is never learned."""
        prompt, answer = self.ask(values, row, processor), self.reply(values, row, target, processor)
        return layout.Laid(prompt + answer, [False] * len(prompt) + [True] * len(answer))

    def said(self, text: str) -> str:
        """What counts of a text that the model wrote: with the plain layout, its first line."""
        text = text.strip()
        return text if self.settings.layout == "chat" else text.split("\n", 1)[0].strip()

    def items(
        self, values: Values, rows: Sequence[int], processor: TextProcessor, key: ExampleKey | None
    ) -> list[Item]:
        """All texts of an image packed in one item; one item a text where each has the image inside it, or a text
        tower reads the question.
        """
        pairs = [(row, target) for row in rows if self.usable(values, row) for target in self.targets(values, row)]
        if not pairs:
            return []
        if key is not None:
            chosen = np.random.default_rng(key).permutation(len(pairs))[: self.settings.per_image]
            pairs = [pairs[i] for i in chosen]
        if processor.text_tower or (processor.image and self.uses_image):
            return [self._packed([pair], values, processor) for pair in pairs]
        return [self._packed(pairs, values, processor)]

    def _packed(self, pairs: list[tuple[int, str]], values: Values, processor: TextProcessor) -> Item:
        ids: list[int] = []
        labels: list[int] = []
        blocks: list[int] = []
        positions: list[int] = []
        for number, (row, target) in enumerate(pairs):
            laid = self.lay(values, row, target, processor)
            following, learned = laid.targets
            ids += laid.ids[:-1]
            labels += [token if wanted else IGNORED for token, wanted in zip(following, learned, strict=True)]
            blocks += [number] * len(following)
            positions += range(len(following))
        item: Item = {
            "input_ids": np.asarray(ids, dtype=np.int64),
            "labels": np.asarray(labels, dtype=np.int64),
            "blocks": np.asarray(blocks, dtype=np.int64),
            "positions": np.asarray(positions, dtype=np.int64),
        }
        if processor.text_tower:
            item["text_ids"] = np.asarray(processor.read(self.prompt(values, pairs[0][0])), dtype=np.int64)
        return item

    def collate(self, items: list[Item], owner: list[int]) -> dict[str, Tensor]:
        """Pad to a multiple of 16: (R, L) each. Texts without an image share rows, so that few are padded."""
        if not self.uses_image and "text_ids" not in items[0]:
            items = share_rows(items)
            owner = [0] * len(items)
        length = pad_to(max(len(item["input_ids"]) for item in items), 16)
        blank = {"input_ids": 0, "labels": IGNORED, "blocks": -1, "positions": 0}
        part = {name: stack([item[name] for item in items], length, fill) for name, fill in blank.items()}
        part["owner"] = torch.tensor(owner, dtype=torch.long)
        if "text_ids" in items[0]:
            width = pad_to(max(len(item["text_ids"]) for item in items))
            part["text_ids"] = stack([item["text_ids"] for item in items], width, 0)
            lengths = torch.tensor([len(item["text_ids"]) for item in items])
            part["text_mask"] = torch.arange(width)[None, :] < lengths[:, None]
        return part

    def loss(self, outputs: Tensor, part: dict[str, Tensor]) -> Tensor:
        """Weighted mean cross-entropy of the answers' tokens: logits (N, V) at the N labelled positions.

        A token weighs ``1 / length ** length_weight`` of its text: at 0 a long caption outweighs a yes or no by its
        length, at 1 every text weighs the same.
        """
        chosen = part["labels"] != IGNORED
        smoothing = self.settings.label_smoothing
        each = functional.cross_entropy(
            outputs.float(), part["labels"][chosen], reduction="none", label_smoothing=smoothing
        )
        rows, length = part["labels"].shape
        text = (torch.arange(rows, device=chosen.device)[:, None] * length + part["blocks"].clamp(min=0))[chosen]
        lengths = torch.zeros(rows * length, device=chosen.device).index_add_(0, text, torch.ones_like(each))
        weight = lengths[text] ** -self.settings.length_weight
        return (each * weight).sum() / weight.sum()

    def condition(self, session: Session, values: Values, portion: Portion) -> Condition:
        """What the decoder writes from, for each row of the portion."""
        model, processor, part = session.model, session.processor, {"owner": portion.owner}
        if processor.text_tower:
            ids = [np.asarray(processor.read(self.prompt(values, row)), dtype=np.int64) for row in portion.rows]
            part["text_ids"], part["text_mask"] = (text.to(portion.owner.device) for text in pad_texts(ids, multiple=1))
        return model.condition(model.see(portion.batch, self.head(processor).reads), part)

    def predict(
        self, session: Session, values: Values, portion: Portion, sampling: Sampling | None = None
    ) -> list[Prediction]:
        """The texts that the decoder writes."""
        condition = self.condition(session, values, portion)
        prompts = [self.ask(values, row, session.processor) for row in portion.rows]
        sampling = sampling or Sampling(max_new_tokens=self.settings.max_new_tokens)
        decode = session.processor.tokenizer.decode
        predictions = [
            Prediction(self.said(decode(text.ids)), float(np.exp(text.logprob)))
            for text in session.write(prompts, condition, sampling)
        ]
        if self.judges_likelihood:
            return self.with_likelihoods(session, values, portion.rows, condition, predictions)
        return predictions

    def with_likelihoods(
        self,
        session: Session,
        values: Values,
        rows: Sequence[int],
        condition: Condition,
        predictions: Sequence[Prediction],
    ) -> list[Prediction]:
        """The same; those of rows with a true text also hold its log-probability and its number of tokens."""
        processor, predictions = session.processor, list(predictions)
        known = [place for place, row in enumerate(rows) if self.judgeable(values, row)]
        if not known:
            return predictions
        scored = score(
            session.model,
            [self.ask(values, rows[place], processor) for place in known],
            [[self.reply(values, rows[place], self.targets(values, rows[place])[0], processor)] for place in known],
            condition=condition.select(torch.tensor(known, device=session.model.device)),
            vocab_size=processor.tokenizer.vocab_size,
        )
        for place, (text,) in zip(known, scored, strict=True):
            extra = {"logprob": text.logprob, "tokens": text.tokens}
            predictions[place] = replace(predictions[place], extra=extra)
        return predictions

    def explanation_targets(self, example: Example, target: Target) -> None:
        """Each word of the answer."""
        texts, prompt = self.prompt_texts(example)
        places = place_prompt(example, texts, prompt)
        answer, target = self.explained_answer(example, prompt, target)
        question = self.prompt(example.values, 0) if example.session.processor.text_tower else None
        set_word_goals(example, prompt, places, answer, target, question=question, key=self.answer_key)

    def prompt_texts(self, example: Example) -> tuple[list[str], list[int]]:
        """The texts of the prompt, and the ids that the answer goes on from."""
        turns = self.messages(example.values, 0)
        plain = self.settings.layout == "plain"
        texts = [layout.plain_text(turns)] if plain else [str(turn["content"]) for turn in turns]
        return texts, self.ask(example.values, 0, example.session.processor)

    def explained_answer(self, example: Example, prompt: list[int], target: Target) -> tuple[list[int], Target]:
        """The ids of the text that is explained, and which word of it; None: all."""
        owner = torch.zeros(1, dtype=torch.long, device=example.model.device)
        condition = self.condition(example.session, example.values, Portion([0], example.batch(), owner))
        most = self.explained_tokens or min(self.settings.max_new_tokens, MOST_TOKENS)
        first_line = self.settings.layout == "plain"
        return likeliest_answer(example, condition, prompt, most, first_line=first_line), target

    def notes(self, values: Values, rows: Sequence[int], processor: TextProcessor) -> list[str]:
        """How many prompts and answers are longer than ``text.max_length``; texts that cannot be written."""
        most, cut = processor.max_length, 0
        for row in rows:
            texts = [*(str(turn["content"]) for turn in self.messages(values, row)), *self.targets(values, row)]
            # A token is at least one byte long, so that most texts need not be looked at.
            long = [text for text in texts if len(text.encode()) > most]
            cut += any(len(processor.tokenizer.encode(text)) > most for text in long)
        notes = self.unwritable(values, rows, processor)
        if cut:
            message = (
                f"task {self.name}: {cut} of {len(rows)} rows hold a text of more than {most} tokens, which is cut"
            )
            notes.insert(0, message)
        return notes

    def unwritable(self, values: Values, rows: Sequence[int], processor: TextProcessor) -> list[str]:
        """Texts to be written that the tokenizer cannot give back as they are, in a sample of the rows."""
        step = max(1, len(rows) // _MOST_READ_BACK)
        texts = [text for row in rows[::step] for text in self.targets(values, row)]
        pairs = [(text.strip(), processor.tokenizer.decode(processor.tokenizer.encode(text)).strip()) for text in texts]
        changed = [(text, read) for text, read in pairs if unicodedata.normalize("NFC", text) != read]
        if not changed:
            return []
        text, read = min(changed, key=lambda pair: len(pair[0]))
        shown = f"{text[:60]!r} is learned as {read[:60]!r}"
        return [f"task {self.name}: the tokenizer changes {len(changed)} of {len(texts)} texts to be written: {shown}"]

    def plain_text(self, values: Values, row: int) -> str | None:
        """The prompt."""
        return self.prompt(values, row)

    def plain(
        self, values: Values, rows: Sequence[int], known: Values, train_rows: Sequence[int], features: Features
    ) -> tuple[list[Prediction], str] | None:
        """Logistic regression on the commonest texts where they are few; else the nearest training row's text."""
        texts = [self.targets(known, row)[0] for row in train_rows]
        different = sorted(set(texts))
        if len(different) <= min(FEW, len(texts) // 2):
            chances = classes_of(features, texts, different)
            lines = [Prediction(different[int(row.argmax())], float(row.max())) for row in chances]
            return lines, f"linear model on {features.name}"
        lines = [Prediction(texts[at]) for at in nearest(features)]
        return lines, f"text of the nearest training row by {features.name}"

    def truth(self, values: Values, row: int) -> Any:
        """The first right text."""
        return (self.targets(values, row) or [""])[0]

    def types(self, values: Values, rows: Sequence[int]) -> list[str] | None:
        """The type of each row's question, where there is such a column."""
        if "type" not in values:
            return None
        return ["" if missing(values["type"][row]) else str(values["type"][row]) for row in rows]


def writing_task(task: Task | None) -> WritingTask:
    """A task as one that writes. Raises DataError: it does not."""
    if not isinstance(task, WritingTask):
        name = "none" if task is None else f"'{task.name}'"
        raise DataError("the model", "a task that writes", name, "name a task that writes")
    return task


def share_rows(items: list[Item]) -> list[Item]:
    """Lay short texts end to end in rows, the blocks numbered anew; nothing changes but how much is padding.

    Rows are as long as leaves the least padding, and no longer than the longest text or ``ROW``: attention costs more
    in long rows. Which texts meet is a function of their lengths alone.
    """
    lengths = [len(item["input_ids"]) for item in items]
    least = pad_to(max(lengths), 16)
    tried = [fitted(lengths, size) for size in range(least, max(least, ROW) + 1, 16)]
    best = min(tried, key=lambda rows: len(rows) * pad_to(max(sum(lengths[i] for i in row) for row in rows), 16))
    return [joined([items[place] for place in row]) for row in best]


def fitted(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Deal lengths to rows of ``size``: first fit, the longest first. Gives the places in each row."""
    rows: list[list[int]] = []
    room: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        row = next((number for number, free in enumerate(room) if free >= lengths[place]), None)
        if row is None:
            row = len(rows)
            rows.append([])
            room.append(size)
        rows[row].append(place)
        room[row] -= lengths[place]
    return rows


def joined(items: list[Item]) -> Item:
    """Items end to end as one, their blocks numbered on."""
    if len(items) == 1:
        return items[0]
    whole = {name: np.concatenate([item[name] for item in items]) for name in ("input_ids", "labels", "positions")}
    blocks, following = [], 0
    for item in items:
        blocks.append(item["blocks"] + following)
        following += int(item["blocks"].max()) + 1
    return {**whole, "blocks": np.concatenate(blocks)}


def stack(arrays: list[NDArray[Any]], length: int, fill: int) -> Tensor:
    """R arrays padded on the right with ``fill`` -> (R, length)."""
    out = torch.full((len(arrays), length), fill, dtype=torch.long)
    for row, array in enumerate(arrays):
        out[row, : len(array)] = torch.from_numpy(array)
    return out
