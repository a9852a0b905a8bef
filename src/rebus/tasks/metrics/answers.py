"""How often a short answer is right: exact match and the soft accuracy of visual question answering.

Knows no model and no table. Answers are compared after ``normalise_answer``: without case, articles, punctuation and
number words.
"""

# ruff: noqa: S101 - asserts hold what callers promise, never what users wrote

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rebus.errors import DataError
from rebus.tasks.metrics.intervals import Floats, Statistic, figures, mean_of
from rebus.tasks.metrics.words import normalise_answer

_AGREE = 3  # people who must have given an answer for it to count in full
_LEAVE_ONE_OUT = 10  # from this many people on, each is compared with the others


@dataclass(frozen=True)
class AnswerFigures:
    """What ``answer_metrics`` found, all between 0 and 1.

    Attributes:
        overall: ``exact_match`` and, where an item has several references, ``vqa_accuracy``; with types also
            ``exact_match_over_types`` and ``vqa_accuracy_over_types``, their means over types, each weighing the same.
        by_type: ``{type: {"exact_match": ..., "vqa_accuracy": ..., "count": ...}}`` in the sorted order of the types.
    """

    overall: dict[str, float]
    by_type: dict[str, dict[str, float]] = field(default_factory=dict)


def answer_metrics(
    predictions: Sequence[str], references: Sequence[Sequence[str]], types: Sequence[str] | None = None
) -> AnswerFigures:
    """Figures over N answers, each with one or more people's answers and perhaps a type of question.

    Raises:
        DataError: there are no items, or an item has no reference.
    """
    answer_figures = AnswerFigures(figures(answer_statistics(predictions, references, types), len(predictions)))
    if types is not None:
        exact, soft = answer_scores(predictions, references), vqa_scores(predictions, references)
        for name, at in rows_by_type(types).items():
            means = {"exact_match": float(exact[at].mean()), "vqa_accuracy": float(soft[at].mean())}
            answer_figures.by_type[name] = {**means, "count": len(at)}
    return answer_figures


def answer_statistics(
    predictions: Sequence[str], references: Sequence[Sequence[str]], types: Sequence[str] | None = None
) -> dict[str, Statistic]:
    """The overall figures as functions of item weights, for ``intervals.compare``; the soft accuracy only where an item
    has several people's answers.
    """
    each = {"exact_match": answer_scores(predictions, references)}
    if any(len(known) > 1 for known in references):  # of one person's answers it is exact match again
        each["vqa_accuracy"] = vqa_scores(predictions, references)
    entries = {name: mean_of(values) for name, values in each.items()}
    if types is not None:
        entries |= {f"{name}_over_types": mean_over_types(values, types) for name, values in each.items()}
    return entries


def answer_scores(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
    """(N,) exact match: 1 where the answer equals one of its references after normalisation, else 0."""
    return np.array([float(text in known) for text, known in _normalised(predictions, references)])


def vqa_scores(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
    """(N,) soft accuracy: ``min(people who said so / 3, 1)``.

    With ten or more people it is the mean over leaving each of them out; with fewer than three, all of them must have
    said so, so that one reference gives exact match.

    Source: Antol et al. 2015, "VQA: Visual Question Answering", and its evaluation program.
    """
    return np.array([_soft(known.count(text), len(known)) for text, known in _normalised(predictions, references)])


def mean_over_types(values: Floats, types: Sequence[str]) -> Statistic:
    """The mean over types of the per-type means of ``values`` (N,); types that a resample lacks are left out of it."""
    places = list(rows_by_type(types).values())

    def of(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            means = np.stack([weights[:, at] @ values[at] / weights[:, at].sum(1) for at in places])
        known = np.isfinite(means)
        return np.asarray(np.where(known, means, 0.0).sum(0) / known.sum(0))

    return of


def rows_by_type(types: Sequence[str]) -> dict[str, list[int]]:
    """Row numbers of each type, in the sorted order of the types."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(types):
        rows[name].append(row)
    return dict(sorted(rows.items()))


def _soft(matches: int, people: int) -> float:
    if people < _LEAVE_ONE_OUT:
        return min(matches / min(_AGREE, people), 1.0)
    left_out_agreed = min(max(matches - 1, 0) / _AGREE, 1.0)
    left_out_disagreed = min(matches / _AGREE, 1.0)
    return (matches * left_out_agreed + (people - matches) * left_out_disagreed) / people


def _normalised(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[tuple[str, list[str]]]:
    pairs = zip(predictions, check_references(references), strict=True)
    return [(normalise_answer(wording), [normalise_answer(text) for text in known]) for wording, known in pairs]


def check_references(references: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    """``references`` as they are, each item having a list of its own.

    Raises:
        DataError: an item has no reference.
    """
    for number, known in enumerate(references):
        assert not isinstance(known, str), "each item needs a list of references"
        if not known:
            raise DataError(
                where=f"evaluation, item {number + 1} of {len(references)}",
                expected="at least one right text to compare with",
                found="none",
                do="leave rows without one out of the table, or fill them in",
            )
    return references
