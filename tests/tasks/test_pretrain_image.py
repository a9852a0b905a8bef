"""What the task ``pretrain_image`` computes: loss, figures and warning, each against the published definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from rebus.recipe import TaskSettings
from rebus.tasks import Prediction, PretrainImage
from rebus.tasks.metrics.intervals import figures
from rebus.tasks.metrics.neighbours import vote
from rebus.tasks.pretrain_image import mean_cosine, nt_xent, uniformity


def unit(count: int, width: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def task(method: str = "simclr", **columns: str) -> PretrainImage:
    return PretrainImage(TaskSettings(name="pretrain_image", method=method, columns={"image": "p", **columns}))  # type: ignore[arg-type]


def test_the_loss_is_simclrs() -> None:
    """Chen et al. 2020, equation 1, written out with loops."""
    first, second, temperature = unit(5, 8), unit(5, 8, 1), 0.3
    views = [view for pair in zip(first, second, strict=True) for view in pair]  # 2k - 1 and 2k belong together
    costs = []
    for i, one in enumerate(views):
        j = i ^ 1
        others = [math.exp(float(one @ other) / temperature) for k, other in enumerate(views) if k != i]
        costs.append(-math.log(math.exp(float(one @ views[j]) / temperature) / sum(others)))
    loss = nt_xent(torch.from_numpy(np.stack([first, second])), torch.arange(5), temperature)
    assert float(loss) == pytest.approx(np.mean(costs), rel=1e-5)


def test_a_image_that_stands_twice_in_a_batch_is_no_negative_of_itself() -> None:
    views = torch.from_numpy(np.stack([unit(4, 8), unit(4, 8, 1)])).requires_grad_()
    rows = torch.tensor([7, 3, 7, 5])
    loss = nt_xent(views, rows, 0.2)
    moved = views.detach().clone()
    moved[:, 2] = moved[:, 0]  # the two of row 7 become equal: a negative would now cost the most
    alone = nt_xent(moved[:, [0, 1, 3]], rows[[0, 1, 3]], 0.2)
    twice = nt_xent(moved, rows, 0.2)
    counted = nt_xent(moved, torch.arange(4), 0.2)
    loss.backward()
    assert bool(torch.isfinite(views.grad).all())
    assert float(alone) < float(twice) < float(counted)  # row 7 counts twice for the others, never against itself


def test_uniformity_is_wang_and_isolas() -> None:
    vectors = unit(12, 6)
    pairs = torch.pdist(torch.from_numpy(vectors).double()).pow(2).mul(-2).exp().mean().log()
    assert figures({"u": uniformity(vectors)}, 12)["u"] == pytest.approx(float(pairs), rel=1e-6)
    assert figures({"u": uniformity(np.repeat(vectors[:1], 5, 0))}, 5)["u"] == pytest.approx(0.0, abs=1e-6)


def test_an_item_drawn_twice_is_no_pair_of_its_own() -> None:
    vectors = unit(4, 6)
    twice = np.array([[2.0, 1.0, 1.0, 1.0]])
    near = np.exp(-2 * np.square(vectors[:, None] - vectors[None]).sum(-1))
    pairs = [(i, j) for i in (0, 0, 1, 2, 3) for j in (0, 0, 1, 2, 3)]
    counted = [near[i, j] for i, j in pairs if i != j]
    # the two copies of item 0 form ordered pairs with each other: left out above, and in the count of pairs below
    expected = math.log(sum(counted) / (25 - (4 + 1 + 1 + 1)))
    assert float(uniformity(vectors)(twice)[0]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("k", [1, 5, 50])
def test_the_vote_is_sklearns_with_the_papers_weights(k: int) -> None:
    known, asked = unit(40, 8), unit(15, 8, 1)
    labels = np.arange(40) % 3
    k = min(k, len(known))
    reference = KNeighborsClassifier(k, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07))
    reference.fit(known, labels)
    told = vote(asked, known, labels, 3, k=k)
    assert np.allclose(told, reference.predict_proba(asked), atol=1e-5)


def test_nobody_is_its_own_neighbour() -> None:
    vectors = unit(6, 4)
    labels = np.array([0, 1, 2, 3, 4, 5])
    told = vote(vectors, vectors, labels, 6, k=5, others=True)
    assert np.allclose(np.diagonal(told), 0)
    assert np.allclose(told.sum(1), 1)


def seen(first: np.ndarray, second: np.ndarray, vectors: np.ndarray) -> list[Prediction]:
    outputs = torch.from_numpy(np.stack([first, second]))
    return task().predictions(outputs, torch.from_numpy(vectors))


def test_figures_of_views() -> None:
    first, vectors = unit(20, 8), unit(20, 8, 2)
    perfect = task().quick_score({"image": ["x"] * 20}, range(20), seen(first, first, vectors))
    assert perfect["view_recall"] == 1
    assert perfect["alignment"] == pytest.approx(0, abs=1e-6)
    assert "knn_accuracy" not in perfect
    alike = np.repeat(first[:1], 20, 0)
    blind = task().quick_score({"image": ["x"] * 20}, range(20), seen(alike, alike, vectors))
    assert blind["view_recall"] == pytest.approx(1 / 20)  # all tie: one in twenty


def test_neighbours_are_judged_where_there_are_labels() -> None:
    labelled = task(label="l")
    vectors = np.repeat(unit(2, 8), 10, 0) + 0.01 * unit(20, 8, 3)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    values = {"image": ["x"] * 20, "label": ["a"] * 10 + ["b"] * 9 + [None]}
    told = seen(unit(20, 8), unit(20, 8, 1), vectors)
    found = labelled.score(values, range(20), told, range(20), n=50)
    assert labelled.watch == "knn_accuracy"
    assert found.metrics["knn_accuracy"] == 1  # the row without a label is not judged
    assert found.baseline["knn_accuracy"] == pytest.approx(10 / 19)
    assert found.baseline["view_recall"] == pytest.approx(1 / 20)


def test_what_is_explained_of_hidden_pixels() -> None:
    masked = task("masked")
    outputs = torch.tensor([[0.25, 1.0], [0.5, 1.0], [0.0, 0.0]])
    told = masked.predictions(outputs, torch.from_numpy(unit(3, 4)))
    found = masked.score({"image": ["x"] * 3}, range(3), told, range(3), n=20)
    assert found.metrics["hidden_explained"] == pytest.approx(1 - 0.75 / 2)
    assert found.baseline["hidden_explained"] == 0


def test_a_collapse_is_named_with_advice() -> None:
    alike = np.repeat(unit(1, 8), 12, 0)
    assert mean_cosine(alike) == pytest.approx(1)
    remark = task().remarks(seen(alike, alike, alike))[0]
    assert "12 held-out images are all alike" in remark
    assert "train.batch_size" in remark
    assert task().remarks(seen(unit(12, 8), unit(12, 8, 1), alike)) == []
    masked = task("masked")
    told = masked.predictions(torch.ones(12, 2), torch.from_numpy(alike))
    assert "method=simclr" in masked.remarks(told)[0]


def test_portions_of_a_batch_make_its_loss() -> None:
    """What gradient caching and several processes build on."""
    views = torch.from_numpy(np.stack([unit(6, 8), unit(6, 8, 1)]))
    rows = torch.arange(6)
    whole, part = task().merged([views[:, :2], views[:, 2:]], [{"row": rows[:2]}, {"row": rows[2:]}])
    assert torch.equal(whole, views)
    assert torch.equal(part["row"], rows)
    errors = torch.rand(5, 2)
    merged, _ = task("masked").merged([errors[:3], errors[3:]], [{"row": rows[:3]}, {"row": rows[3:5]}])
    assert float(task("masked").loss(merged, {})) == pytest.approx(float(errors[:, 0].mean()))
