"""How likely a model finds whole texts: what tasks on raw text share, and the windows that long texts are cut into."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rebus.errors import DataError
from rebus.generation.score import score
from rebus.models.vlm import VisionLanguageModel
from rebus.tasks.base import Prediction, Task
from rebus.tasks.layout import opened
from rebus.tasks.metrics.intervals import Statistic
from rebus.tasks.metrics.likelihood import Cost
from rebus.tasks.session import Session
from rebus.tasks.text_processor import TextProcessor
from rebus.text.tokenizer import Tokenizer


class LikelihoodTask(Task):
    """A task on raw text, judged by what texts cost the model: it learns from documents without a table too."""

    reads_documents = True

    @abstractmethod
    def foresee(self, session: Session, texts: Sequence[str], numbers: Sequence[int]) -> list[Prediction]:
        """What each text costs the model; its number decides what is random."""

    @abstractmethod
    def from_counts(
        self, texts: Sequence[str], counts: NDArray[np.int64], tokenizer: Tokenizer
    ) -> tuple[list[Prediction], str]:
        """What texts cost whoever knows how often (V,) each token stands in the training texts, and its name."""

    @abstractmethod
    def sample(self, model: VisionLanguageModel, processor: TextProcessor, text: str) -> str:
        """What a model in training says, for people: of a text, or of nothing."""

    @abstractmethod
    def figures(self, costs: Sequence[Cost]) -> dict[str, Statistic]:
        """Figures of texts that cost this much."""


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


def score_texts(session: Session, texts: Sequence[str], *, most: int | None = None) -> list[TextScore]:
    """Every token of each text after those before it, as many as the model reads at once.

    A longer text is cut into windows, as lm-evaluation-harness cuts it: each token is scored once, the first of a
    window given the one before it, and the last window as long as the others.

    Args:
        session: the model.
        texts: any.
        most: tokens of a window; None: what the model reads at once.

    Raises:
        DataError: the model does not write.
    """
    model, processor = session.model, session.processor
    if model.decoder is None:
        raise DataError("the model", "a decoder, which foresees text", "none", "name a model that writes")
    most = most or reach(session)
    pieces: list[tuple[int, list[int], list[int]]] = []
    for place, text in enumerate(texts):
        ids = processor.tokenizer.encode(text)
        begun = [*opened([], processor)[-1:], *ids]  # a text begins after one token
        for start in range(0, len(ids), most):
            end = min(start + most, len(ids))
            pieces.append((place, begun[max(0, end - most) : start + 1], ids[start:end]))
    result = score(
        model,
        [given for _, given, _ in pieces],
        [[wording] for _, _, wording in pieces],
        vocab_size=processor.tokenizer.vocab_size,
    )
    sums, counts = [0.0] * len(texts), [0] * len(texts)
    for (place, _, _), (item,) in zip(pieces, result, strict=True):
        sums[place] += item.logprob
        counts[place] += item.tokens
    return [TextScore(sums[place], counts[place], len(text.encode())) for place, text in enumerate(texts)]


def reach(session: Session) -> int:
    """Most tokens the model reads at once as it did in training."""
    decoder = session.model.decoder
    if decoder is None:
        return 0
    if "lm" in session.tasks and decoder.settings.context is None:
        return min(session.recipe.corpus.block, decoder.max_length)
    return decoder.max_length
