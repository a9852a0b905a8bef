"""Images and texts in one space: the losses, what is no negative, the figures."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from rebus.errors import DataError
from rebus.models.heads import HeadSpec
from rebus.models.heads.pairs import Pairs, PairsHead
from rebus.recipe import Model, TaskSettings
from rebus.tasks import Prediction, Retrieve, TextProcessor
from rebus.tasks.contrast import belonging, caption_key, gumbel, image_key
from rebus.tasks.metrics.intervals import figures
from rebus.tasks.metrics.retrieval import Asked, best_places, chance_places, numbered, retrieval_statistics
from rebus.tasks.retrieve import sigmoid_loss, softmax_loss
from rebus.text.tokenizer import Tokenizer

CODEC = TextProcessor(Tokenizer.train(["a cat sat", "猫坐着"], 300), max_length=16)


def task_on(values: dict[str, list[Any]], **settings: Any) -> Retrieve:
    return Retrieve(TaskSettings(name="retrieve", columns={role: role for role in values}, **settings))


def part_of(task: Retrieve, values: dict[str, list[Any]], key: tuple[int, int, int] | None = (0, 0, 0)) -> Any:
    groups: dict[str, list[int]] = {}
    for row, image in enumerate(values["image"]):
        groups.setdefault(image, []).append(row)
    made = [task.items(values, rows, CODEC, key) for rows in groups.values()]
    owner = [place for place, items in enumerate(made) for _ in items]
    return task.collate([item for items in made for item in items], owner)


def vectors(count: int, size: int = 6, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(count, size, generator=generator), dim=-1)


def plain(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Nothing is a duplicate, each image has one text."""
    return torch.eye(count, dtype=torch.bool), torch.arange(count)


def test_the_softmax_loss_is_clips() -> None:
    """As in Radford et al. (2021), figure 3, and open_clip's ClipLoss: the mean of two cross-entropies."""
    scores = 14.3 * vectors(5) @ vectors(5, seed=1).T
    labels = torch.arange(5)
    expected = (functional.cross_entropy(scores, labels) + functional.cross_entropy(scores.T, labels)) / 2
    assert float(softmax_loss(scores, *plain(5))) == pytest.approx(float(expected), rel=1e-6)


def test_the_sigmoid_loss_is_siglips() -> None:
    """As in Zhai et al. (2023), algorithm 1: -sum(log_sigmoid(labels * logits)) / n, labels 2 eye - 1."""
    scores = 10 * vectors(5) @ vectors(5, seed=1).T - 10
    expected = 0.0
    for row in range(5):
        for column in range(5):
            sign = 1 if row == column else -1
            expected += math.log1p(math.exp(-sign * float(scores[row, column]))) / 5
    assert float(sigmoid_loss(scores, *plain(5))) == pytest.approx(expected, rel=1e-5)


def pairs_head(item: int, text: int, size: int, loss: str) -> PairsHead:
    """Maps from towers of two widths."""
    parts = SimpleNamespace(widths={"image": item, "text": text}, settings=Model(embed=size))
    return PairsHead(HeadSpec("pairs", reads=("image", "text"), options={"loss": loss}), parts)  # type: ignore[arg-type]


def test_the_temperature_and_the_bias_start_as_published() -> None:
    clip, siglip = pairs_head(8, 6, 4, "softmax"), pairs_head(8, 6, 4, "sigmoid")
    told = clip.compare(torch.randn(2, 8), torch.randn(3, 6))
    assert float(told.scale.detach()) == pytest.approx(1 / 0.07)
    assert float(told.bias) == 0
    assert clip.logit_bias is None
    told = siglip.compare(torch.randn(2, 8), torch.randn(3, 6))
    assert float(told.scale.detach()) == pytest.approx(10.0)
    assert float(told.bias.detach()) == -10.0
    assert told.images.norm(dim=1).tolist() == pytest.approx([1.0] * 2)
    assert told.texts.shape == (3, 4)


def test_the_temperature_goes_no_lower_than_a_hundredth_and_can_come_back() -> None:
    head = pairs_head(8, 6, 4, "softmax")
    head.logit_scale.data.fill_(6.0)
    scale = head.compare(torch.randn(2, 8), torch.randn(2, 6)).scale
    assert float(scale.detach()) == pytest.approx(100.0)
    assert float(head.logit_scale.detach()) == pytest.approx(math.log(100.0))
    scale.backward()
    assert float(head.logit_scale.grad) == pytest.approx(100.0)  # type: ignore[arg-type]
    pretrained = pairs_head(8, 6, 4, "sigmoid")  # SigLIP's own weights say 117
    pretrained.logit_scale.data.fill_(math.log(117.0))
    assert float(pretrained.compare(torch.randn(2, 8), torch.randn(2, 6)).scale.detach()) == pytest.approx(117.0)


