from __future__ import annotations

import pytest

from rebus.errors import DataError
from rebus.tasks.baselines import (
    label_frequency,
    majority_class,
    mean_target,
    most_frequent_answer,
    most_frequent_caption,
)


def test_majority_class() -> None:
    assert majority_class(["cat", "dog", "dog"]) == "dog"
    assert majority_class(["dog", "cat"]) == majority_class(["cat", "dog"]) == "cat"


def test_label_frequency_and_mean() -> None:
    assert label_frequency([["a"], ["a", "b", "a"], []], ["b", "a", "c"]) == pytest.approx([1 / 3, 2 / 3, 0])
    assert mean_target([1.0, 2.0, 6.0], 2).tolist() == [3.0, 3.0]


def test_most_frequent_answer_per_question_then_type_then_script() -> None:
    questions = ["How many?", "how many", "how many", "what colour?", "is there a cat?", "is there a dog?", "有几个？"]
    answers = ["two", "2", "one", "red", "yes", "yes", "两个"]
    types = ["count", "count", "count", "colour", "exists", "exists", "count"]
    asked = ["HOW MANY?", "is there a bird?", "how many birds?", "有多少？", "who?", "谁？"]
    asked_types = ["count", "exists", "count", "count", "who", "who"]
    found = most_frequent_answer(questions, answers, asked, asked_types, types)
    assert found == ["2", "yes", "2", "两个", "2", "两个"]


def test_most_frequent_answer_without_types_and_with_several_answers() -> None:
    found = most_frequent_answer(["a?", "b?"], [["x", "x", "y"], ["y", "y"]], ["a?", "c?"])
    assert found == ["x", "y"]


def test_most_frequent_answer_does_not_depend_on_row_order() -> None:
    one = most_frequent_answer(["q", "q"], ["b", "a"], ["q"])
    assert one == most_frequent_answer(["q", "q"], ["a", "b"], ["q"]) == ["a"]


def test_most_frequent_caption_prefers_frequency_then_common_words() -> None:
    assert most_frequent_caption(["a dog", "a cat", "a cat"], 2) == ["a cat", "a cat"]
    assert most_frequent_caption(["zebra zigzags", "a red cat", "a red dog", "a red cat runs"], 1) == ["a red cat"]


def test_most_frequent_caption_by_group() -> None:
    captions, languages = ["a cat", "a cat", "一只猫"], ["en", "en", "zh"]
    found = most_frequent_caption(captions, 3, train_groups=languages, groups=["zh", "en", "fr"])
    assert found == ["一只猫", "a cat", "a cat"]


def test_nothing_to_learn_from_is_a_users_mistake() -> None:
    for call in (
        lambda: majority_class([]),
        lambda: label_frequency([], ["a"]),
        lambda: mean_target([], 1),
        lambda: most_frequent_caption([], 1),
        lambda: most_frequent_answer([], [], ["q"]),
    ):
        with pytest.raises(DataError, match="training rows"):
            call()
