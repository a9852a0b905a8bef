"""Does a text belong to an image: how wrong pairs are drawn, the loss, the figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from rebus.data.measures import as_yes
from rebus.errors import DataError
from rebus.models.negatives import can_draw, with_negatives
from rebus.recipe import TaskSettings
from rebus.tasks import Match, TextProcessor
from rebus.text.tokenizer import Tokenizer

CODEC = TextProcessor(Tokenizer.train(["a cat sat", "猫坐着"], 300), max_length=16)


def task_on(values: dict[str, list[Any]], **settings: Any) -> Match:
    return Match(TaskSettings(name="match", columns={role: role for role in values}, **settings))


def part_of(task: Match, values: dict[str, list[Any]], epoch: int = 0, rows: list[int] | None = None) -> Any:
    """The batch of some rows; a row's chance hangs on its own number."""
    rows = list(range(len(values["image"]))) if rows is None else rows
    made = [task.items(values, [row], CODEC, (0, epoch, row)) for row in rows]
    owner = [place for place, items in enumerate(made) for _ in items]
    return task.collate([item for items in made for item in items], owner)


MANY = {"image": [f"{i}" for i in range(12)], "text": ["x", "X."] + [f"t{i}" for i in range(10)]}


def test_pairs_that_belong_together_are_never_drawn() -> None:
    task = task_on(MANY)
    pairs = set()
    for epoch in range(40):
        part = part_of(task, MANY, epoch)
        made = with_negatives(part, None)
        owner, text = made["owner"], made["text_rows"]
        assert owner[:12].tolist() == text[:12].tolist() == list(range(12))
        assert owner[12:24].tolist() == list(range(12))  # the image with a wrong text
        assert text[24:].tolist() == list(range(12))  # the text with a wrong image
        assert not any(part["belongs"][place, read] for place, read in zip(owner[12:], text[12:], strict=True))
        assert bool(can_draw(part).all())
        pairs |= set(zip(owner[12:].tolist(), text[12:].tolist(), strict=True))
    assert len(pairs) == 12 * 11 - 2  # in time every pair but the two of the shared text


def test_draws_are_a_function_of_the_key_and_of_the_two_alone() -> None:
    task = task_on(MANY)
    whole, again = (with_negatives(part_of(task, MANY), None) for _ in range(2))
    assert torch.equal(whole["owner"], again["owner"])
    assert not torch.equal(with_negatives(part_of(task, MANY, 1), None)["text_rows"], whole["text_rows"])
    rows = [3, 5, 8, 11]  # as another process would see them
    few, everything = part_of(task, MANY, rows=rows), part_of(task, MANY)
    assert torch.equal(few["text_noise"], everything["text_noise"][rows][:, rows])
    assert torch.equal(few["image_noise"], everything["image_noise"][rows][:, rows])


def test_hard_negatives_are_drawn_by_likeness() -> None:
    values = {"image": [f"{i}" for i in range(6)], "text": [f"t{i}" for i in range(6)]}
    task = task_on(values)
    likeness = torch.zeros(6, 6)
    likeness[2, 4] = 3.0  # exp(3) = 20 against four times 1
    drawn = [int(with_negatives(part_of(task, values, epoch), likeness)["text_rows"][6 + 2]) for epoch in range(300)]
    share = np.mean([one == 4 for one in drawn])
    assert share == pytest.approx(float(functional.softmax(torch.tensor([3.0, 0, 0, 0, 0]), 0)[0]), abs=0.07)
    likeness[2, 2] = 50.0  # its own text is as like as can be, and never drawn
    assert 2 not in [int(with_negatives(part_of(task, values, epoch), likeness)["text_rows"][8]) for epoch in range(20)]


def test_the_loss_weighs_right_and_wrong_alike() -> None:
    task = task_on(MANY)
    part = part_of(task, MANY)
    logits = torch.randn(36, 1)
    right, wrong = -functional.logsigmoid(logits[:12]).mean(), -functional.logsigmoid(-logits[12:]).mean()
    assert float(task.loss(logits, part)) == pytest.approx(float((right + wrong) / 2), rel=1e-6)
    assert float(task.loss(torch.zeros(36, 1), part)) == pytest.approx(np.log(2))


