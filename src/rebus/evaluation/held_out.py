"""Language models judged on text they were not trained on: a Run's held-out documents, or any texts."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rebus.data.corpus import Documents, Shards
from rebus.errors import DataError
from rebus.inference.predictor import Predictor
from rebus.recipe import TaskSettings
from rebus.tasks import Lm, TaskScore
from rebus.tasks.base import Values
from rebus.tasks.likelihood import LikelihoodTask
from rebus.tasks.lm import foreseen_texts

JUDGED = 262_144  # held-out tokens that a model is judged on, at most
COUNTED = 50_000_000  # training tokens that the baseline counts, at most
_PIECE = 1 << 20


def held_out(shards: Shards) -> Documents | None:
    """The documents that a model is judged on: the test split, else valid; None where there is neither."""
    name = next((name for name in ("test", "valid") if name in shards.splits), None)
    return None if name is None else shards.documents(name)


def judge_held_out(
    predictor: Predictor, task: LikelihoodTask, shards: Shards
) -> tuple[TaskScore | None, dict[str, Any]]:
    """Figures on held-out documents beside the token frequencies', and facts for the report.

    Returns:
        None and no facts where nothing was held out.
    """
    documents = held_out(shards)
    if documents is None:
        return None, {"judged_on": "nothing: no text was held out"}
    chosen = spread(documents, JUDGED)
    tokenizer = predictor.processor.tokenizer
    texts = [tokenizer.decode(documents[place][:-1].tolist()) for place in chosen]
    values: Values = {"text": texts}
    message = task.foresee(predictor, texts, range(len(texts)))
    naive, name = task.from_counts(texts, token_counts(shards, tokenizer.vocab_size), tokenizer)
    size = sum(len(text.encode()) for text in texts)
    facts = {
        "judged_on": documents.split,
        "judged": {"documents": len(texts), "of": len(documents), "bytes": size},
        "packers": packed_sizes(texts),
    }
    return task.compared(values, range(len(texts)), message, naive, name), facts


def judge_texts(predictor: Predictor, texts: Sequence[str]) -> TaskScore:
    """How well a language model foresees any texts, beside the best of three compressors.

    Raises:
        DataError: there is no text, or the model does not write.
    """
    if not texts:
        raise DataError("the text", "something to judge the model on", "nothing", "name other files")
    packed = packed_sizes(texts)
    best = min(packed, key=lambda name: packed[name])
    values: Values = {"text": texts}
    message = foreseen_texts(predictor, texts)
    score = Lm(TaskSettings(name="lm")).compared(values, range(len(texts)), message, [], "")
    score.baseline, score.baseline_name = {"bits_per_byte": packed[best]}, best
    return score


def packed_sizes(texts: Sequence[str]) -> dict[str, float]:
    """Bits per byte that compressors need for the texts: what a model that knows nothing of them has to beat."""
    whole = "\n".join(texts).encode()
    packers: dict[str, Callable[[bytes], bytes]] = {
        "gzip -9": gzip.compress,
        "bzip2 -9": bz2.compress,
        "xz -9": lambda data: lzma.compress(data, preset=9),
    }
    return {name: 8 * len(pack(whole)) / max(len(whole), 1) for name, pack in packers.items()}


def token_counts(shards: Shards, vocab_size: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """(V,) how often each token stands in the training text, or in the first part of a very long one."""
    documents = shards.documents("train")
    counts = np.zeros(vocab_size, dtype=np.int64)
    last = min(documents.tokens, COUNTED)
    for start in range(0, last, _PIECE):
        counts += np.bincount(documents.ids(start, min(start + _PIECE, last)), minlength=vocab_size)
    return counts


def spread(documents: Documents, tokens: int) -> list[int]:
    """Documents from all over a split that hold about so many tokens; all of them where they hold no more."""
    if documents.tokens <= tokens:
        return list(range(len(documents)))
    order = np.random.default_rng(0).permutation(len(documents))
    many = int(np.searchsorted(np.cumsum(documents.lengths[order]), tokens)) + 1
    return sorted(order[:many].tolist())
