"""How close generated text comes to what people wrote: BLEU, ROUGE-L, CIDEr-D, exact match.

Knows no model and no table: strings in, figures out. ROUGE-L, CIDEr-D and exact match compare ``words`` (case folded,
without punctuation; a CJK character is a word). BLEU is sacrebleu's, lower case, with its ``13a`` tokenizer, or its
``zh`` one (which cuts Chinese into characters) as soon as one reference holds a CJK character.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from rebus.tasks.metrics.answers import check_references
from rebus.tasks.metrics.intervals import Floats, Statistic, figures, mean_of
from rebus.tasks.metrics.words import has_cjk, words

_ORDERS = 4  # BLEU and CIDEr-D count sequences of one to four words
_ROUGE_BETA = 1.2  # weight of recall over precision in the captioning literature (Chen et al. 2015)
_CIDER_SIGMA = 6.0  # in words: how fast a difference in length costs


def caption_metrics(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Figures over N generated texts, each with one or more reference texts.

    Returns:
        ``bleu`` (0 to 100), ``rouge_l`` (0 to 1), ``cider_d`` (0 to 10), ``exact_match`` (0 to 1). A figure that cannot
        be computed is left out: CIDEr-D needs two items with different references.

    Raises:
        DataError: there are no items, or an item has no reference.
    """
    return figures(caption_statistics(predictions, references), len(predictions))


def caption_statistics(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, Statistic]:
    """The same figures as functions of item weights, for ``intervals.compare``.

    CIDEr-D's word weights stay those of the whole test set in every resample.
    """
    return {
        "bleu": bleu(predictions, references),
        "rouge_l": mean_of(rouge_l(predictions, references)),
        "cider_d": _mean_unless_undefined(cider_d(predictions, references)),
        "exact_match": mean_of(caption_matches(predictions, references)),
    }


