"""What a trained model finds likely: choices of a question, true answers, whole texts.

The tasks say what is asked and what could be said; ``generation.score`` adds up the log-probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from rebus.errors import DataError
from rebus.generation.score import score
from rebus.models.batch import Batch
from rebus.models.fusion import Condition
from rebus.tasks import Choose, Prediction
from rebus.tasks.base import Values
from rebus.tasks.layout import opened
from rebus.tasks.writing import WritingTask, stack

if TYPE_CHECKING:
    from rebus.inference.predictor import Predictor


def condition_of(
    predictor: Predictor,
    task: WritingTask,
    values: Values,
    rows: Sequence[int],
    batch: Batch,
    owner: torch.Tensor,
) -> Condition:
    """What the decoder writes from, for each of R rows; ``owner`` (R,) is the place of its image in the batch."""
    model, processor = predictor.model, predictor.processor
    part = {"owner": owner}
    if processor.text_tower:
        read = [np.asarray(processor.read(task.prompt(values, row)), dtype=np.int64) for row in rows]
        part["text_ids"] = stack(read, max(len(ids) for ids in read), 0).to(owner.device)
        lengths = torch.tensor([len(ids) for ids in read], device=owner.device)
        part["text_mask"] = torch.arange(part["text_ids"].shape[1], device=owner.device)[None] < lengths[:, None]
    return model.condition(model.see(batch) if task.uses_image else {}, part)


def choose(
    predictor: Predictor, task: Choose, values: Values, rows: Sequence[int], condition: Condition
) -> list[Prediction]:
    """The likeliest choice of each of R rows, which the condition is of."""
    processor = predictor.processor
    found = score(
        predictor.model,
        [task.ask(values, row, processor) for row in rows],
        [task.continuations(values, row, processor) for row in rows],
        condition=condition,
        vocab_size=processor.tokenizer.vocab_size,
    )
    return [task.chosen(values, row, [one.logprob for one in told]) for row, told in zip(rows, found, strict=True)]


def with_likelihoods(
    predictor: Predictor,
    task: WritingTask,
    values: Values,
    rows: Sequence[int],
    condition: Condition,
    predictions: Sequence[Prediction],
) -> list[Prediction]:
    """The same predictions; those of rows with a true text also hold its log-probability and its number of tokens."""
    processor, told = predictor.processor, list(predictions)
    known = [place for place, row in enumerate(rows) if task.judgeable(values, row)]
    if not known:
        return told
    found = score(
        predictor.model,
        [task.ask(values, rows[place], processor) for place in known],
        [[task.reply(values, rows[place], task.targets(values, rows[place])[0], processor)] for place in known],
        condition=condition.select(torch.tensor(known, device=predictor.model.device)),
        vocab_size=processor.tokenizer.vocab_size,
    )
    for place, (one,) in zip(known, found, strict=True):
        told[place] = replace(told[place], extra={"logprob": one.logprob, "tokens": one.tokens})
    return told


@dataclass(frozen=True)
class TextScore:
    """How likely a text is.

    Attributes:
        logprob: sum of its tokens' log-probabilities (natural logarithm), the end of the text not among them.
        tokens: how many there are.
        bytes: of the text in UTF-8.
    """

    logprob: float
    tokens: int
    bytes: int


def score_texts(predictor: Predictor, texts: Sequence[str], *, most: int | None = None) -> list[TextScore]:
    """Every token of each text after those before it, as many as the model reads at once.

    A longer text is cut into windows, as lm-evaluation-harness cuts it: each token is scored once, the first of a
    window given the one before it, and the last window as long as the others.

    Args:
        predictor: the model.
        texts: any.
        most: tokens of a window; None: what the model reads at once.

    Raises:
        DataError: the model does not write.
    """
    model, processor = predictor.model, predictor.processor
    if model.decoder is None:
        raise DataError("the model", "a decoder, which foresees text", "none", "name a model that writes")
    most = most or reach(predictor)
    pieces: list[tuple[int, list[int], list[int]]] = []
    for place, text in enumerate(texts):
        ids = processor.tokenizer.encode(text)
        begun = [*opened([], processor)[-1:], *ids]  # a text begins after one token
        for start in range(0, len(ids), most):
            end = min(start + most, len(ids))
            pieces.append((place, begun[max(0, end - most) : start + 1], ids[start:end]))
    found = score(
        model,
        [given for _, given, _ in pieces],
        [[said] for _, _, said in pieces],
        vocab_size=processor.tokenizer.vocab_size,
    )
    sums, counts = [0.0] * len(texts), [0] * len(texts)
    for (place, _, _), (one,) in zip(pieces, found, strict=True):
        sums[place] += one.logprob
        counts[place] += one.tokens
    return [TextScore(sums[place], counts[place], len(text.encode())) for place, text in enumerate(texts)]


def reach(predictor: Predictor) -> int:
    """Most tokens the model reads at once as it did in training."""
    decoder = predictor.model.decoder
    if decoder is None:
        return 0
    if "lm" in predictor.tasks and decoder.settings.context is None:
        return min(predictor.recipe.corpus.block, decoder.max_length)
    return decoder.max_length
