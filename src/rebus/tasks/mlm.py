"""``mlm``: text with hidden words in, the hidden words out; read both ways by an encoder.

Whole words are hidden: in English between spaces and signs, in Chinese as jieba cuts them. As the
only task, on raw text, it goes by the road of ``rebus.training.pretrain``; beside other tasks it reads a column.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from rebus.catalogue import Note
from rebus.data import names
from rebus.data.corpus.masking import mask_words
from rebus.data.corpus.word_starts import starts_of_tokens, word_places
from rebus.data.declared import SHORT, Columns, Role
from rebus.errors import DataError, RunError
from rebus.generation.sampling import Sampling
from rebus.models.batch import Batch
from rebus.models.features import Features as Image
from rebus.models.heads import HeadSpec
from rebus.models.layout import IGNORED
from rebus.models.vlm import VisionLanguageModel
from rebus.tasks.answer_view import AnswerView
from rebus.tasks.base import TASKS, ExampleKey, Item, Prediction, Values
from rebus.tasks.cells import as_text, missing, pad_to
from rebus.tasks.cuts import cut
from rebus.tasks.explanation import Example, Goal, Target
from rebus.tasks.likelihood import LikelihoodTask
from rebus.tasks.lm import count_tokens, token_prices
from rebus.tasks.metrics.intervals import Statistic
from rebus.tasks.metrics.likelihood import Cost, mlm_statistics
from rebus.tasks.pieces import Places, units_of_text
from rebus.tasks.session import Portion, Session
from rebus.tasks.text_processor import TextProcessor
from rebus.tasks.word_goals import word_number, written_measure
from rebus.tasks.writing import stack
from rebus.text.tokenizer import MASK, Tokenizer

Hidden = tuple[NDArray[np.int64], NDArray[np.int64]]  # what the model reads, and labels


@TASKS.register("mlm")
class Mlm(LikelihoodTask):
    """Columns: ``text``."""

    name = "mlm"
    hides_words = True
    pipelines = ("fill-mask", "fill-mask")
    roles: ClassVar[dict[str, Role]] = {"text": Role(SHORT, names=names.TEXT)}
    watch = "masked_accuracy"
    specials = (MASK,)
    tower = "encoder"
    inputs = ("text",)
    share = 0.15  # of the tokens, to be guessed; the corpus road takes it from corpus.mask
    tokenizer: Tokenizer | None = None  # in whose pieces texts are counted

    @classmethod
    def find_columns(cls, columns: Columns) -> dict[str, str | None]:
        """The text."""
        return {"text": columns.text()}

    def question_values(self, text: str, system: str | None = None) -> Values:
        """The text."""
        return {"text": [text]}

    def head(self, processor: TextProcessor) -> HeadSpec:
        """A vocabulary a token.

        Raises:
            RunError: the tokenizer has no token that hides a word.
        """
        if processor.tokenizer.mask_id is None:
            do = "use one trained for this task, or a BERT's"
            raise RunError("the tokenizer", f"a token that hides words, such as {MASK}", "none", do)
        self.tokenizer = processor.tokenizer
        return HeadSpec("mask", processor.tokenizer.vocab_size, ("text",))

    def texts(self, values: Values, rows: Sequence[int]) -> list[str]:
        """The column's."""
        return [as_text(values["text"][row]) for row in rows if not missing(values["text"][row])]

    def hidden(self, text: str, processor: TextProcessor, key: Sequence[int]) -> list[Hidden]:
        """A text in windows of at most ``max_length`` tokens, words hidden as the key decides."""
        tokenizer = processor.tokenizer
        before, after = tokenizer.frame
        ids, offsets = tokenizer.encode_with_offsets(text)
        starts = starts_of_tokens(word_places(text), offsets)
        room = max(processor.max_length - len(before) - len(after), 1)
        result: list[Hidden] = []
        for number, at in enumerate(range(0, len(ids), room)):
            piece = np.asarray(ids[at : at + room], dtype=np.int64)
            rng = np.random.default_rng((*key, number))
            read, labels = hide(piece, starts[at : at + room], tokenizer, self.share, rng)
            ends = [np.asarray(part, dtype=np.int64) for part in (before, after)]
            ignored = [np.full(len(part), IGNORED, dtype=np.int64) for part in ends]
            result.append((np.concatenate([ends[0], read, ends[1]]), np.concatenate([ignored[0], labels, ignored[1]])))
        return result

    def items(
        self, values: Values, rows: Sequence[int], processor: TextProcessor, key: ExampleKey | None
    ) -> list[Item]:
        """An item a window."""
        texts = [(row, as_text(values["text"][row])) for row in rows if not missing(values["text"][row])]
        return [
            {"text_ids": read, "labels": labels}
            for row, text in texts
            for read, labels in self.hidden(text, processor, (*(key or (0, 0, 0)), row))
        ]

    def collate(self, items: list[Item], owner: list[int]) -> dict[str, Tensor]:
        """Pad on the right."""
        return {**masked_part([(item["text_ids"], item["labels"]) for item in items]), "owner": torch.tensor(owner)}

    def loss(self, outputs: Tensor, part: dict[str, Tensor]) -> Tensor:
        """Mean cross-entropy of the hidden tokens: logits (N, V) at the N labelled positions; 0 where there is none."""
        labels = part["labels"][part["labels"] != IGNORED]
        if not len(labels):
            return outputs.float().sum()
        return functional.cross_entropy(outputs.float(), labels, label_smoothing=self.settings.label_smoothing)

    def predict(
        self, session: Session, values: Values, portion: Portion, sampling: Sampling | None = None
    ) -> list[Prediction]:
        """How each row's hidden words are guessed; which are hidden depends on the row's number only."""
        texts = [(self.texts(values, [row]) or [""])[0] for row in portion.rows]
        return self.foresee(session, texts, portion.rows)

    @torch.inference_mode()
    def foresee(self, session: Session, texts: Sequence[str], numbers: Sequence[int]) -> list[Prediction]:
        """How the hidden words of each text are guessed; its number decides which are hidden."""
        flat = [
            (place, hidden)
            for place, text in enumerate(texts)
            for hidden in self.hidden(text, session.processor, (0, 0, 0, numbers[place]))
        ]
        flat.sort(key=lambda entry: len(entry[1][0]))  # texts of like length together
        nats, tokens, right = (np.zeros(len(texts)) for _ in range(3))
        for start in range(0, len(flat), session.batch_size):
            portion = flat[start : start + session.batch_size]
            part = masked_part([hidden for _, hidden in portion])
            places = torch.tensor([place for place, _ in portion])[:, None].expand_as(part["labels"])
            owners = places[part["labels"] != IGNORED].numpy()
            cost, first = foreseen(session.model, self.name, part)
            np.add.at(nats, owners, cost.numpy())
            np.add.at(right, owners, first.numpy())
            np.add.at(tokens, owners, 1)
        sizes = [len(text.encode()) for text in texts]
        message = zip(nats, tokens, sizes, right, strict=True)
        return [guessed(Cost(float(cost), int(many), size, int(hit))) for cost, many, size, hit in message]

    def answer_view(self, example: Example, outputs: Any, seen: Image | None) -> AnswerView:
        """What is likely at each hidden place."""
        chances = outputs.detach().float()[:, : example.session.processor.tokenizer.vocab_size].softmax(-1)
        facts = {"answer": example.answer, "count": len(chances)}
        return AnswerView("masked", facts, {"logits": ("(N, V)", outputs)}, chances=chances)

    def explanation_targets(self, example: Example, target: Target) -> None:
        """One word is hidden, the target or else the last one."""
        processor, device = example.session.processor, example.model.device
        tokenizer = processor.tokenizer
        text = (self.texts(example.values, [0]) or [""])[0]
        before, after = tokenizer.frame
        ids, offsets = tokenizer.encode_with_offsets(text)
        room = max(processor.max_length - len(before) - len(after), 1)
        ids, offsets = cut(ids, room, text, "start"), offsets[:room]
        units = [unit for unit in units_of_text(text, {"text_ids": list(offsets)}) if text[unit.start].isalnum()]
        if not units:
            raise DataError(f"task '{self.name}'", "a text of at least one word", "none", "give a text")
        words = [text[unit.start : unit.end] for unit in units]
        number = len(words) - 1 if target is None else word_number(words, target)
        hidden = units[number].members["text_ids"]
        assert tokenizer.mask_id is not None  # noqa: S101 - the head asked
        wanted = torch.tensor([ids[place] for place in hidden], device=device)
        read = [tokenizer.mask_id if place in hidden else unit for place, unit in enumerate(ids)]
        labels = torch.full((1, len(before) + len(ids) + len(after)), IGNORED, device=device)
        at = tuple(len(before) + place for place in hidden)
        labels[0, list(at)] = wanted
        example.text = text
        places: Places = [None if place in hidden else unit for place, unit in enumerate(offsets)]
        example.places["text_ids"] = [None] * len(before) + places + [None] * len(after)
        example.part |= {
            "text_ids": torch.tensor([[*before, *read, *after]], device=device),
            "text_mask": torch.ones_like(labels, dtype=torch.bool),
            "labels": labels,
            "owner": torch.zeros(1, dtype=torch.long, device=device),
        }
        logits = example.run().float()[:, : tokenizer.vocab_size]
        example.answer = tokenizer.decode(logits.argmax(-1).tolist()).strip()
        chance = float(logits.log_softmax(-1).gather(-1, wanted[:, None]).sum().exp())
        example.goals = [Goal(Note("target.hidden", number=number + 1, text=words[number]), chance, at)]
        sums = torch.ones(len(wanted), 1, device=device)
        example.measure = written_measure(wanted, sums, tokenizer.vocab_size)

    def sample(self, model: VisionLanguageModel, processor: TextProcessor, text: str) -> str:
        """The text with guesses beside its hidden tokens."""
        tokenizer = processor.tokenizer
        read, labels = self.hidden(text, processor, (0, 0, 0, 0))[0]
        logits = model(Batch.of_target(self.name, masked_part([(read, labels)])), [self.name])[self.name]
        guesses = iter(logits.argmax(-1).tolist())
        pieces = [
            tokenizer.piece(int(token))
            if label == IGNORED
            else f"[{tokenizer.piece(next(guesses))}|{tokenizer.piece(int(label))}]"
            for token, label in zip(read, labels, strict=True)
        ]
        return "".join(pieces)

    def statistics(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> dict[str, Statistic]:
        """The share of hidden tokens guessed, and perplexity."""
        return self.figures([prediction.extra["cost"] for prediction in predictions])

    def figures(self, costs: Sequence[Cost]) -> dict[str, Statistic]:
        """The share of hidden tokens guessed, and perplexity, of texts that cost this much."""
        return mlm_statistics(costs)

    def right(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> NDArray[np.float64]:
        """The share of each text's hidden tokens that is guessed."""
        costs = [prediction.extra["cost"] for prediction in predictions]
        return np.array([cost.right / max(cost.tokens, 1) for cost in costs])

    def naive(
        self, values: Values, rows: Sequence[int], known: Values, train_rows: Sequence[int]
    ) -> tuple[list[Prediction], str]:
        """The commonest token of the training texts, always; each token as likely as it is frequent there."""
        assert self.tokenizer is not None  # noqa: S101 - the model was built
        counts = count_tokens(map(self.tokenizer.encode, self.texts(known, train_rows)), self.tokenizer)
        return self.from_counts([as_text(values["text"][row]) for row in rows], counts, self.tokenizer)

    def from_counts(
        self, texts: Sequence[str], counts: NDArray[np.int64], tokenizer: Tokenizer
    ) -> tuple[list[Prediction], str]:
        """Guesses of whoever knows how often (V,) each token stands in the training texts."""
        counts = counts.copy()
        counts[tokenizer.eos_id] = 0
        price, common = token_prices(counts), int(counts.argmax())
        processor, message = TextProcessor(tokenizer, max_length=1 << 30), []
        for number, text in enumerate(texts):
            hidden = self.hidden(text, processor, (0, 0, 0, number))
            wanted = [int(label) for _, labels in hidden for label in labels[labels != IGNORED]]
            size, right = len(text.encode()), sum(label == common for label in wanted)
            message.append(guessed(Cost(float(price[wanted].sum()), len(wanted), size, right)))
        return message, "commonest token"


def guessed(cost: Cost) -> Prediction:
    """How a text's hidden tokens were guessed, as a prediction: the value is the share that was."""
    mean = float(np.exp(-cost.nats / max(cost.tokens, 1)))
    return Prediction(round(cost.right / max(cost.tokens, 1), 4), mean, extra={"cost": cost})


def hide(
    ids: NDArray[np.int64], starts: NDArray[np.bool_], tokenizer: Tokenizer, share: float, rng: np.random.Generator
) -> Hidden:
    """Hide whole words of (n,) tokens; special tokens are neither hidden nor drawn."""
    assert tokenizer.mask_id is not None  # noqa: S101 - the head asked
    special = {tokenizer.mask_id, tokenizer.pad_id, *tokenizer.eos_ids, *tokenizer.frame[0], *tokenizer.frame[1]}
    return mask_words(ids, starts, share, tokenizer.mask_id, tokenizer.vocab_size, rng, special)


def masked_part(items: Sequence[Hidden]) -> dict[str, Tensor]:
    """Rows with hidden words as a batch part: ``text_ids``, ``text_mask`` and ``labels``, (R, L) each."""
    length = pad_to(max(len(read) for read, _ in items))
    lengths = torch.tensor([len(read) for read, _ in items])
    return {
        "text_ids": stack([read for read, _ in items], length, 0),
        "labels": stack([labels for _, labels in items], length, IGNORED),
        "text_mask": torch.arange(length)[None, :] < lengths[:, None],
    }


@torch.inference_mode()
def foreseen(model: nn.Module, name: str, part: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """What the N labelled tokens of a batch part cost: nats (N,) float64, and whether each is the first guess (N,).

    Args:
        model: with a task ``name`` that gives logits.
        name: of the task.
        part: its tensors.
    """
    device = next(model.parameters()).device
    moved = {key: tensor.to(device) for key, tensor in part.items()}
    logits = model(Batch.of_target(name, moved), [name])[name]
    labels = moved["labels"][moved["labels"] != IGNORED]
    nats = functional.cross_entropy(logits.float(), labels, reduction="none").double()
    return nats.cpu(), (logits.argmax(-1) == labels).cpu()