def test_both_losses_learn_the_temperature() -> None:
    for loss in ("softmax", "sigmoid"):
        values = {"image": ["a", "b"], "text": ["x", "y"]}
        task = task_on(values, loss=loss)
        head = pairs_head(6, 6, 4, loss)
        task.loss(head.compare(torch.randn(2, 6), torch.randn(2, 6)), part_of(task, values)).backward()
        assert abs(float(head.logit_scale.grad)) > 0  # type: ignore[arg-type]
        assert head.logit_bias is None or abs(float(head.logit_bias.grad)) > 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("images", "texts", "expected"),
    [
        (["a", "b", "c"], ["x", "y", "z"], {(0, 0), (1, 1), (2, 2)}),
        (["a", "b", "c"], ["x", "X.", "z"], {(0, 0), (0, 1), (1, 0), (1, 1), (2, 2)}),  # the same caption
        (["a", "b"], [["x", "y"], "z"], {(0, 0), (0, 1), (1, 2)}),  # two captions of one image
        (["a", "a", "b"], ["x", "y", "z"], {(0, 0), (0, 1), (1, 2)}),  # ... on two rows
        (["a", "b", "c"], [["x", "y"], "x", "y"], {(0, 0), (0, 1), (1, 0), (2, 1), (0, 2), (0, 3), (1, 2), (2, 3)}),
        (["a", "b"], ["一只猫。", "一只猫"], {(0, 0), (0, 1), (1, 0), (1, 1)}),
    ],
)
def test_what_says_the_same_belongs_together(images: list[str], texts: list[Any], expected: set[Any]) -> None:
    values = {"image": images, "text": texts}
    part = part_of(task_on(values), values)
    found = belonging(part["pair"], part["image_keys"], part["text_keys"])
    assert {tuple(place) for place in found.nonzero().tolist()} == expected


def test_equal_images_under_two_names_share_their_texts() -> None:
    array = np.zeros((2, 2, 3), dtype=np.uint8)
    assert image_key(array) == image_key(array.copy())
    assert image_key(array) != image_key(array + 1)
    pair = torch.tensor([0, 1])
    found = belonging(pair, torch.tensor([7, 7]), torch.tensor([1, 2]))
    assert bool(found.all())


def test_false_negatives_push_nothing_apart() -> None:
    """The likeness of an image to another image's equal caption costs nothing (softmax) or is right (sigmoid)."""
    values = {"image": ["a", "b", "c"], "text": ["x", "x", "z"]}
    part = part_of(task_on(values), values)
    belongs = belonging(part["pair"], part["image_keys"], part["text_keys"])
    for loss in (softmax_loss, sigmoid_loss):
        logits = (5 * vectors(3) @ vectors(3, seed=1).T).requires_grad_()
        loss(logits, belongs, part["pair"]).backward()
        slope = logits.grad
        assert slope is not None
        twins, wrong = [slope[0, 1], slope[1, 0]], [slope[0, 2], slope[1, 2], slope[2, 0], slope[2, 1]]
        assert all(float(one) == 0 if loss is softmax_loss else float(one) < 0 for one in twins)
        assert all(float(one) > 0 for one in wrong)


def test_nothing_wrong_in_the_batch_costs_nothing() -> None:
    values = {"image": ["a", "b"], "text": ["x", "x"]}
    task = task_on(values)
    texts = vectors(2).requires_grad_()
    loss = task.loss(Pairs(vectors(2), texts, torch.tensor(100.0), torch.tensor(0.0)), part_of(task, values))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-6)
    assert bool(torch.isfinite(texts.grad).all())  # type: ignore[arg-type]


def test_portions_merge_to_the_whole() -> None:
    whole = {"image": ["a", "b", "a2", "d"], "text": [["x", "y"], "x", "z", "w"]}
    task = task_on(whole)
    halves = [{role: column[at : at + 2] for role, column in whole.items()} for at in (0, 2)]
    parts = [part_of(task, half) for half in halves]
    images, texts, scale = vectors(4), vectors(5, seed=1), torch.tensor(9.0)
    bias = torch.tensor(0.0)
    expected = task.loss(Pairs(images, texts, scale, bias), part_of(task, whole))
    split = [Pairs(images[:2], texts[:3], scale, bias), Pairs(images[2:], texts[3:], scale, bias)]
    assert float(task.loss(*task.merged(split, parts))) == pytest.approx(float(expected), rel=1e-6)


