"""Which examples a report shows: the best, the most confident mistakes, the worst; of captions a drawn few."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from rebus.catalogue import translator
from rebus.report.contents import Example
from rebus.report.sections.subject import Looked
from rebus.tasks import Prediction

SHOWN = 6  # examples of each group
DRAWN = 12  # captions shown


def examples_of(looked: Looked, lang: str) -> list[Example]:
    """Examples of one task, group by group; a group that holds none is left out."""
    texts, task, message = translator("examples", lang), looked.task, looked.told
    marks = looked.marks
    near = nearness(looked)
    numbers, captions = task.answers == "number", task.asked_with == "image"
    groups: dict[str, list[int]]
    if numbers:
        order = np.argsort(marks, kind="stable")
        groups = {"close": order[:SHOWN].tolist(), "far": order[::-1][:SHOWN].tolist()}
    elif captions:  # word for word right is not what a caption has to be
        order = np.argsort(-near, kind="stable")
        spread = np.linspace(0, len(near) - 1, min(DRAWN, len(near))).round().astype(int).tolist()
        half = max(1, min(SHOWN, len(near) // 2))
        groups = {"best": order[:half].tolist(), "poor": order[::-1][:half].tolist(), "drawn": spread}
    else:
        sure = looked.surest
        mistaken = [i for i in sure if marks[i] < 1.0]
        wrong = mistaken[:SHOWN]
        rest = sorted((i for i in mistaken if i not in wrong), key=lambda i: (marks[i], near[i]))
        right = varied([i for i in sure if marks[i] >= 1.0], message)
        groups = {"right": right, "wrong": wrong, "worst": rest[:SHOWN]}
    examples = []
    for name, places in groups.items():
        group = texts("group", task=task.name, group=texts(name), rows=len(looked.rows))
        examples += [example_at(looked, place, group, marks=None if numbers or captions else marks) for place in places]
    return examples


def example_at(looked: Looked, place: int, group: str, marks: Any = None) -> Example:
    """One row as it is shown; ``marks`` None: right and wrong are no matter of yes or no."""
    answer, truth, _ = looked.shown[place]
    return Example(
        answer=shown(answer),
        truth=shown(truth),
        question=asked(looked, place),
        image=looked.source.image(looked.rows[place]),
        right=None if marks is None else bool(marks[place] >= 1.0),
        group=group,
        confidence=looked.told[place].confidence,
    )


def asked(looked: Looked, place: int) -> str:
    """The text that the model was given with a row."""
    return looked.task.asked_text(looked.source.values, looked.rows[place])


def nearness(looked: Looked) -> Any:
    """(N,) how near each answer is to the truth, 1 at most: the probability given to the true label, else the share of
    letters in common (Dice's coefficient of pairs of neighbouring letters).
    """
    result = []
    for prediction, (text, truth, _) in zip(looked.told, looked.shown, strict=True):
        if prediction.scores and isinstance(truth, str):
            result.append(prediction.scores.get(truth, 0.0))
            continue
        truths = truth if isinstance(truth, list | tuple) else [truth]
        result.append(max((_alike(shown(text), shown(item)) for item in truths), default=0.0))
    return np.asarray(result, dtype=np.float64)


def varied(places: list[int], predictions: list[Prediction]) -> list[int]:
    """At most ``SHOWN`` places, no answer shown twice before every answer was shown once."""
    seen: Counter[str] = Counter()
    ranked = []
    for place in places:
        answer = shown(predictions[place].value)
        ranked.append((seen[answer], place))
        seen[answer] += 1
    return [place for _, place in sorted(ranked, key=lambda pair: pair[0])[:SHOWN]]


def shown(value: Any) -> str:
    """A value as people read it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict) and "text" in value:
        return f"{value['text']} ({value['label']})" if "label" in value else str(value["text"])
    return ", ".join(shown(part) for part in value) if isinstance(value, (list, tuple)) else str(value)


def _alike(item: str, other: str) -> float:
    pairs, others = (Counter(text[i : i + 2] for i in range(max(len(text) - 1, 1))) for text in (item, other))
    return 2 * sum((pairs & others).values()) / max(sum(pairs.values()) + sum(others.values()), 1)
