"""From a recipe to batches: mirrored or not, mixed rows and targets, boxes that follow, whoever makes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from batches import in_parts, pixels_of, same
from rebus.data.mixing import mix_of
from rebus.errors import RecipeError
from rebus.recipe import Augment, Recipe, TaskSettings, Tower
from rebus.resolve.from_table import prepare
from rebus.tasks.batch_builder import in_blocks
from rebus.training.loader_workers import BatchBuilderPool
from rebus.training.train import Assembled, assemble


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("changes")
    for number in range(12):
        Image.fromarray(np.full((16, 16, 3), 20 * number, dtype=np.uint8)).save(made / f"{number}.png")
    return made


def recipe_for(folder: Path, rows: list[dict[str, Any]], task: str, columns: dict[str, str], change: Augment) -> Recipe:
    path = folder / f"{abs(hash(json.dumps(rows)))}.jsonl"
    path.write_text("\n".join(json.dumps({**row, "split": "train"}) for row in rows), encoding="utf-8")
    return Recipe().replace(
        {
            "data.path": str(path),
            "data.split.column": "split",
            "data.split.valid": 0.0,
            "data.split.test": 0.0,
            "image.size": 16,
            "text.vocab_size": 300,
            "image.augment": change,
            "model.image": Tower(kind="convnet", width=16, depth=1, heads=2, patch=8),
            "model.text": Tower(width=16, depth=1, heads=2),
            "tasks": [TaskSettings(name=task, columns=columns)],
            "train.batch_size": 4,
        }
    )


def captions(folder: Path, texts: list[str], change: Augment) -> tuple[float | None, list[str]]:
    rows = [{"image": f"{number}.png", "caption": texts[number % len(texts)]} for number in range(12)]
    told: list[str] = []
    recipe = recipe_for(folder, rows, "caption", {"image": "image", "caption": "caption"}, change)
    return prepare(recipe, told.append).recipe.image.augment.flip, [line for line in told if "mirrored" in line]


def test_images_are_mirrored_where_nothing_speaks_against_it(folder: Path) -> None:
    assert captions(folder, ["a cat", "一只狗"], Augment()) == (0.0, [])
    flip, told = captions(folder, ["a cat", "一只狗"], Augment(colour=0.2))
    assert flip == 0.5
    assert told == ["images are mirrored half the time, as other changes are on; otherwise: --set image.augment.flip=0"]
    for texts in (["a cat", "a dog left of it"], ["一只狗", "右边有树"]):
        flip, told = captions(folder, texts, Augment(colour=0.2))
        assert flip == 0.0
        assert f"6 of 12 texts speak of left and right or of writing, such as '{texts[1]}'" in told[0]
        flip, told = captions(folder, texts, Augment(flip=0.3))
        assert flip == 0.3
        assert told[0].startswith("warning: images are mirrored (image.augment.flip is 0.3)")
    assert captions(folder, ["on the left"], Augment(flip=0.0, colour=0.2)) == (0.0, [])


def test_labels_that_are_single_signs_are_not_mirrored(folder: Path) -> None:
    rows = [{"image": f"{number}.png", "label": "bdpq"[number % 4]} for number in range(12)]
    told: list[str] = []
    recipe = recipe_for(folder, rows, "classify", {"image": "image", "label": "label"}, Augment(colour=0.2))
    assert prepare(recipe, told.append).recipe.image.augment.flip == 0.0
    assert any("single signs" in line for line in told)


def mixing(folder: Path, task: str = "classify", **change: Any) -> Assembled:
    labels: list[Any] = [["dark", "middle", "bright"][number // 4] for number in range(12)]
    if task == "regress":
        labels = [number / 2 for number in range(12)]
    if task == "tag":
        labels = [["a"] if number % 2 else ["a", "b"] for number in range(12)]
    role = {"classify": "label", "regress": "target", "tag": "labels"}[task]
    rows = [{"image": f"{number}.png", role: label} for number, label in enumerate(labels)]
    recipe = recipe_for(folder, rows, task, {"image": "image", role: role}, Augment(flip=0.0, **change))
    return assemble(recipe, lambda _: None)


@pytest.mark.parametrize("change", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 1.0, "cutmix": 1.0, "colour": 0.3}])
def test_rows_are_mixed_with_rows_of_their_batch(folder: Path, change: dict[str, float]) -> None:
    ready = mixing(folder, **change)
    plain = mixing(folder, **{key: value for key, value in change.items() if key == "colour"})
    for step in range(4):
        batch, own = ready.builder.parts_at(step, 0.5)[0], plain.builder.parts_at(step, 0.5)[0]
        keys, partners = batch.keys, batch.partners
        assert keys == own.keys
        assert sorted(partners) == sorted(keys)
        for place, (key, partner) in enumerate(zip(keys, partners, strict=True)):
            mix = mix_of(ready.recipe.image.augment, 0, *key, 16)
            first, second = pixels_of(own)[place], pixels_of(own)[keys.index(partner)]
            if mix.box is None:
                exact = mix.share * first.float() + (1 - mix.share) * second.float()
                assert (pixels_of(batch)[place].float() - exact).abs().max() <= 0.51
            target = batch.targets["classify"]["target"][place]
            labels = own.targets["classify"]["target"]
            expected = torch.zeros(3)
            expected[labels[place]] += mix.share
            expected[labels[keys.index(partner)]] += 1 - mix.share
            assert torch.allclose(target, expected, atol=1e-6)


@pytest.mark.parametrize("smooth", [0.0, 0.1])
def test_the_loss_is_the_weighted_mean_of_two(folder: Path, smooth: float) -> None:
    ready, plain = mixing(folder, mixup=0.4), mixing(folder)
    for one in (ready, plain):
        task = one.tasks["classify"]
        task.settings = task.settings.replace(label_smoothing=smooth)
    batch, own = ready.builder.parts_at(1, 0.5)[0], plain.builder.parts_at(1, 0.5)[0]
    outputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    found = ready.tasks["classify"].loss(outputs, batch.targets["classify"])
    labels, keys = own.targets["classify"]["target"], batch.keys
    wanted = 0.0
    for place, (key, partner) in enumerate(zip(keys, batch.partners, strict=True)):
        share = mix_of(ready.recipe.image.augment, 0, *key, 16).share
        for weight, at in ((share, place), (1 - share, keys.index(partner))):
            wanted += weight * float(
                functional.cross_entropy(outputs[place : place + 1], labels[at : at + 1], label_smoothing=smooth)
            )
    assert float(found) == pytest.approx(wanted / 4, rel=1e-5)


@pytest.mark.parametrize("task", ["tag", "regress"])
def test_other_targets_are_mixed_as_numbers(folder: Path, task: str) -> None:
    ready, plain = mixing(folder, task, mixup=1.0), mixing(folder, task)
    batch, own = ready.builder.parts_at(0, 0.5)[0], plain.builder.parts_at(0, 0.5)[0]
    targets, keys = own.targets[task]["target"], batch.keys
    for place, (key, partner) in enumerate(zip(keys, batch.partners, strict=True)):
        share = mix_of(ready.recipe.image.augment, 0, *key, 16).share
        exact = share * targets[place] + (1 - share) * targets[keys.index(partner)]
        assert torch.allclose(batch.targets[task]["target"][place], exact, atol=1e-6)
    assert torch.isfinite(ready.tasks[task].loss(torch.zeros_like(targets), batch.targets[task]))


def test_mixed_batches_are_the_same_whoever_makes_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = mixing(folder, mixup=0.4, colour=0.3)
    whole = ready.builder.parts_at(2, 0.5)[0]
    halves = in_parts(ready.builder, 2, 0.5, 2)
    assert torch.equal(torch.cat([pixels_of(half) for half in halves]), pixels_of(whole))
    targets = [half.targets["classify"]["target"] for half in halves]
    assert torch.equal(torch.cat(targets), whole.targets["classify"]["target"])
    pool = BatchBuilderPool(ready.builder, 2)
    try:
        assert same(pool.parts_at(2, 0.5)[0], whole)
    finally:
        pool.close()
    pixels = []
    for rank in ("0", "1"):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", rank)
        pixels.append(pixels_of(mixing(folder, mixup=0.4, colour=0.3).builder.parts_at(2, 0.5)[0]))
    assert torch.equal(torch.cat(pixels), pixels_of(whole))


def test_mixing_is_refused_where_targets_cannot_be_mixed(folder: Path) -> None:
    with pytest.raises(RecipeError, match="the task 'caption', which writes"):
        captions(folder, ["a cat"], Augment(mixup=0.2))
    rows = [{"image": f"{n}.png", "text": "so", "label": ["x", "y"][n % 2]} for n in range(12)]
    columns = {"image": "image", "text": "text", "label": "label"}
    with pytest.raises(RecipeError, match=r"image\.augment\.cutmix.*which reads text"):
        prepare(recipe_for(folder, rows, "classify", columns, Augment(cutmix=0.2)), lambda _: None)


def test_boxes_are_mirrored_with_their_image(folder: Path) -> None:
    half = np.zeros((16, 16, 3), dtype=np.uint8)
    half[:, :8] = 255
    Image.fromarray(half).save(folder / "half.png")
    rows = [{"image": "half.png", "boxes": [{"label": "light", "box": [0.0, 0.0, 0.5, 1.0]}]}] * 4
    rows = [*rows, {"image": "0.png", "boxes": [{"label": "night", "box": [0.0, 0.0, 1.0, 1.0]}]}]
    columns = {"image": "image", "boxes": "boxes"}
    for flip in (0.0, 1.0):
        builder = assemble(
            recipe_for(folder, rows, "patch_classify", columns, Augment(flip=flip)), lambda _: None
        ).builder
        batch = builder.assemble([(0, index) for index in range(len(builder.groups))], builder.tasks)
        part = batch.targets["patch_classify"]
        for owner, drawn in zip(part["owner"].tolist(), part["map"], strict=True):
            seen = pixels_of(batch)[owner, 0]
            if seen.max() > 0:
                bright = seen.repeat_interleave(3, 0).repeat_interleave(3, 1)[::2, ::2] > 127
                assert torch.equal(drawn > 0, bright)
                assert bool(drawn[0, 0] > 0) == (flip == 0.0)


def test_blocks_keep_near_rows_near() -> None:
    order = in_blocks(10_000, np.random.default_rng(0))
    assert sorted(order) == list(range(10_000))
    windows = [len(set(order[at : at + 4096] // 256)) for at in range(0, 8192, 4096)]
    assert all(count <= 17 for count in windows)
    assert len(set((order[:64] // 256).tolist())) > 8  # yet neighbours in time come from many places
    np.testing.assert_array_equal(order, in_blocks(10_000, np.random.default_rng(0)))
