from __future__ import annotations

import numpy as np
import pytest

from rebus.errors import DataError
from rebus.tasks.metrics import answer_metrics, answer_scores, vqa_scores
from rebus.tasks.metrics.answers import mean_over_types


@pytest.mark.parametrize(("agreeing", "expected"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_vqa_accuracy_of_ten_people_leaves_each_out(agreeing: int, expected: float) -> None:
    people = ["yes"] * agreeing + [f"other {number}" for number in range(10 - agreeing)]
    assert vqa_scores(["Yes."], [people])[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("people", "expected"),
    [(["red"], 1), (["blue"], 0), (["red", "blue"], 0.5), (["red", "blue", "green"], 1 / 3), (["red"] * 4 + ["x"], 1)],
)
def test_vqa_accuracy_of_few_people(people: list[str], expected: float) -> None:
    assert vqa_scores(["the red"], [people])[0] == pytest.approx(expected)


def test_one_reference_makes_it_exact_match() -> None:
    said, known = ["two", "红色。", "cat", "A"], [["2"], ["红色"], ["dog"], ["b"]]
    assert vqa_scores(said, known).tolist() == answer_scores(said, known).tolist() == [1, 1, 0, 0]


def test_metrics_by_type_weigh_types_equally() -> None:
    said = ["1", "1", "1", "yes"]
    known = [["1"], ["2"], ["3"], ["是", "yes"]]
    found = answer_metrics(said, known, ["count", "count", "count", "exists"])
    assert found.overall["exact_match"] == pytest.approx(2 / 4)
    assert found.overall["exact_match_over_types"] == pytest.approx((1 / 3 + 1) / 2)
    assert found.overall["vqa_accuracy"] == pytest.approx((1 + 0 + 0 + 0.5) / 4)
    assert found.overall["vqa_accuracy_over_types"] == pytest.approx((1 / 3 + 0.5) / 2)
    assert list(found.by_type) == ["count", "exists"]
    assert found.by_type["count"] == pytest.approx({"exact_match": 1 / 3, "vqa_accuracy": 1 / 3, "count": 3})
    assert found.by_type["exists"]["vqa_accuracy"] == pytest.approx(0.5)


def test_metrics_without_types() -> None:
    found = answer_metrics(["a cat"], [["cat"]])
    assert found.overall == {"exact_match": 1.0}, "of one person's answers the soft accuracy is exact match again"
    assert found.by_type == {}


def test_mean_over_types_leaves_out_a_type_that_a_resample_lacks() -> None:
    of = mean_over_types(np.array([1.0, 0.0, 1.0]), ["a", "a", "b"])
    assert of(np.array([[1.0, 1, 1], [2, 1, 0], [0, 0, 3]])).tolist() == pytest.approx([0.75, 2 / 3, 1.0])


def test_no_answers_is_a_users_mistake() -> None:
    with pytest.raises(DataError):
        answer_metrics([], [])


def test_an_item_without_reference_is_named() -> None:
    with pytest.raises(DataError, match="item 2 of 2"):
        answer_metrics(["a", "b"], [["a"], []])
