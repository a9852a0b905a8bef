from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rebus.errors import DataError
from rebus.recipe import TaskSettings
from rebus.tasks import TextProcessor
from rebus.tasks.metrics.intervals import figures
from rebus.tasks.metrics.retrieval import WordBags, percentile_ranks, ranks, spearman
from rebus.tasks.similar import Similar, contrastive_loss, order_loss
from rebus.text.tokenizer import Tokenizer

CODEC = TextProcessor(Tokenizer.train(["a cat sat", "猫坐着"], 300), max_length=16)


def task_on(**values: list[Any]) -> tuple[Similar, dict[str, list[Any]]]:
    task = Similar(TaskSettings(name="similar", columns={role: role for role in values}, temperature=0.1))
    return task, values


def part_of(task: Similar, values: dict[str, list[Any]]) -> dict[str, torch.Tensor]:
    rows = range(len(values["anchor"]))
    items = task.items(values, rows, CODEC, (0, 0, 0))
    return task.collate(items, list(range(len(items))))


def unit(*rows: list[float]) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.tensor(rows, dtype=torch.float32), dim=-1)


def test_the_loss_equals_one_made_by_hand() -> None:
    task, values = task_on(anchor=["a", "b"], positive=["c", "d"], negative=["e", None])
    part = part_of(task, values)
    assert part["sort"].tolist() == [0, 0, 1, 1, 2]
    vectors = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    a1, a2, p1, p2, n1 = torch.nn.functional.normalize(vectors, dim=-1)
    expected = 0.0
    for anchor, own, others in ((a1, p1, (p2, n1)), (a2, p2, (p1, n1))):
        scores = [float(anchor @ other) / 0.1 for other in (own, *others)]
        expected -= scores[0] - math.log(sum(math.exp(one) for one in scores))
    assert float(task.loss(vectors, part)) == pytest.approx(expected / 2, rel=1e-5)
    assert float(task.loss(vectors * 7, part)) == pytest.approx(expected / 2, rel=1e-5)  # lengths do not count


@pytest.mark.parametrize(
    ("columns", "left_out"),
    [
        ({"anchor": ["a", "b", "c"], "positive": ["x", "x", "y"]}, [(0, 1), (1, 0)]),  # the same positive
        ({"anchor": ["a", "a", "c"], "positive": ["x", "z", "y"]}, [(0, 1), (1, 0)]),  # the same anchor
        ({"anchor": ["a", "b", "c"], "positive": ["b", "z", "y"]}, [(1, 0)]),  # a positive that is another's anchor
        ({"anchor": ["a", "b", "c"], "positive": ["x", "Ｘ", "y"]}, []),  # X is not x
        ({"anchor": ["a", "b", "c"], "positive": ["X", "Ｘ", "y"]}, [(0, 1), (1, 0)]),  # full-width X is X
        ({"anchor": ["a", "b", "c"], "positive": ["x", "z", "y"], "negative": ["n", "x", "m"]}, [(0, 4)]),
        ({"anchor": ["a", "a", "c"], "positive": ["x", "x", "y"], "negative": ["n", "m", "k"]}, [(0, 1), (1, 0)]),
    ],
)
def test_texts_that_mean_the_same_are_no_negatives(
    columns: dict[str, list[Any]], left_out: list[tuple[int, int]]
) -> None:
    task, values = task_on(**columns)
    part = part_of(task, values)
    count = int((part["sort"] != 0).sum())
    # each candidate in turn stands on every anchor: where it raises no anchor's loss, it is left out for that anchor
    for anchor in range(3):
        for candidate in range(count):
            if candidate == anchor:
                continue
            vectors = torch.zeros(len(part["sort"]), 1 + count)
            vectors[:3, 0] = -1.0
            vectors[3 + torch.arange(count), 1 + torch.arange(count)] = 1.0
            far = task.loss(vectors, part)
            vectors[anchor, 0], vectors[anchor, 1 + candidate] = 0.0, 1.0
            near = task.loss(vectors, part)
            assert bool(near <= far + 1e-6) == ((anchor, candidate) in left_out), (anchor, candidate)


def test_padding_changes_no_loss() -> None:
    cosines = torch.randn(3, 5)
    spared = torch.zeros(3, 5, dtype=torch.bool)
    spared[:, 4] = True
    assert torch.allclose(contrastive_loss(cosines, spared, 0.1), contrastive_loss(cosines[:, :4], spared[:, :4], 0.1))


def test_scores_put_cosines_in_their_order() -> None:
    cosines, scores = torch.tensor([0.9, 0.1, 0.5]), torch.tensor([3.0, 1.0, 2.0])
    terms = [math.exp((low - high) / 0.1) for high, low in ((0.9, 0.5), (0.9, 0.1), (0.5, 0.1))]
    assert float(order_loss(cosines, scores, 0.1)) == pytest.approx(math.log(1 + sum(terms)), rel=1e-4)
    assert float(order_loss(cosines, torch.ones(3), 0.1)) == 0.0
    task, values = task_on(anchor=["a", "b"], positive=["c", "d"], score=[1.0, 0.0])
    part = part_of(task, values)
    vectors = torch.cat([unit([1, 0], [1, 0]), unit([0, 1], [1, 0])])
    assert float(task.loss(vectors, part)) == pytest.approx(math.log(1 + math.exp(1 / 0.1)), rel=1e-5)


