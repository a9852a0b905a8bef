"""Labels that training never saw count against the model, in every task that has labels."""

from __future__ import annotations

from typing import Any

import pytest

from rebus.recipe import TaskSettings
from rebus.tasks import TASKS, Prediction, Task


def fitted(name: str, known: dict[str, list[Any]], judged: dict[str, list[Any]]) -> tuple[Task, dict[str, Any]]:
    task = TASKS.get(name)(TaskSettings(name=name, columns={role: role for role in known}))
    task.fit(task.values(known), range(len(next(iter(known.values())))))
    return task, task.values(judged)


def test_tag_counts_a_label_that_no_prediction_can_name() -> None:
    texts = ["one", "two", "three", "four"]
    known = {"text": texts, "labels": ["pos|film", "neg|film", "pos", "neg"]}
    task, values = fitted(
        "tag", known, {"text": texts, "labels": ["pos|UNSEEN", "neg|UNSEEN", "pos|UNSEEN", "neg|UNSEEN"]}
    )
    right = [{"pos": 0.9, "neg": 0.1, "film": 0.1}, {"pos": 0.1, "neg": 0.9, "film": 0.1}] * 2
    told = [Prediction([max(one, key=lambda name: one[name])], 0.9, one) for one in right]
    assert task.unseen(values, range(4)) == {"UNSEEN": 4}
    found = task.quick_score(values, range(4), told)
    assert found["map"] == pytest.approx(2 / 3)  # pos and neg are perfect, UNSEEN is 0
    assert found["micro_f1"] == pytest.approx(2 / 3)  # 4 of 4 named are right, of 8
    assert found["macro_f1"] == pytest.approx(2 / 3)
    assert found["exact_match"] == 0.0

    alike = task.values({"text": texts, "labels": ["pos", "neg", "pos", "neg"]})
    assert task.quick_score(alike, range(4), told)["map"] == 1.0
    only = task.values({"text": texts, "labels": ["UNSEEN"] * 4})
    assert task.quick_score(only, range(4), told)["map"] == 0.0


def test_classify_counts_labels_by_what_they_say() -> None:
    texts = ["one", "two", "three", "four"]
    task, values = fitted(
        "classify", {"text": texts, "label": ["1", "0", " 1", "0"]}, {"text": texts, "label": [1.0, 0.0, "9", None]}
    )
    assert task.state()["labels"] == ["0", "1"]  # type: ignore[comparison-overlap]
    assert [task.judgeable(values, row) for row in range(4)] == [True, True, True, False]
    told = [Prediction("1", 1.0, {"1": 1.0}), Prediction("0", 1.0, {"0": 1.0}), Prediction("1", 1.0, {"1": 1.0})]
    assert list(task.right(values, range(3), told)) == [1.0, 1.0, 0.0]
    assert task.unseen(values, range(3)) == {"9": 1}


def test_patches_of_an_unseen_thing_are_things() -> None:
    def boxes(label: Any) -> list[dict[str, Any]]:
        return [{"label": label, "box": [0.0, 0.0, 0.5, 1.0]}]

    task, values = fitted(
        "patch_classify",
        {"image": ["a", "b"], "boxes": [boxes("cat "), boxes("dog")]},
        {"image": ["c", "d"], "boxes": [boxes("cat"), boxes("bird")]},
    )
    assert task.state()["labels"] == ["cat", "dog"]  # type: ignore[comparison-overlap]
    assert task.unseen(values, range(2)) == {"bird": 1}
    known = task.values({"image": ["a"], "boxes": [boxes("cat")]})
    naive, _ = task.naive(values, range(2), known, [0])
    assert [one.value for one in naive] == [1.0, 0.0]


def test_spans_of_an_unseen_label_are_missed() -> None:
    task, values = fitted(
        "ner",
        {"tokens": [["Ann", "sings"]], "tags": [["B-PER", "O"]]},
        {"tokens": [["Ann", "sings"], ["Rome", "sings"]], "tags": [["B-PER", "O"], ["B-LOC", "O"]]},
    )
    assert task.unseen(values, range(2)) == {"LOC": 1}
    told = [Prediction([{"start": 0, "end": 3, "label": "PER"}]), Prediction([])]
    assert task.quick_score(values, range(2), told)["recall"] == 0.5
