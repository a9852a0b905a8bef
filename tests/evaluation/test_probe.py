"""Probes of frozen features: against scikit-learn, and by the road that people take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression

from rebus import api
from rebus.checkpoints.run_folder import Run
from rebus.errors import DataError, RecipeError
from rebus.evaluation.linear_probe import DECAYS, LinearProbe, fit_linear, fit_probe
from rebus.recipe import Recipe, TaskSettings, Tower
from rebus.training.train import learn

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 220)}


def blobs(count: int, seed: int, width: int = 6, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, width))
    labels = rng.integers(0, classes, count)
    return (centres[labels] + 1.2 * rng.normal(size=(count, width))).astype(np.float32), labels


@pytest.mark.parametrize("decay", [1.0, 0.01, 1e-4])
def test_a_linear_probe_is_sklearns_logistic_regression(decay: float) -> None:
    x, y = blobs(200, 0)
    mine = fit_linear(torch.from_numpy(x).double(), torch.from_numpy(y), 3, decay)
    scaled = (x.astype(np.float64) - x.mean(0, dtype=np.float64)) / x.std(0, dtype=np.float64)
    reference = LogisticRegression(C=1 / (decay * len(y)), tol=1e-9, max_iter=5000).fit(scaled, y)
    assert np.allclose(mine.weight.numpy(), reference.coef_, atol=2e-4)
    other, _ = blobs(50, 1)
    told = reference.predict_proba((other - x.mean(0, dtype=np.float64)) / x.std(0, dtype=np.float64))
    assert np.allclose(mine.probabilities(other), told, atol=1e-4)


def test_the_decay_that_valid_rows_like_best_is_taken() -> None:
    x, y = blobs(40, 0, width=30)  # few rows, many numbers: without decay it learns them by heart
    valid = blobs(200, 1, width=30)
    chosen = fit_probe("linear", x, y, 3, valid=valid)
    assert isinstance(chosen, LinearProbe)
    costs = []
    for decay in DECAYS:
        one = fit_linear(torch.from_numpy(x).double(), torch.from_numpy(y), 3, decay)
        costs.append(-np.log(one.probabilities(valid[0])[np.arange(200), valid[1]]).mean())
    assert chosen.decay == DECAYS[int(np.argmin(costs))]
    assert min(DECAYS) < chosen.decay < max(DECAYS)


def test_without_valid_rows_parts_of_the_training_rows_take_turns() -> None:
    x, _ = blobs(60, 0, width=30)
    chosen = fit_probe("linear", x, np.random.default_rng(5).integers(0, 3, 60), 3)
    assert isinstance(chosen, LinearProbe)
    assert chosen.decay >= 0.1  # labels that have nothing to do with the numbers are not believed
    few = fit_probe("linear", x[:6], np.array([0, 1, 2, 0, 1, 2]), 3)
    assert few.probabilities(x).shape == (60, 3)


def test_a_constant_number_says_nothing_and_breaks_nothing() -> None:
    x, y = blobs(50, 0)
    x[:, 2] = 7.0
    told = fit_probe("linear", x, y, 3).probabilities(x)
    assert np.isfinite(told).all()
    assert (told.argmax(1) == y).mean() > 0.6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of squares on noise."""
    root = tmp_path_factory.mktemp("classes")
    rng = np.random.default_rng(0)
    for number in range(90):
        name = list(COLOURS)[number % 3]
        (root / name).mkdir(exist_ok=True)
        array = rng.integers(80, 100, (32, 32, 3), dtype=np.uint8)
        left, top = rng.integers(0, 16, 2)
        array[top : top + 16, left : left + 16] = COLOURS[name]
        Image.fromarray(array).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An image tower that has hardly learned anything: even so, colours are told by its features."""
    recipe = Recipe().replace(
        {
            "data.path": str(folder),
            "image.size": 32,
            "model.image": Tower(kind="convnet", width=24, depth=1, heads=2, patch=8),
            "tasks": [TaskSettings(name="pretrain_image")],
            "train.steps": 2,
            "train.batch_size": 16,
            "train.precision": "fp32",
        }
    )
    return learn(recipe, tmp_path_factory.mktemp("probe") / "run", log=lambda _: None, quiet=True)


def test_frozen_features_are_judged_with_intervals(run: Run, folder: Path) -> None:
    linear = api.evaluate(run.folder, folder, probe="linear")
    score = linear.tasks["linear probe"]
    low, high = score.intervals["accuracy"]
    assert score.metrics["accuracy"] > score.baseline["accuracy"] + 0.2
    assert low <= score.metrics["accuracy"] <= high
    assert "decay" in linear.notes[0]
    neighbours = api.evaluate(run.folder, folder, probe="knn", split="valid").tasks["k-NN"]
    assert neighbours.metrics["accuracy"] > neighbours.baseline["accuracy"]


def test_a_broken_image_is_counted(run: Run, folder: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    for name in ("0.png", "3.png", "6.png", "9.png"):
        (copy / "red" / name).write_bytes(b"\x89PNG broken")
    found = api.evaluate(run.folder, copy, probe="knn")
    assert 1 <= len(found.skipped) <= 4
    assert "red/" in found.skipped[0]


def test_what_a_probe_cannot_do_is_said(run: Run, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not learn from"):
        api.evaluate(run.folder, folder, probe="knn", split="train")
    with pytest.raises(RecipeError, match="linear"):
        api.evaluate(run.folder, folder, probe="liner")
    with pytest.raises(RecipeError, match="--task"):
        api.evaluate(run.folder, folder, probe="knn", task="classify")
    with pytest.raises(RecipeError, match="--zero-shot"):
        api.evaluate(run.folder, folder, labels=["a", "b"])
    bare = tmp_path / "bare"
    bare.mkdir()
    shown = Image.new("RGB", (32, 32))
    shown.save(bare / "a.png")
    with pytest.raises(DataError, match="a column of labels"):
        api.evaluate(run.folder, bare, probe="linear")
    texts = tmp_path / "texts.csv"
    texts.write_text("text,label\n" + "a b,x\nc d,y\n" * 9, encoding="utf-8")
    with pytest.raises(DataError, match="a column of images"):
        api.evaluate(run.folder, texts, probe="linear")