def test_a_image_brings_some_of_its_texts_and_each_once() -> None:
    values = {"image": ["a"], "text": [["one", "two", "ONE.", "three", "four"]]}
    task = task_on(values, per_image=3)
    assert len(task.items(values, [0], CODEC, None)) == 4
    first, again, later = (task.items(values, [0], CODEC, (0, epoch, 0)) for epoch in (0, 0, 5))
    keys = [[int(item["text_key"]) for item in items] for items in (first, again, later)]
    assert keys[0] == keys[1]
    assert keys[0] != keys[2]
    assert len(set(keys[0])) == 3


def test_something_to_tell_apart_is_asked_for() -> None:
    values = {"image": ["a", "b"], "text": ["x", "X"]}
    with pytest.raises(DataError, match="two different texts among the training rows; found one"):
        task_on(values).fit(values, range(2))
    values = {"image": ["a", "a"], "text": ["x", "y"]}
    with pytest.raises(DataError, match="two different images"):
        task_on(values).fit(values, range(2))
    task_on(values).fit({"image": ["a", "b"], "text": ["x", "y"]}, range(2))


def test_duplicates_are_counted_and_told() -> None:
    values = {"image": [f"{i}" for i in range(10)], "text": ["x", "X!"] + [f"t{i}" for i in range(8)]}
    (told,) = task_on(values).notes(values, range(10), CODEC)
    assert "2 of 10 training texts are also a text of another image" in told
    assert "teach little" not in told
    values["text"] = ["x"] * 5 + values["text"][5:]
    assert "teach little" in task_on(values).notes(values, range(10), CODEC)[0]
    values["text"] = [f"t{i}" for i in range(10)]
    assert task_on(values).notes(values, range(10), CODEC) == []


def told_of(values: dict[str, list[Any]], of_image: dict[str, list[float]], of_text: dict[str, list[float]]) -> Any:
    task = task_on(values)
    found = []
    for image, texts in zip(values["image"], values["text"], strict=True):
        read = np.asarray([of_text[text] for text in ([texts] if isinstance(texts, str) else texts)], dtype=np.float32)
        seen = np.asarray(of_image[image], dtype=np.float32)
        found.append(task.predicted(seen, int(image_key(image)), read))
    return task, found


def test_figures_with_several_texts_a_image_and_several_images_a_text() -> None:
    values = {"image": ["a", "b", "c"], "text": [["x", "y"], "x", "z"]}
    of_image = {"a": [1.0, 0.0], "b": [0.0, 1.0], "c": [0.6, 0.8]}
    of_text = {"x": [0.8, 0.6], "y": [1.0, 0.0], "z": [0.0, 1.0]}
    task, told = told_of(values, of_image, of_text)
    found = task.quick_score(values, range(3), told)
    # image a: y 1.0, x .8, z 0: right at 1. b: z 1.0, x .6, y 0: right (x) at 2. c: x .96, z .8, y .6: right at 2.
    assert found["image_to_text_recall_at_1"] == pytest.approx(1 / 3)
    assert found["image_to_text_median_rank"] == 2.0
    # text x: c .96, a .8, b .6: right (a or b) at 2, asked by two rows. y: a 1.0: 1. z: b 1.0, c .8: 2.
    assert found["text_to_image_recall_at_1"] == pytest.approx(1 / 4)
    assert found["text_to_image_recall_at_5"] == 1.0
    assert found["text_to_image_median_rank"] == 2.0
    assert found["mean_recall"] == pytest.approx((1 / 3 + 1 + 1 + 1 / 4 + 1 + 1) / 6)
    assert task.right(values, range(3), told).tolist() == [0.5, 0.0, 0.0]


def test_figures_do_not_depend_on_the_order_of_rows_and_ties_are_not_won() -> None:
    values = {"image": ["a", "b", "c", "d"], "text": ["x", "y", "z", ["w", "x"]]}
    same = {name: [0.6, 0.8] for name in "abcdxyzw"}
    task, told = told_of(values, same, same)
    found = task.quick_score(values, range(4), told)
    assert found["image_to_text_recall_at_1"] == 0.0  # all alike: nothing is found
    # of 4 texts or images the worst place: that of the last, where one is right; the last but one, where two are
    assert found["image_to_text_median_rank"] == 4.0
    assert found["text_to_image_median_rank"] == 4.0
    order = [2, 0, 3, 1]
    for seed in range(3):
        rng = np.random.default_rng(seed)
        unit = {name: list(map(float, functional.normalize(torch.tensor(rng.normal(size=3)), dim=0))) for name in same}
        task, told = told_of(values, unit, unit)
        moved = {role: [column[row] for row in order] for role, column in values.items()}
        again = task.quick_score(moved, range(4), [told[row] for row in order])
        assert again == pytest.approx(task.quick_score(values, range(4), told))


