"""Naive predictors that any model must beat: they look at the training answers and never at an image.

Knows no model and no table: training targets in, predictions out.

Letters: M training rows, N test rows, C labels.
"""

# ruff: noqa: S101 - asserts hold what callers promise, never what users wrote

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rebus.errors import DataError
from rebus.tasks.metrics.words import has_cjk, normalise_answer, words

Floats = NDArray[np.float64]


def majority_class(train_labels: Sequence[str]) -> str:
    """The commonest training label; among equally common ones the first in alphabetical order.

    Raises:
        DataError: there are no training rows.
    """
    if not train_labels:
        raise _nothing("labels")
    return _first(Counter(train_labels))


def label_frequency(train_labels: Sequence[Iterable[str]], labels: Sequence[str]) -> list[float]:
    """(C,) the share of training rows that have each of ``labels``; a row may have several.

    Raises:
        DataError: there are no training rows.
    """
    if not train_labels:
        raise _nothing("labels")
    counts = Counter(label for row in train_labels for label in set(row))
    return [counts[label] / len(train_labels) for label in labels]


def mean_target(train_targets: ArrayLike, rows: int) -> Floats:
    """(N,) the mean of the training targets, for every row.

    Raises:
        DataError: there are no training rows.
    """
    targets = np.asarray(train_targets, dtype=np.float64)
    if not len(targets):
        raise _nothing("numbers")
    return np.full(rows, targets.mean())


def most_frequent_caption(
    train_captions: Sequence[str],
    rows: int,
    *,
    train_groups: Sequence[Hashable] | None = None,
    groups: Sequence[Hashable] | None = None,
) -> list[str]:
    """(N,) the commonest training caption; among equally common ones, the one made of the commonest words.

    Args:
        train_captions: every caption of the training rows.
        rows: N.
        train_groups: a key for each training caption, e.g. its language; the choice is then made within the key.
        groups: a key for each row; one that training lacks gets the overall choice.

    Raises:
        DataError: there are no training rows.
    """
    if not train_captions:
        raise _nothing("captions")
    overall = _commonest(train_captions)
    if train_groups is None or groups is None:
        return [overall] * rows
    by_group: dict[Hashable, list[str]] = defaultdict(list)
    for group, caption in zip(train_groups, train_captions, strict=True):
        by_group[group].append(caption)
    chosen = {group: _commonest(captions) for group, captions in by_group.items()}
    assert len(groups) == rows, (len(groups), rows)
    return [chosen.get(group, overall) for group in groups]


def most_frequent_answer(
    train_questions: Sequence[str],
    train_answers: Sequence[str | Sequence[str]],
    questions: Sequence[str],
    types: Sequence[str] | None = None,
    train_types: Sequence[str] | None = None,
) -> list[str]:
    """(N,) the commonest training answer to the same question, whatever the image.

    A question that training lacks gets the commonest answer to its type, else to any question, each time preferring
    questions of the same script (Chinese or not), so that it is at least answered in its own language.

    Args:
        train_questions: (M,) training questions; compared without case and punctuation.
        train_answers: (M,) their answers, one or several people's.
        questions: (N,) questions to answer.
        types: (N,) their types.
        train_types: (M,) types of the training questions; both are needed to fall back on types.

    Raises:
        DataError: there are no training rows.
    """
    if not train_questions:
        raise _nothing("questions")
    counts: dict[Hashable, Counter[str]] = defaultdict(Counter)
    spelt: dict[tuple[Hashable, str], Counter[str]] = defaultdict(Counter)
    use_types = types is not None and train_types is not None
    for row, (question, answers) in enumerate(zip(train_questions, train_answers, strict=True)):
        kind = train_types[row] if use_types and train_types is not None else None
        for answer in [answers] if isinstance(answers, str) else answers:
            plain = normalise_answer(answer)
            for key in _keys(question, kind):
                counts[key][plain] += 1
                spelt[key, plain][answer] += 1
    best = {key: _first(spelt[key, _first(counter)]) for key, counter in counts.items()}
    items = []
    for row, question in enumerate(questions):
        kind = types[row] if use_types and types is not None else None
        items.append(next(best[key] for key in _keys(question, kind) if key in best))
    return items


def _keys(question: str, kind: str | None) -> list[Hashable]:
    script = "cjk" if has_cjk(question) else "other"
    keys: list[Hashable] = [("question", " ".join(words(question)))]
    if kind is not None:
        keys += [("type", kind, script), ("type", kind)]
    return [*keys, ("script", script), "any"]


def _first(counter: Counter[str]) -> str:
    # Equal counts: the first in alphabetical order, so that the baseline does not depend on the order of the rows.
    return min(counter, key=lambda answer: (-counter[answer], answer))


def _commonest(captions: Iterable[str]) -> str:
    counter = Counter(captions)
    top = max(counter.values())
    known = Counter(word for caption, count in counter.items() for word in set(words(caption)) for _ in range(count))

    def typical(caption: str) -> float:
        parts = words(caption)
        return sum(known[word] for word in parts) / len(parts) if parts else 0.0

    return min((caption for caption, count in counter.items() if count == top), key=lambda text: (-typical(text), text))


def _nothing(what: str) -> DataError:
    return DataError(
        where="the baseline",
        expected=f"{what} in the training rows",
        found="none",
        do="look at the split with `rebus data check`; training needs rows too",
    )
