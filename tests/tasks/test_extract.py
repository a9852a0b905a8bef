from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rebus.errors import DataError
from rebus.recipe import TaskSettings
from rebus.tasks import TextProcessor
from rebus.tasks.extract import Extract, best_span, closest_sentence
from rebus.tasks.metrics.extraction import cmrc_words, extract_metrics, score, squad_words
from rebus.text.tokenizer import Tokenizer
from rebus_words.reader import WordTokenizer

PASSAGE = "Anna Lee was born in New York in 1990. She moved to 北京市 in 2012, where she lives with a fox."
TOKENIZER = Tokenizer.train([PASSAGE] * 5, 420)
PROCESSORS = [
    TextProcessor(TOKENIZER, max_length=64),
    TextProcessor(TOKENIZER, WordTokenizer.train([PASSAGE], 60, "none"), max_length=64),
]
COLUMNS = {"question": "question", "passage": "passage", "answer": "answer", "start": "start"}


def task_on(**columns: list[Any]) -> tuple[Extract, dict[str, list[Any]]]:
    count = len(columns["passage"])
    values = {"question": ["Who?"] * count, **columns}
    task = Extract(TaskSettings(name="extract", columns={role: role for role in values}))
    task.fit(values, range(count))
    return task, values


def sure_of(windows: list[Any]) -> list[np.ndarray[Any, Any]]:
    """The numbers of a model that is sure of what each window was taught."""
    outputs = []
    for window in windows:
        numbers = np.zeros((len(window["text_ids"]), 2), dtype=np.float32)
        for side, place in enumerate(window["ends"]):
            numbers[place, side] = 20
        outputs.append(numbers)
    return outputs


@pytest.mark.parametrize("processor", PROCESSORS, ids=["pieces", "words"])
@pytest.mark.parametrize("answer", ["Anna Lee", "New York", "北京市", "2012", "a fox", "Anna", "fox."])
def test_what_is_taught_is_what_comes_back(answer: str, processor: TextProcessor) -> None:
    task, values = task_on(passage=[PASSAGE], answer=[answer])
    windows = task.windows(values, 0, processor, learn=True)
    told = task.predict_row(values, 0, windows, sure_of(windows))
    assert told.value == answer
    assert PASSAGE[told.extra["start"] : told.extra["end"]] == answer
    assert told.confidence > 0.99


def test_the_start_says_which_of_two_places_is_meant() -> None:
    task, values = task_on(passage=["in in in"], answer=["in"], start=[6])
    windows = task.windows(values, 0, PROCESSORS[0], learn=True)
    told = task.predict_row(values, 0, windows, sure_of(windows))
    assert told.extra == {"start": 6, "end": 8}


def test_an_answer_far_inside_a_long_passage_is_found() -> None:
    passage = "filler word " * 300 + "the code is 北京7 now " + "more words " * 300
    task, values = task_on(passage=[passage], answer=["北京7"])
    processor = TextProcessor(TOKENIZER, max_length=48)
    windows = task.windows(values, 0, processor, learn=True)
    assert len(windows) > 20
    assert all(len(window["text_ids"]) <= 48 for window in windows)
    assert sum(bool(window["ends"].any()) for window in windows) in (1, 2)
    assert task.predict_row(values, 0, windows, sure_of(windows)).value == "北京7"
    covered = {int(unit) for window in windows for unit in window["units"]}
    assert covered == set(range(max(covered) + 1))


def test_no_answer_is_said_only_where_training_had_none() -> None:
    task, values = task_on(passage=[PASSAGE] * 2, answer=["fox", ""])
    assert task.unanswerable
    windows = task.windows(values, 1, PROCESSORS[0], learn=True)
    assert all(not window["ends"].any() for window in windows)
    told = task.predict_row(values, 1, windows, sure_of(windows))
    assert told.value == ""
    assert told.confidence > 0.99
    always, values = task_on(passage=[PASSAGE], answer=["fox"])
    assert not always.unanswerable
    assert always.predict_row(values, 0, windows, sure_of(windows)).value != ""


