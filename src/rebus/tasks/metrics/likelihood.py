"""How well a model foresees text: bits per byte, perplexity, and of a masked model the share of words it guesses.

Knows no model: what each text cost it comes in, figures as functions of the texts' weights go out.
Letters: N texts, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rebus.tasks.metrics.intervals import Statistic


@dataclass(frozen=True)
class Cost:
    """What a text cost a model.

    Attributes:
        nats: sum of its tokens' negative log-probabilities, natural logarithm; the end of the text is not
            among them, as in lm-evaluation-harness.
        tokens: how many there are; of a masked model, the hidden ones.
        bytes: of the text in UTF-8.
        right: tokens that were the model's first guess.
    """

    nats: float
    tokens: int
    bytes: int
    right: int = 0

    @property
    def bits_per_byte(self) -> float:
        """Of this text alone."""
        return self.nats / math.log(2) / max(self.bytes, 1)


def bits_per_byte(logprobs: ArrayLike, sizes: ArrayLike) -> Statistic:
    """Bits that a model needs for each byte of text, as a Statistic; it does not depend on the tokenizer.

    Args:
        logprobs: (N,) the log-probability of each text, natural logarithm.
        sizes: (N,) its bytes in UTF-8.
    """
    nats, size = -np.asarray(logprobs, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    return lambda weights: weights @ nats / math.log(2) / (weights @ size)


def perplexity(logprobs: ArrayLike, tokens: ArrayLike) -> Statistic:
    """Exp of the mean negative log-probability of a token, as a Statistic; it depends on the tokenizer.

    Args:
        logprobs: (N,) the log-probability of each text, natural logarithm.
        tokens: (N,) how many tokens it has.
    """
    nats, many = -np.asarray(logprobs, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
    return lambda weights: np.exp(weights @ nats / (weights @ many))


def lm_statistics(costs: Sequence[Cost]) -> dict[str, Statistic]:
    """Bits per byte and perplexity of texts that cost this much."""
    logprobs, tokens, sizes = (
        [-cost.nats for cost in costs],
        [cost.tokens for cost in costs],
        [cost.bytes for cost in costs],
    )
    return {"bits_per_byte": bits_per_byte(logprobs, sizes), "perplexity": perplexity(logprobs, tokens)}


def mlm_statistics(costs: Sequence[Cost]) -> dict[str, Statistic]:
    """``masked_accuracy``, the share of hidden tokens that are guessed, and the perplexity of a hidden token."""
    tokens = np.array([cost.tokens for cost in costs], dtype=np.float64)
    right = np.array([cost.right for cost in costs], dtype=np.float64)
    logprobs = [-cost.nats for cost in costs]
    return {
        "masked_accuracy": lambda weights: weights @ right / (weights @ tokens),
        "perplexity": perplexity(logprobs, tokens),
    }