def predicted(task: Any, values: Any, rows: Any, table: dict[str, list[float]]) -> Any:
    """What the task says of rows to a model that knows the vectors of these texts."""
    session = SimpleNamespace(embed_texts=lambda texts: np.asarray([table[text] for text in texts], dtype=np.float32))
    return task.predict(session, values, SimpleNamespace(rows=list(rows)))


def test_figures_say_where_the_right_text_stands() -> None:
    task, values = task_on(anchor=["a", "b", "c"], positive=["x", "y", "z"])
    table = {"a": [1.0, 0.0], "b": [0.0, 1.0], "c": [1.0, 0.0], "x": [1.0, 0.0], "y": [0.8, 0.6], "z": [0.0, 1.0]}
    told = predicted(task, values, [0, 1, 2], table)
    assert [one.value for one in told] == pytest.approx([1.0, 0.6, 0.0])
    found = task.quick_score(values, [0, 1, 2], told)  # places 1, 2 and 3
    assert found["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert found["recall_at_1"] == pytest.approx(1 / 3)
    assert found["recall_at_10"] == 1.0
    assert task.right(values, [0, 1, 2], told).tolist() == [1.0, 0.0, 0.0]


def test_another_right_text_of_the_same_query_is_no_error() -> None:
    likeness = np.array([[0.5, 0.9, 0.1]] * 2 + [[0.0, 0.0, 1.0]])
    places = ranks(["a", "a", "c"], ["x", "y", "z"], lambda _: lambda start, end: likeness[start:end])
    assert places.tolist() == [1.0, 1.0, 1.0]
    tied = ranks(["a", "b"], ["x", "y"], lambda _: lambda start, end: np.ones((2, 2))[start:end])
    assert tied.tolist() == [1.5, 1.5]


def test_one_text_gives_its_vector() -> None:
    task, _ = task_on(anchor=["a"], positive=["b"])
    told = predicted(task, {"anchor": ["a"]}, [0], {"a": [0.6, 0.8]})
    assert told[0].value == [pytest.approx(0.6), pytest.approx(0.8)]


def test_spearman_is_scipys_also_under_weights() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    one, two = rng.integers(0, 6, 40).astype(float), rng.normal(size=40)
    assert figures({"s": spearman(one, two)}, 40)["s"] == pytest.approx(stats.spearmanr(one, two).statistic)
    weights = rng.integers(0, 3, (2, 40)).astype(float)
    for line, found in enumerate(spearman(one, two)(weights)):
        rows = np.repeat(np.arange(40), weights[line].astype(int))
        assert found == pytest.approx(stats.spearmanr(one[rows], two[rows]).statistic)
    assert percentile_ranks([3.0, 1.0, 3.0]) == pytest.approx([4 / 6, 1 / 6, 4 / 6])


def test_the_baseline_counts_rare_words_in_both_languages() -> None:
    bags = WordBags(["the cat", "the dog", "the 猫", "the end"])
    assert bags.cosine("the cat", "cat") > bags.cosine("the cat", "the dog") > 0
    assert bags.cosine("一只猫", "猫") > 0
    assert bags.cosine("", "cat") == 0
    compare = bags.likeness(["the cat", "一只猫"], ["cat", "dog", "猫"])
    expected = [[bags.cosine(a, b) for b in ("cat", "dog", "猫")] for a in ("the cat", "一只猫")]
    assert compare(0, 2) == pytest.approx(np.array(expected))
    task, values = task_on(anchor=["the cat sat", "a dog ran", "一只猫"], positive=["cat", "dog", "猫"])
    told, name = task.naive(values, range(3), values, range(3))
    assert "TF-IDF" in name
    assert task.quick_score(values, range(3), told)["mrr"] == 1.0


def test_scores_are_judged_by_rank_correlation() -> None:
    task, values = task_on(anchor=["a", "b", "c"], positive=["x", "x", "x"], score=[1, 2, 3])
    task.fit(values, range(3))
    table = {"a": [0.0, 1.0], "b": [0.6, 0.8], "c": [0.8, 0.6], "x": [1.0, 0.0]}
    told = predicted(task, values, range(3), table)
    assert task.watch == "spearman"
    assert task.quick_score(values, range(3), told) == {"spearman": pytest.approx(1.0)}
    assert task.right(values, range(3), told) == pytest.approx([0, 0, 0])
    assert not task.usable({**values, "score": [None, 2, 3]}, 0)


def test_nothing_to_tell_apart_is_refused() -> None:
    task, values = task_on(anchor=["a", "b"], positive=["x", "x"])
    with pytest.raises(DataError, match="two different values"):
        task.fit(values, range(2))
