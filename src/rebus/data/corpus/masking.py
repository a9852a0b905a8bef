"""Whole words hidden from a masked language model. Knows no text: where words start was found when shards were made.

Source: Devlin et al. (2019), "BERT: Pre-training of Deep Bidirectional Transformers", whole-word masking as in its
later release; for Chinese Cui et al. (2019), "Pre-Training with Whole Word Masking for Chinese BERT".
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
IGNORED = -100  # a label that no loss reads, PyTorch's own convention


def mask_words(
    ids: Ids,
    starts: npt.NDArray[np.bool_],
    share: float,
    mask_id: int,
    vocab: int,
    rng: np.random.Generator,
    special: Collection[int] = (),
) -> tuple[Ids, Ids]:
    """Hide words until they hold ``share`` of the tokens, at least one word where there is one.

    Of the tokens of a hidden word 80% become ``mask_id``, 10% any id and 10% stay as they are; all are to be guessed.

    Args:
        ids: (n,) tokens.
        starts: (n,) whether a word starts there; the first token counts as a start.
        share: of the tokens, 0 to 1.
        mask_id: what hides a token.
        vocab: random ids are drawn below it.
        rng: decides everything; a pure function of (seed, epoch, index).
        special: ids that are never hidden nor drawn, such as eos and padding.

    Returns:
        what the model reads (n,), and labels (n,): the hidden token, or IGNORED.
    """
    word = np.cumsum(starts) - int(starts[0]) if len(ids) else np.zeros(0, dtype=np.int64)  # the word of each token
    plain = ~np.isin(ids, list(special)) if special else np.ones(len(ids), dtype=bool)
    sizes = np.bincount(word[plain], minlength=int(word[-1]) + 1 if len(word) else 0)
    labels = np.full(len(ids), IGNORED, dtype=np.int64)
    words = np.flatnonzero(sizes)
    if not len(words):
        return ids.copy(), labels
    order = rng.permutation(words)
    wanted = share * int(plain.sum())
    before = np.concatenate([np.zeros(1), np.cumsum(sizes[order])[:-1]])
    taken = before + sizes[order] / 2 <= wanted  # to the nearest word, so that the share is right on average
    taken[0] = True
    hidden = np.isin(word, order[taken]) & plain
    labels[hidden] = ids[hidden]
    chance = rng.random(len(ids))
    drawn = rng.integers(0, vocab, len(ids))
    if special:
        drawn = np.where(np.isin(drawn, list(special)), mask_id, drawn)
    read = np.where(hidden & (chance < 0.8), mask_id, ids)
    return np.where(hidden & (chance >= 0.8) & (chance < 0.9), drawn, read), labels
