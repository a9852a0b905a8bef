"""``lm``: text in, the rest of it out. Every token is foreseen from those before it.

As the only task, on raw text, it goes by the road of ``rebus.training.pretrain``; beside other tasks it reads a column.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rebus.catalogue import Note
from rebus.data import names
from rebus.data.declared import SHORT, Columns, Role
from rebus.generation.sampling import Sampling
from rebus.generation.write import write
from rebus.models.fusion import Condition
from rebus.models.heads import HeadSpec
from rebus.models.layout import IGNORED
from rebus.models.vlm import VisionLanguageModel
from rebus.nn import fused_cpu
from rebus.tasks.base import TASKS, ExampleKey, Item, Prediction, Values
from rebus.tasks.cells import as_text, missing
from rebus.tasks.explanation import Example
from rebus.tasks.layout import opened
from rebus.tasks.likelihood import LikelihoodTask, score_texts
from rebus.tasks.metrics.intervals import Statistic
from rebus.tasks.metrics.likelihood import Cost, lm_statistics
from rebus.tasks.session import Portion, Session
from rebus.tasks.text_processor import TextProcessor
from rebus.tasks.writing import WritingTask
from rebus.text.tokenizer import Tokenizer


@TASKS.register("lm")
class Lm(LikelihoodTask, WritingTask):
    """Columns: ``text``."""

    name = "lm"
    pipelines = ("text-generation", "text-generation")
    untrained = True
    lays_turns = False
    roles: ClassVar[dict[str, Role]] = {"text": Role(SHORT, names=names.TEXT)}
    last_resort = True
    watch = "bits_per_byte"
    higher_is_better = False
    continues = True
    explained_tokens = 16  # a text that goes on has no end of its own
    inputs = ()
    tokenizer: Tokenizer | None = None  # in whose pieces texts are counted

    @classmethod
    def suggestion(cls, columns: Columns) -> tuple[int, str] | None:
        """A table of nothing but text."""
        alone = len(columns.learnable) == 1 and columns.of("text") == columns.learnable
        return (160, Note("reason.one_column_of_text")) if alone else None

    @classmethod
    def find_columns(cls, columns: Columns) -> dict[str, str | None]:
        """The text."""
        return {"text": columns.text()}

    def question_values(self, text: str, system: str | None = None) -> Values:
        """The text."""
        return {"text": [text]}

    def head(self, processor: TextProcessor) -> HeadSpec:
        """A decoder that writes from nothing."""
        self.tokenizer = processor.tokenizer
        return HeadSpec("write", reads=())

    def prompt(self, values: Values, row: int) -> str:
        """Nothing: a text begins at its beginning."""
        return ""

    def targets(self, values: Values, row: int) -> list[str]:
        """The text."""
        return [] if "text" not in values or missing(values["text"][row]) else [as_text(values["text"][row])]

    def windows(self, text: str, processor: TextProcessor) -> list[tuple[list[int], list[int]]]:
        """A text in pieces of at most ``max_length`` tokens, as (what comes before a piece, the piece).

        The text begins after an end, and ends with one; a later piece is given the token before it.
        """
        tokenizer = processor.tokenizer
        ids = [*tokenizer.encode(text), tokenizer.eos_id]
        starts = range(0, len(ids), processor.max_length)
        return [([ids[at - 1] if at else tokenizer.eos_id], ids[at : at + processor.max_length]) for at in starts]

    def items(
        self, values: Values, rows: Sequence[int], processor: TextProcessor, key: ExampleKey | None
    ) -> list[Item]:
        """An item a window."""
        result: list[Item] = []
        for row in rows:
            for text in self.targets(values, row):
                for before, piece in self.windows(text, processor):
                    whole = np.asarray([*before, *piece], dtype=np.int64)
                    item: Item = {"input_ids": whole[:-1], "labels": whole[1:]}
                    item["blocks"] = np.zeros(len(piece), dtype=np.int64)
                    item["positions"] = np.arange(len(piece), dtype=np.int64)
                    result.append(item)
        return result

    def loss(self, outputs: Tensor, part: dict[str, Tensor]) -> Tensor:
        """Mean cross-entropy of the tokens: logits (N, V) at the N labelled positions."""
        labels = part["labels"][part["labels"] != IGNORED]
        if self.settings.label_smoothing == 0.0 and fused_cpu.applies(outputs):
            return fused_cpu.cross_entropy(outputs, labels)
        return functional.cross_entropy(outputs.float(), labels, label_smoothing=self.settings.label_smoothing)

    def predict(
        self, session: Session, values: Values, portion: Portion, sampling: Sampling | None = None
    ) -> list[Prediction]:
        """What each row's text costs; nothing where it has none."""
        return self.foresee(session, [(self.targets(values, row) or [""])[0] for row in portion.rows], portion.rows)

    def foresee(self, session: Session, texts: Sequence[str], numbers: Sequence[int]) -> list[Prediction]:
        """What each text costs a model that writes."""
        return foreseen_texts(session, texts)

    def prompt_texts(self, example: Example) -> tuple[list[str], list[int]]:
        """The text that is gone on from."""
        text = (self.targets(example.values, 0) or [""])[0]
        processor = example.session.processor
        return [text], opened(processor.tokenizer.encode(text), processor)

    def sample(self, model: VisionLanguageModel, processor: TextProcessor, text: str) -> str:
        """What the model writes from nothing."""
        tokenizer = processor.tokenizer
        sampling = Sampling(max_new_tokens=48, temperature=0.8, top_p=0.95)
        written = write(model, Condition(), [[tokenizer.eos_id]], sampling, eos_id=tokenizer.eos_id)
        return tokenizer.decode(written[0].ids).strip()

    def statistics(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> dict[str, Statistic]:
        """Bits per byte and perplexity."""
        return self.figures([prediction.extra["cost"] for prediction in predictions])

    def right(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> NDArray[np.float64]:
        """Bits per byte of each text."""
        return np.array([prediction.extra["cost"].bits_per_byte for prediction in predictions])

    def naive(
        self, values: Values, rows: Sequence[int], known: Values, train_rows: Sequence[int]
    ) -> tuple[list[Prediction], str]:
        """How often each token stands in the training texts, whatever comes before it."""
        assert self.tokenizer is not None  # noqa: S101 - the model was built
        seen = (text for row in train_rows for text in self.targets(known, row))
        counts = count_tokens((self.tokenizer.encode(text) for text in seen), self.tokenizer)
        return self.from_counts([(self.targets(values, row) or [""])[0] for row in rows], counts, self.tokenizer)

    def from_counts(
        self, texts: Sequence[str], counts: NDArray[np.int64], tokenizer: Tokenizer
    ) -> tuple[list[Prediction], str]:
        """What texts cost whoever knows how often (V,) each token stands in the training texts."""
        price, message = token_prices(counts), []
        for text, ids in zip(texts, tokenizer.encode_many(texts), strict=True):
            message.append(priced(Cost(float(price[ids].sum()), len(ids), len(text.encode()))))
        return message, "token frequencies"

    def figures(self, costs: Sequence[Cost]) -> dict[str, Statistic]:
        """Bits per byte and perplexity of texts that cost this much."""
        return lm_statistics(costs)


def foreseen_texts(session: Session, texts: Sequence[str]) -> list[Prediction]:
    """What each text costs a model that writes, whatever it was trained for."""
    return [priced(Cost(-text.logprob, text.tokens, text.bytes)) for text in score_texts(session, texts)]


def priced(cost: Cost) -> Prediction:
    """What a text cost, as a prediction: its value is bits per byte, its confidence the mean token's probability."""
    mean = float(np.exp(-cost.nats / max(cost.tokens, 1)))
    return Prediction(round(cost.bits_per_byte, 4), mean, extra={"cost": cost})


def count_tokens(texts: Iterable[Sequence[int]], tokenizer: Tokenizer) -> NDArray[np.int64]:
    """(V,) how often each token stands in texts, their ends counted."""
    counts = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    for ids in texts:
        counts += np.bincount(np.asarray(ids, dtype=np.int64), minlength=len(counts))
        counts[tokenizer.eos_id] += 1
    return counts


def token_prices(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(V,) counts -> (V,) nats that each token costs whoever knows the counts; one is added to each."""
    prices: NDArray[np.float64] = np.log(float(counts.sum() + len(counts))) - np.log(counts + 1.0)
    return prices


def as_part(rows: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]], *, inner_mask: bool) -> dict[str, Tensor]:
    """Rows of a corpus as a batch part: (R, L) each, L the longest row.

    Args:
        rows: R times ids (n + 1,) and the document of each label (n,).
        inner_mask: whether a token sees its own document only.
    """
    length = max(len(blocks) for _, blocks in rows)
    part = {
        "input_ids": torch.zeros((len(rows), length), dtype=torch.long),
        "labels": torch.full((len(rows), length), IGNORED, dtype=torch.long),
        "blocks": torch.full((len(rows), length), -1, dtype=torch.long),
        "positions": torch.zeros((len(rows), length), dtype=torch.long),
    }
    for row, (ids, blocks) in enumerate(rows):
        many = len(blocks)
        part["input_ids"][row, :many] = torch.from_numpy(ids[:-1])
        part["labels"][row, :many] = torch.from_numpy(ids[1:])
        part["positions"][row, :many] = torch.from_numpy(places_in(blocks) if inner_mask else np.arange(many))
        part["blocks"][row, :many] = torch.from_numpy(blocks) if inner_mask else 0
    part["owner"] = torch.zeros(len(rows), dtype=torch.long)
    return part


def places_in(blocks: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) numbers of documents -> (n,) how far into its document each token stands in the row."""
    steps = np.arange(len(blocks))
    begins = np.concatenate([[True], blocks[1:] != blocks[:-1]]) if len(blocks) else np.zeros(0, dtype=bool)
    places: NDArray[np.int64] = steps - np.maximum.accumulate(np.where(begins, steps, 0))
    return places
