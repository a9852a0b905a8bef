"""How much of a text was written: chrF, F1 of words, and the figures of tasks that write to a prompt.

Knows no model and no table: strings in, figures out. See ``text_generation`` for BLEU and ROUGE-L.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from rebus.tasks.metrics.answers import check_references
from rebus.tasks.metrics.intervals import Floats, Statistic, mean_of
from rebus.tasks.metrics.text_generation import bleu, caption_matches, rouge_l
from rebus.tasks.metrics.words import cjk_share, words

_CHARACTERS = 6  # chrF counts sequences of one to six characters
_BETA = 2.0  # and weighs recall twice as much as precision


def writing_statistics(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, Statistic]:
    """Exact match, BLEU, chrF, ROUGE-L and F1 of words as functions of item weights, for ``intervals.compare``."""
    return {
        "exact_match": mean_of(caption_matches(predictions, references)),
        "bleu": bleu(predictions, references, lowercase=False, chinese=written_in_chinese(references)),
        "chrf": chrf(predictions, references),
        "rouge_l": mean_of(rouge_l(predictions, references)),
        "f1": mean_of(word_f1(predictions, references)),
    }


def translation_statistics(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, Statistic]:
    """BLEU, chrF and exact match."""
    result = writing_statistics(predictions, references)
    return {name: result[name] for name in ("bleu", "chrf", "exact_match")}


def written_in_chinese(references: Sequence[Sequence[str]]) -> bool:
    """Whether most letters of the references are Chinese or Japanese, which BLEU then cuts into characters."""
    return cjk_share(" ".join(text for known in references for text in known)) > 0.5


def chrf(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Statistic:
    """Corpus chrF (0 to 100) as a function of item weights: sacrebleu's, of one to six characters.

    Source: Popović 2015, "chrF: character n-gram F-score for automatic MT evaluation"; the counts are sacrebleu's, the
    best of several references by its own score.
    """
    counts = np.array(
        [_best(prediction, known) for prediction, known in zip(predictions, check_references(references), strict=True)]
    ).reshape(len(predictions), 3 * _CHARACTERS)

    def of(weights: Floats) -> Floats:
        return _f_score((weights @ counts).reshape(len(weights), _CHARACTERS, 3))

    return of


def word_f1(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
    """(N,) F1 of words between 0 and 1, the best over an item's references; a Chinese character is a word.

    Source: Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text", section 6.1.
    """
    pairs = zip(predictions, check_references(references), strict=True)
    return np.array([max(_word_f1(words(wording), words(text)) for text in known) for wording, known in pairs])


def _word_f1(texts: list[str], known: list[str]) -> float:
    if not texts or not known:
        return float(texts == known)
    common = sum((Counter(texts) & Counter(known)).values())
    return 2 * common / (len(texts) + len(known))


def _best(wording: str, known: Sequence[str]) -> Floats:
    """Counts (of the text, of the reference, of both) for each length, for the reference that fits best."""
    mine = _sequences(wording)
    rows = [_counts(mine, _sequences(text)) for text in known]
    scores = _f_score(np.array(rows, dtype=np.float64))
    return np.array(rows[int(scores.argmax())], dtype=np.float64).reshape(-1)


def _sequences(text: str) -> list[Counter[str]]:
    plain = "".join(text.split())
    return [
        Counter(plain[at : at + order] for at in range(len(plain) - order + 1)) for order in range(1, _CHARACTERS + 1)
    ]


def _counts(texts: list[Counter[str]], known: list[Counter[str]]) -> list[list[int]]:
    rows = []
    for mine, theirs in zip(texts, known, strict=True):
        both = sum(min(count, theirs[piece]) for piece, count in mine.items() if piece in theirs)
        rows.append([sum(mine.values()) if theirs else 0, sum(theirs.values()), both])
    return rows


def _f_score(counts: Floats) -> Floats:
    """(R, 6, 3) -> (R,): F of precision and recall, each the mean over the lengths that both sides have."""
    mine, theirs, both = counts[..., 0], counts[..., 1], counts[..., 2]
    there = (mine > 0) & (theirs > 0)
    orders = np.maximum(there.sum(-1), 1)
    precision = np.where(there, both / np.where(mine > 0, mine, 1.0), 0.0).sum(-1) / orders
    recall = np.where(there, both / np.where(theirs > 0, theirs, 1.0), 0.0).sum(-1) / orders
    below = _BETA**2 * precision + recall
    result: Floats = np.where(below > 0, 100 * (1 + _BETA**2) * precision * recall / np.where(below > 0, below, 1.0), 0)
    return result