def test_places_are_the_worst_among_equals() -> None:
    queries, candidates = np.array([[1.0, 0.0]], np.float32), np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    assert best_places(queries, candidates, np.array([[0, 1]])).place.tolist() == [2.0]
    assert best_places(queries, candidates, np.array([[0, 0], [0, 1]])).place.tolist() == [1.0]
    assert best_places(queries, candidates, np.array([[0, 2]])).place.tolist() == [3.0]


def test_chance_is_what_random_orders_give() -> None:
    rng = np.random.default_rng(0)
    places = np.array([min(rng.permutation(12)[:3]) + 1 for _ in range(20_000)])
    found = chance_places(np.array([3]), 12)
    assert found.place[0] == pytest.approx(places.mean(), abs=0.03)
    for k in (1, 5, 10):
        assert found.hits[k][0] == pytest.approx((places <= k).mean(), abs=0.01)
    assert chance_places(np.array([2]), 2).hits[10][0] == 1.0


def test_the_median_counts_weights() -> None:
    places = chance_places(np.array([1]), 1)
    asked = Asked(type(places)(np.array([5.0, 1.0, 3.0]), places.hits), np.arange(3), np.arange(3), np.ones(3))
    weights = np.array([[1, 1, 1], [0, 1, 1], [3, 1, 0], [0, 2, 0]], dtype=float)
    assert asked.median()(weights).tolist() == [3.0, 2.0, 5.0, 1.0]


def test_a_image_of_several_rows_is_one_question() -> None:
    numbers, firsts = numbered(["a", "b", "a", "c"])
    assert numbers.tolist() == [0, 1, 0, 2]
    assert firsts == [0, 1, 3]
    one = best_places(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)[::-1], np.array([[0, 0], [1, 0]]))
    images = Asked(one, np.array([0, 0, 0, 1]), np.arange(4), np.array([1 / 3] * 3 + [1.0]))
    found = figures(retrieval_statistics(images, images, 4), 4)
    assert found["image_to_text_recall_at_1"] == pytest.approx(0.5)  # one of two images, not three of four rows


def test_scores_stand_beside_chance_with_intervals_and_types() -> None:
    values = {"image": list("abcd"), "text": list("wxyz"), "type": ["en", "zh", "en", "zh"]}
    unit = {name: list(np.eye(4)[place]) for place, name in enumerate("abcd")}
    task, told = told_of(values, unit, dict(zip("wxyz", unit.values(), strict=True)))
    score = task.score(values, range(4), told, range(4), n=50)
    assert score.metrics["mean_recall"] == 1.0
    assert score.baseline["text_to_image_recall_at_1"] == pytest.approx(1 / 4)
    assert score.baseline["image_to_text_median_rank"] == pytest.approx(2.5)
    assert score.intervals["mean_recall"] == (1.0, 1.0)
    assert score.baseline_name == "random order"
    assert score.by_type["zh"] == {"right": 1.0, "count": 2, "baseline": pytest.approx(0.25)}


def test_one_of_the_two_gives_its_vector() -> None:
    task = task_on({"image": ["a"], "text": ["x"]})
    none = np.zeros((0, 2), np.float32)
    assert task.predicted(np.array([0.6, 0.8], np.float32), 0, none).value == pytest.approx([0.6, 0.8])
    assert task.predicted(None, 0, np.array([[0.6, 0.8]], np.float32)).value == pytest.approx([0.6, 0.8])
    assert task.predicted(None, 0, none) == Prediction(None)


def test_noise_is_each_pairs_own() -> None:
    askers, candidates = np.arange(3, dtype=np.int64), np.arange(4000, dtype=np.int64)
    whole = gumbel(askers, candidates)
    assert np.array_equal(gumbel(askers[1:2], candidates[5:9]), whole[1:2, 5:9])
    assert float(whole.mean()) == pytest.approx(0.5772, abs=0.05)  # Euler's constant
    assert float(whole.var()) == pytest.approx(math.pi**2 / 6, abs=0.1)
    assert int(caption_key("A red bus.")) == int(caption_key("a red  bus"))
    assert int(caption_key("...")) != int(caption_key("!"))