def test_what_cannot_be_drawn_is_not_learned() -> None:
    values = {"image": ["a", "b"], "text": ["x", "x"]}
    task = task_on(values)
    part = part_of(task, values)
    assert can_draw(part).tolist() == [True, True, False, False, False, False]
    logits = torch.randn(6, 1)
    assert float(task.loss(logits, part)) == pytest.approx(float(-functional.logsigmoid(logits[:2]).mean()), rel=1e-6)
    made = with_negatives(part, torch.randn(2, 2))
    assert int(made["owner"].max()) < 2


@pytest.mark.parametrize(
    ("yes", "no"),
    [("yes", "no"), (1, 0), ("1", "0"), (1.0, 0.0), (True, False), ("是", "否"), ("True", "FALSE"), ("对", "错")],
)
def test_given_labels_are_learned_as_given(yes: Any, no: Any) -> None:
    values = {"image": ["a", "a", "b"], "text": ["x", "y", "x"], "label": [yes, no, no]}
    task = task_on(values)
    task.fit(values, range(3))
    part = part_of(task, values)
    assert part["target"].tolist() == [1.0, 0.0, 0.0]
    assert "belongs" not in part
    logits = torch.tensor([[2.0], [-1.0], [0.5]])
    expected = functional.binary_cross_entropy_with_logits(logits[:, 0], part["target"])
    assert float(task.loss(logits, part)) == pytest.approx(float(expected))
    assert (as_yes(yes), as_yes(no)) == (True, False)


def test_labels_of_one_kind_teach_nothing() -> None:
    values = {"image": ["a", "b"], "text": ["x", "y"], "label": ["yes", "是"]}
    with pytest.raises(DataError, match="only yes"):
        task_on(values).fit(values, range(2))
    assert as_yes("perhaps") is None
    assert not task_on(values).usable({**values, "label": [None, "yes"]}, 0)


def test_wrong_texts_to_judge_by_depend_on_no_order() -> None:
    task = task_on(MANY)
    wrong = task.wrong_texts(MANY, range(12))
    assert all(len(texts) == 1 for texts in wrong.values())
    assert not {"x", "X."} & {*wrong[0], *wrong[1]}
    assert wrong == task.wrong_texts(MANY, list(range(12))[::-1])
    assert len({text for texts in wrong.values() for text in texts}) > 4
    several = {"image": ["a", "b"], "text": [["x", "y", "z"], ["w"]]}
    assert task_on(several).wrong_texts(several, [0, 1])[0] == ["w"]  # there are no more
    assert task_on(several).wrong_texts(several, [0]) == {0: []}
    assert task_on(several).tried(several, [1])["wrong"] == [[], []]


def test_figures_over_right_and_wrong_pairs() -> None:
    values = {"image": ["a", "b", "c"], "text": ["x", "y", "z"]}
    task = task_on(values)
    pairs = [([0.9], [0.2]), ([0.4], [0.6]), ([0.7], [0.1])]
    told = [task.predicted(np.array(own), np.array(wrong)) for own, wrong in pairs]
    assert [one.value for one in told] == [True, False, True]
    assert told[1].confidence == pytest.approx(0.6)
    score = task.score(values, range(3), told, range(3), n=30)
    assert score.metrics["accuracy"] == pytest.approx(4 / 6)
    metrics = pytest.importorskip("sklearn.metrics")
    truth, chance = [1, 0] * 3, [0.9, 0.2, 0.4, 0.6, 0.7, 0.1]
    assert score.metrics["auroc"] == pytest.approx(metrics.roc_auc_score(truth, chance))
    assert score.metrics["average_precision"] == pytest.approx(metrics.average_precision_score(truth, chance))
    assert score.baseline == {"accuracy": 0.5, "auroc": 0.5, "average_precision": 0.5}
    assert score.correct == [1.0, 0.0, 1.0]
    low, high = score.intervals["auroc"]
    assert 0 <= low < high <= 1


def test_figures_with_labels() -> None:
    values = {"image": ["a", "b", "c"], "text": ["x", "y", "z"], "label": [1, 0, 0]}
    task = task_on(values)
    none = np.zeros(0)
    told = [task.predicted(np.array([chance]), none) for chance in (0.8, 0.9, 0.3)]
    score = task.score(values, range(3), told, range(3), n=30)
    assert score.metrics["accuracy"] == pytest.approx(2 / 3)
    assert score.metrics["auroc"] == pytest.approx(0.5)
    assert score.baseline["accuracy"] == pytest.approx(2 / 3)
    assert score.baseline["average_precision"] == pytest.approx(1 / 3)
    assert task.truth(values, 1) is False