def caption_matches(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
    """(N,) exact match: 1 where the prediction has the words of one of its references, in their order, else 0."""
    return np.array([float(text in known) for text, known in _pairs(predictions, references)])


def bleu(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    lowercase: bool = True,
    chinese: bool | None = None,
) -> Statistic:
    """Corpus BLEU (0 to 100) as a function of item weights.

    Args:
        predictions: (N,) texts.
        references: (N,) one or more right texts each.
        lowercase: whether case counts for nothing.
        chinese: whether to cut Chinese into characters; None: where any reference holds some.

    Source: Papineni et al. 2002, "BLEU: a Method for Automatic Evaluation of Machine Translation", as standardised by
    Post 2018, "A Call for Clarity in Reporting BLEU Scores". Where every text is shorter than four words, BLEU counts
    the orders that exist; elsewhere this is sacrebleu's plain corpus score.
    """
    from sacrebleu.metrics.bleu import BLEU

    if chinese is None:
        chinese = any(has_cjk(text) for known in references for text in known)
    scorer = BLEU(lowercase=lowercase, tokenize="zh" if chinese else "13a", effective_order=True)
    counts = np.zeros((len(predictions), 2 + 2 * _ORDERS))
    for row, (wording, known) in enumerate(zip(predictions, references, strict=True)):
        score = scorer.sentence_score(wording, list(known))
        counts[row] = [score.sys_len, score.ref_len, *score.counts, *score.totals]

    def of(weights: Floats) -> Floats:
        sums = np.rint(weights @ counts).astype(int)
        return np.array([_bleu_of(row.tolist()) for row in sums])

    def _bleu_of(row: list[int]) -> float:
        correct, total = row[2 : 2 + _ORDERS], row[2 + _ORDERS :]
        return BLEU.compute_bleu(correct, total, row[0], row[1], smooth_method="exp", effective_order=True).score

    return of


def rouge_l(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
    """(N,) ROUGE-L between 0 and 1, over the longest common subsequence of words.

    Source: Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries"; with several references, precision and
    recall are each the best over them and recall weighs 1.2 times, as in Chen et al. 2015, "Microsoft COCO Captions".
    """
    return np.array([_rouge_l(text, known) for text, known in _pairs(predictions, references)])


def cider_d(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
    """(N,) CIDEr-D between 0 and 10: agreement in sequences of words that are rare in the other items' references.

    Counts are clipped to the reference's, a difference in length costs ``exp(-d^2 / 72)``, and the mean is over orders
    1 to 4 and over references. All NaN where every sequence occurs in every item, which leaves nothing to weigh.

    Source: Vedantam, Zitnick and Parikh 2015, "CIDEr: Consensus-based Image Description Evaluation", section 5; term
    frequencies are plain counts, as in the authors' program.
    """
    cut = _pairs(predictions, references)
    pairs = [(_sequences(wording), [_sequences(text) for text in known]) for wording, known in cut]
    occurs_in: Counter[tuple[str, ...]] = Counter()
    for _, known in pairs:
        occurs_in.update({sequence for text in known for sequence in text})
    rarity = {sequence: math.log(len(pairs) / items) for sequence, items in occurs_in.items()}
    if not any(rarity.values()):
        return np.full(len(pairs), np.nan)
    unseen = math.log(len(pairs))
    scores = []
    for wording, known in pairs:
        mine = _weighted(wording, rarity, unseen)
        each = [_agreement(mine, _weighted(text, rarity, unseen), _length(wording) - _length(text)) for text in known]
        scores.append(10.0 * sum(each) / len(each))
    return np.array(scores)


def _pairs(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[tuple[list[str], list[list[str]]]]:
    pairs = zip(predictions, check_references(references), strict=True)
    return [(words(wording), [words(text) for text in known]) for wording, known in pairs]


def _mean_unless_undefined(values: Floats) -> Statistic:
    if np.isfinite(values).all():
        return mean_of(values)
    return lambda weights: np.full(len(weights), np.nan)


def _rouge_l(texts: list[str], known: list[list[str]]) -> float:
    precision = recall = 0.0
    for text in known:
        if not texts or not text:
            if texts == text:  # nothing was to be said and nothing was
                return 1.0
            continue
        common = _common_subsequence(texts, text)
        precision, recall = max(precision, common / len(texts)), max(recall, common / len(text))
    if not precision or not recall:
        return 0.0
    return (1 + _ROUGE_BETA**2) * precision * recall / (recall + _ROUGE_BETA**2 * precision)


def _common_subsequence(first: list[str], second: list[str]) -> int:
    # Bit-parallel (Hyyrö 2004, "Bit-parallel LCS-length computation revisited"): a zero bit marks a match so far.
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    everything = (1 << len(first)) - 1
    row = everything
    for word in second:
        matched = row & places.get(word, 0)
        row = (row + matched | row - matched) & everything
    return len(first) - row.bit_count()


def _sequences(text: list[str]) -> Counter[tuple[str, ...]]:
    orders = range(1, _ORDERS + 1)
    return Counter(tuple(text[at : at + order]) for order in orders for at in range(len(text) - order + 1))


def _length(sequences: Counter[tuple[str, ...]]) -> int:
    return sum(count for sequence, count in sequences.items() if len(sequence) == 1)


def _weighted(
    sequences: Counter[tuple[str, ...]], rarity: dict[tuple[str, ...], float], unseen: float
) -> list[dict[tuple[str, ...], float]]:
    vectors: list[dict[tuple[str, ...], float]] = [{} for _ in range(_ORDERS)]
    for sequence, count in sequences.items():
        vectors[len(sequence) - 1][sequence] = count * rarity.get(sequence, unseen)
    return vectors


def _agreement(
    texts: list[dict[tuple[str, ...], float]], meant: list[dict[tuple[str, ...], float]], difference: int
) -> float:
    total = 0.0
    for mine, theirs in zip(texts, meant, strict=True):
        norms = math.hypot(*mine.values()) * math.hypot(*theirs.values())
        if norms:
            shared = sum(min(weight, theirs[at]) * theirs[at] for at, weight in mine.items() if at in theirs)
            total += shared / norms
    return total / _ORDERS * math.exp(-(difference**2) / (2 * _CIDER_SIGMA**2))
