"""Images without labels: trained by the road that people take, reported, and taken over by other tasks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import rebus
from batches import pixels_of
from rebus import api
from rebus.checkpoints.run_folder import Run
from rebus.errors import RecipeError
from rebus.recipe import Augment, Recipe, TaskSettings, Tower, override
from rebus.resolve.from_table import prepare
from rebus.resolve.known import Rows
from rebus.resolve.pretrain_image import AUGMENT, settle_images
from rebus.resolve.tune import FROM_RUN
from rebus.tasks import Prediction, PretrainImage
from rebus.training.pretrain_image import ImageWatch
from rebus.training.train import assemble, learn

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 220)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unlabelled folder of squares, and a labelled table of the same images beside it."""
    root = tmp_path_factory.mktemp("unlabelled")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(48):
        colour = list(COLOURS)[number % 3]
        array = rng.integers(80, 100, (32, 32, 3), dtype=np.uint8)
        left, top = rng.integers(0, 16, 2)
        array[top : top + 16, left : left + 16] = COLOURS[colour]
        Image.fromarray(array).save(root / f"{number}.png")
        rows.append({"image": str(root / f"{number}.png"), "colour": colour, "caption": f"one {colour} square"})
    labelled = root.parent / "labelled.jsonl"
    labelled.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return root


def small(folder: Path, method: str = "simclr", tower: str = "convnet") -> Recipe:
    return Recipe().replace(
        {
            "data.path": str(folder),
            "image.size": 32,
            "model.image": Tower(kind=tower, width=32, depth=1, heads=2, patch=8),
            "tasks": [TaskSettings(name="pretrain_image", method=method)],
            "train.steps": 4,
            "train.precision": "fp32",
            "train.batch_size": 12,
        }
    )


@pytest.mark.parametrize(("method", "tower"), [("simclr", "convnet"), ("masked", "vit")])
def test_a_tower_learns_alone_and_another_task_takes_it_over(
    folder: Path, tmp_path: Path, method: str, tower: str
) -> None:
    settings = {
        "image.size": 32,
        "model.image": {"kind": tower, "width": 32, "depth": 1, "heads": 2, "patch": 8},
        "train.steps": 4,
        "train.precision": "fp32",
        "train.batch_size": 12,
    }
    alone = rebus.train(
        folder,
        task="pretrain_image",
        out=tmp_path / "alone",
        settings={**settings, "tasks.0.method": method},
        quiet=True,
    )
    figures = alone.evaluation["tasks"]["pretrain_image"]
    assert {"view_recall" if method == "simclr" else "hidden_explained", "uniformity"} <= set(figures["metrics"])
    assert figures["baseline_name"] == "a blind guess"
    page = alone.report_path.read_text(encoding="utf-8")
    assert "images and those nearest to them" in page
    card = (alone.folder / "README.md").read_text(encoding="utf-8")
    assert "--probe linear" in card
    assert "rebus ask" not in card
    if method == "simclr":
        api.write_report(alone.folder, lang="zh")
        assert "图片与其近邻" in alone.report_path.read_text(encoding="utf-8")
    known = load_file(alone.weights_path)
    assert any(name.startswith("heads.pretrain_image.") for name in known)

    table = folder.parent / "labelled.jsonl"
    told: list[str] = []
    recipe = override(Recipe(), [])
    recipe = recipe.replace(
        {
            "data.path": str(table),
            "base": str(alone.folder),
            "data.kinds": {"caption": "ignore"},
            "tasks": [TaskSettings(name="classify", columns={"image": "image", "label": "colour"})],
        }
    )
    ready = assemble(recipe, told.append)
    mine = ready.model.state_dict()
    for name, tensor in known.items():
        if name.startswith("image."):
            assert torch.equal(mine[name], tensor), name
    assert set(ready.model.heads) == {"classify"}
    rates = ready.recipe.train.rates
    assert rates["heads"] == 5.0  # what begins anew learns as from nothing, the tower more slowly
    assert "image" not in rates
    assert ready.recipe.train.lr == FROM_RUN["lr"]
    assert any("tensors taken over" in line for line in told)
    change = ready.recipe.image.augment
    assert (change.crop, change.colour, change.grey) == (0, 0, 0)  # what the pretext changed is not the next task's
    assert ready.recipe.model.image.kind == tower

    recipe = Recipe().replace(
        {
            "data.path": str(table),
            "image.size": 32,
            "model.image": Tower(kind=tower, width=32, depth=1, heads=2, patch=8, weights=str(alone.folder)),
            "tasks": [TaskSettings(name="classify", columns={"image": "image", "label": "colour"})],
        }
    )
    other = assemble(recipe, lambda _: None)
    assert all(torch.equal(other.model.state_dict()[name], known[name]) for name in known if name[:8] == "image.")


def test_a_task_with_words_gets_a_tokenizer_of_its_own(folder: Path, tmp_path: Path) -> None:
    alone = learn(small(folder), tmp_path / "alone", log=lambda _: None, quiet=True, evaluate=False)
    recipe = Recipe().replace(
        {
            "data.path": str(folder.parent / "labelled.jsonl"),
            "base": str(alone.folder),
            "tasks": [TaskSettings(name="caption", columns={"image": "image", "caption": "caption"})],
            "text.vocab_size": 400,
        }
    )
    ready = assemble(recipe, lambda _: None)
    assert len(ready.processor.tokenizer.encode("one green square")) < 8  # the pieces of the captions, not single bytes
    assert ready.model.fusion is not None