def test_the_answer_is_never_taken_from_the_question() -> None:
    task, values = task_on(passage=["b c"], answer=["c"], question=["a a a a"])
    (window,) = task.windows(values, 0, PROCESSORS[0], learn=True)
    part = task.collate([window], [0])
    assert int(part["allowed"].sum()) == 3  # no answer, b, c
    outputs = torch.randn(*part["text_ids"].shape, 2)
    garbage = torch.where(part["allowed"][..., None], outputs, outputs + 1000 * torch.rand(*outputs.shape))
    assert torch.allclose(task.loss(outputs, part), task.loss(garbage, part))
    assert part["segment_ids"][0, 0] == 0
    assert part["segment_ids"][0, part["allowed"][0].nonzero()[1:]].all()


def test_the_best_span_is_the_best_of_all() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        count, longest = int(rng.integers(1, 9)), int(rng.integers(1, 5))
        starts, ends = rng.normal(size=count), rng.normal(size=count)
        every = {(i, j): starts[i] + ends[j] for i in range(count) for j in range(i, min(i + longest, count))}
        found = best_span(starts, ends, longest)
        assert found is not None
        assert found[:2] == max(every, key=lambda pair: every[pair])
    assert best_span(np.zeros(0), np.zeros(0), 3) is None


@pytest.mark.parametrize(
    ("said", "right", "exact", "f1"),
    [
        ("The Fox!", "fox", 1.0, 1.0),
        ("a red fox", "the fox", 0.0, 2 / 3),
        ("fox fox", "fox", 0.0, 2 / 3),
        ("", "", 1.0, 1.0),
        ("fox", "", 0.0, 0.0),
        ("北京市", "北京", 0.0, 0.8),
        ("《北京》", "北京", 1.0, 1.0),
        ("京北", "北京", 0.0, 0.5),  # the longest run, not the bag
        ("iPhone 手机", "iphone手机", 1.0, 1.0),
        ("the", "a", 1.0, 1.0),
    ],
)
def test_figures_by_hand(said: str, right: str, exact: float, f1: float) -> None:
    assert score(said, right) == pytest.approx((exact, f1))


def test_words_of_both_definitions() -> None:
    assert squad_words("An apple, the U.S. way") == ["apple", "us", "way"]
    assert cmrc_words("在2012年，OK！") == ["在", "2012", "年", "ok"]


def test_the_best_of_several_right_answers_counts() -> None:
    assert extract_metrics(["New York", "x"], [["York", "New York"], []]) == {"exact_match": 0.5, "f1": 0.5}


def test_the_baseline_is_the_sentence_most_like_the_question() -> None:
    assert closest_sentence("Where was Anna born?", PASSAGE) == "Anna Lee was born in New York in 1990"
    assert closest_sentence("她搬到哪里？", "她出生在上海。后来她搬到北京。") == "后来她搬到北京"
    assert closest_sentence("how much", "It is 3.5 times as much") == "It is 3.5 times as much"
    task, values = task_on(passage=[PASSAGE], answer=["New York"])
    told, _ = task.naive(values, [0], values, [0])
    assert task.statistics(values, [0], told)["f1"](np.ones((1, 1)))[0] > 0


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"answer": ["cake"]}, "row 1, column 'answer'.*which does not"),
        ({"answer": ["fox"], "start": [3]}, "at character 3"),
        ({"answer": [""]}, "answers that stand in their passages"),
    ],
)
def test_wrong_rows_are_named(columns: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        task_on(passage=[PASSAGE], **columns)


def test_a_task_comes_back_from_its_state() -> None:
    task, _ = task_on(passage=[PASSAGE] * 2, answer=["fox", None])
    again = Extract(task.settings)
    again.restore(task.state())
    assert (again.unanswerable, again.longest) == (True, task.longest)
