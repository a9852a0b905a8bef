"""Exact match and F1 of answers that stand in a passage: SQuAD's definition, and CMRC's where the answer is Chinese.

Sources: Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text"; Cui et al. 2019, "A
Span-Extraction Dataset for Chinese Machine Reading Comprehension" (words of other scripts are cut at spaces here, where
its program uses NLTK). Knows no model.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from rebus.tasks.metrics.intervals import Floats, Statistic, figures, mean_of
from rebus.tasks.metrics.words import has_cjk

_ARTICLE = re.compile(r"\b(a|an|the)\b")
_MARKS = frozenset(string.punctuation)
_CMRC_MARKS = frozenset("-:_*^/\\~`+=，。：？！“”；’《》…·、「」（）－～『』")
_HAN = re.compile("[\u4e00-\u9fa5]")


def extract_metrics(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """``exact_match`` and ``f1`` over N answers. Raises DataError where there are none."""
    return figures(extract_statistics(predictions, references), len(predictions))


def extract_statistics(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, Statistic]:
    """The same as functions of the rows' weights, for ``intervals.compare``."""
    exact, f1 = extract_scores(predictions, references)
    return {"exact_match": mean_of(exact), "f1": mean_of(f1)}


def extract_scores(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[Floats, Floats]:
    """(N,) exact match and (N,) F1, each the best over the row's right answers.

    A row without a right answer is one whose question has none: "" is then right.
    """
    pairs = [
        [score(prediction, right) for right in (known or [""])]
        for prediction, known in zip(predictions, references, strict=True)
    ]
    return (
        np.array([max(exact for exact, _ in row) for row in pairs]),
        np.array([max(f1 for _, f1 in row) for row in pairs]),
    )


def score(text: str, right: str) -> tuple[float, float]:
    """Exact match and F1 of one answer against one right answer."""
    if has_cjk(right) or (not right.strip() and has_cjk(text)):
        return _scored(cmrc_words(text), cmrc_words(right), _longest_run)
    return _scored(squad_words(text), squad_words(right), _in_common)


def squad_words(text: str) -> list[str]:
    """Words in lower case, without ASCII punctuation and English articles."""
    bare = "".join(letter for letter in text.lower() if letter not in _MARKS)
    return _ARTICLE.sub(" ", bare).split()


def cmrc_words(text: str) -> list[str]:
    """Each Chinese character, and words of other scripts in lower case; CMRC's punctuation left out."""
    kept = "".join(letter for letter in text.lower() if letter not in _CMRC_MARKS)
    return _HAN.sub(lambda result: f" {result.group()} ", kept).split()


def _scored(texts: list[str], right: list[str], agree: Callable[[list[str], list[str]], int]) -> tuple[float, float]:
    exact = float(texts == right)
    if not texts or not right:
        return exact, exact
    common = agree(texts, right)
    return exact, 2 * common / (len(texts) + len(right))


def _in_common(texts: list[str], right: list[str]) -> int:
    return sum((Counter(texts) & Counter(right)).values())


def _longest_run(texts: list[str], right: list[str]) -> int:
    """Length of the longest run of words that both hold."""
    best, before = 0, [0] * (len(right) + 1)
    for word in texts:
        now = [0] * (len(right) + 1)
        for place, other in enumerate(right):
            if word == other:
                now[place + 1] = before[place] + 1
                best = max(best, now[place + 1])
        before = now
    return best