def test_two_views_come_in_the_batch_and_do_not_repeat(folder: Path) -> None:
    ready = assemble(small(folder), lambda _: None)
    one, again, later = (
        ready.builder.parts_at(0, 0.5)[0],
        ready.builder.parts_at(0, 0.5)[0],
        ready.builder.parts_at(5, 0.5)[0],
    )
    views = [batch.views["image"].tensors["pixels"] for batch in (one, again, later)]
    assert views[0].shape == pixels_of(one).shape == (12, 3, 32, 32)
    assert not torch.equal(views[0], pixels_of(one))
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])
    masked = assemble(small(folder, "masked"), lambda _: None).builder.parts_at(0, 0.5)[0]
    assert not masked.views


def test_rows_of_one_image_are_one_item(folder: Path, tmp_path: Path) -> None:
    rows = [{"image": str(folder / f"{number % 8}.png"), "note": f"row {number}"} for number in range(24)]
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    recipe = small(tmp_path / "t.jsonl")
    recipe = recipe.replace({"data.split.valid": 0.0, "data.split.test": 0.0})
    ready = assemble(recipe, lambda _: None)
    assert len(ready.builder.groups) == 8
    part = ready.builder.parts_at(0, 0.5)[0].targets["pretrain_image"]
    assert len(part["row"]) == 12  # a batch larger than the data goes round
    assert len(set(part["row"].tolist())) == 8
    assert len(set(part["rng"].tolist())) == 12


def test_what_is_left_open_is_chosen_and_said(folder: Path) -> None:
    recipe, told = Recipe(), list[str]()
    recipe = recipe.replace({"tasks": [TaskSettings(name="pretrain_image")]})
    recipe = settle_images(recipe, Rows({}, {}, range(1000)), told.append)
    assert recipe.image.augment == AUGMENT["simclr"]
    assert recipe.train.batch_size == 128
    assert "crop 0.2" in told[0]
    assert "train.batch_size: 128" in told[0]
    few = Recipe(tasks=[TaskSettings(name="pretrain_image")])
    few = settle_images(few, Rows({}, {}, range(100)), told.append)
    assert few.train.batch_size == 16
    said = Recipe(tasks=[TaskSettings(name="pretrain_image")], image={"augment": {"crop": 0.0}})  # type: ignore[arg-type]
    said = said.replace({"train.batch_size": 32})
    said = settle_images(said, Rows({}, {}, range(1000)), told.append)
    assert said.image.augment == Augment()
    assert said.train.batch_size == 32
    assert len(told) == 2  # nothing was chosen, so nothing is said
    other = Recipe(tasks=[TaskSettings(name="classify")])
    other = settle_images(other, Rows({}, {}, range(1000)), told.append)
    assert other == Recipe(tasks=[TaskSettings(name="classify")])


def test_a_folder_of_images_alone_needs_no_task_named(folder: Path) -> None:
    recipe = small(folder)
    recipe = recipe.replace({"tasks": []})
    told: list[str] = []
    assert [task.name for task in prepare(recipe, told.append).recipe.tasks] == ["pretrain_image"]
    assert any("nothing that says what they show" in line for line in told)


def test_what_does_not_go_together_is_refused(folder: Path) -> None:
    for change, message in (
        (["model.image.frozen=true"], "model.image.frozen"),
        (["model.image.kind=none"], "model.image.kind"),
        (["train.accumulate=2"], "train.accumulate"),
        (["train.batch_size=1"], "at least 2 rows"),
    ):
        with pytest.raises(RecipeError, match=message):
            assemble(override(small(folder), change), lambda _: None)
    recipe = small(folder)
    added = TaskSettings(name="classify", columns={"image": "image", "label": "image"})
    recipe = recipe.replace(tasks=[*recipe.tasks, added])
    with pytest.raises(RecipeError, match="by itself"):
        settle_images(recipe, Rows({}, {}, range(10)), print)


def test_gradient_caching_gives_the_big_batchs_gradients(folder: Path, tmp_path: Path) -> None:
    whole = learn(small(folder), tmp_path / "whole", log=lambda _: None, quiet=True, evaluate=False)
    cached = small(folder)
    cached = cached.replace({"train.grad_cache": 4})
    parts = learn(cached, tmp_path / "parts", log=lambda _: None, quiet=True, evaluate=False)
    first, second = (load_file(run.weights_path) for run in (whole, parts))
    assert all(torch.allclose(first[name], second[name], atol=2e-4) for name in first)


def test_a_collapse_is_said_once_and_not_too_early() -> None:
    watch = ImageWatch(PretrainImage(TaskSettings(name="pretrain_image", columns={"image": "p"})))
    one = np.ones(4, dtype=np.float32) / 2
    alike = [Prediction([], extra={"vector": one, "views": np.stack([one, one])}) for _ in range(9)]
    watch.note({"image": [f"{n}.png" for n in range(9)]}, range(9), alike)
    assert list(watch.validated(0.1)) == []
    assert watch.validated(0.5)[0][0] == "collapse"
    assert list(watch.validated(0.6)) == []
    assert watch.sample() == "nearest to 0.png: 1.png (cosine 1.000)"
    assert list(watch.stepped(1, 0.5, {})) == []


def test_a_run_that_is_killed_goes_on_to_the_same_weights(folder: Path, tmp_path: Path) -> None:
    recipe = small(folder, "masked", "vit")
    recipe = recipe.replace({"train.save_every": 2})
    run = learn(recipe, tmp_path / "a", log=lambda _: None, quiet=True, evaluate=False)
    shutil.copytree(run.folder, tmp_path / "b")
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "b" / name).unlink()
    shutil.rmtree(max((tmp_path / "b" / "checkpoints").iterdir(), key=lambda path: path.name))
    again = Run(tmp_path / "b")
    learn(again.recipe, again.folder, resume=True, log=lambda _: None, quiet=True, evaluate=False)
    first, second = load_file(run.weights_path), load_file(again.weights_path)
    assert all(torch.equal(first[name], second[name]) for name in first)
