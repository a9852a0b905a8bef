"""Training from tar archives: the same weights as from loose files, from workers, in parts, and after a stop."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from batches import in_parts, pixels_of
from rebus.data.table import MOST_LISTED, Column, Table
from rebus.models.modalities.rows import ItemCache
from rebus.recipe import Recipe, TaskSettings, Tower
from rebus.tasks.batch_builder import Singles, group_rows
from rebus.training.train import assemble, learn
from tiny_tars import image, pack


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    for shard in range(3):
        files = []
        for number in range(8 * shard, 8 * shard + 8):
            label = "dark" if number < 12 else "bright"
            files += [(f"{number:04d}.jpg", image(10 * number, size=(16, 16)))]
            files += [(f"{number:04d}.json", json.dumps({"label": label}).encode())]
        pack(folder / f"part-{shard}.tar", files)
    return folder


def recipe_for(shards: Path, **changes: Any) -> Recipe:
    return Recipe().replace(
        {
            "data.path": str(shards),
            "data.split.valid": 0.0,
            "data.split.test": 0.1,
            "image.size": 16,
            "image.augment.colour": 0.3,
            "image.augment.mixup": 0.2,
            "model.image": Tower(kind="convnet", width=16, depth=1, heads=2, patch=8),
            "model.text": Tower(kind="none"),
            "tasks": [TaskSettings(name="classify", columns={"image": "image", "label": "label"})],
            "train.steps": 6,
            "train.batch_size": 8,
            "train.save_every": 3,
            "train.precision": "fp32",
            "data.workers": changes.pop("workers", 0),
            "data.order": changes.pop("order", "rows"),
            "train.accumulate": changes.pop("accumulate", 1),
        }
    )


def test_a_run_on_archives(shards: Path, tmp_path: Path) -> None:
    calm = learn(recipe_for(shards), tmp_path / "calm", log=lambda _: None, quiet=True)
    told = json.loads((calm.folder / "evaluation.json").read_text())["training"]
    assert told["jpeg"].split()[0] in ("pil", "simplejpeg")
    assert calm.recipe.data.jpeg in ("pil", "simplejpeg")
    learn(recipe_for(shards, workers=2), tmp_path / "hands", log=lambda _: None, quiet=True, evaluate=False)
    assert (tmp_path / "hands" / "model.safetensors").read_bytes() == (calm.folder / "model.safetensors").read_bytes()
    stopped = tmp_path / "stopped"
    shutil.copytree(calm.folder, stopped)
    kept = sorted((stopped / "checkpoints").glob("step-*"))
    assert len(kept) == 2
    shutil.rmtree(kept[-1])
    for name in ("model.safetensors", "config.json"):
        (stopped / name).unlink()
    learn(calm.recipe, stopped, resume=True, log=lambda _: None, quiet=True, evaluate=False)
    assert (stopped / "model.safetensors").read_bytes() == (calm.folder / "model.safetensors").read_bytes()


def test_parts_of_a_batch_and_orders(shards: Path) -> None:
    whole = assemble(recipe_for(shards), lambda _: None).builder
    batch = whole.parts_at(1, 0.5)[0]
    parts = in_parts(whole, 1, 0.5, 4)
    assert torch.equal(torch.cat([pixels_of(part) for part in parts]), pixels_of(batch))
    near = assemble(recipe_for(shards, order="blocks"), lambda _: None).builder
    count = len(near.groups)
    seen = [near._key(place)[1] for place in range(count)]
    assert sorted(seen) == list(range(count))
    assert [near._key(place) for place in range(count)] == [(0, index) for index in seen]


def test_the_cache_keeps_to_its_budget(shards: Path) -> None:
    recipe = recipe_for(shards, workers=3)
    cache = assemble(recipe, lambda _: None).builder.rows.cache
    assert cache is not None
    assert cache._free == recipe.data.cache_mb // 4 * 2**20


def test_items_are_kept_within_the_budget_and_the_oldest_go_first(shards: Path) -> None:
    cache = ItemCache(1)
    for number in range(200):
        cache.put(number, [{"pixels": torch.zeros(64, 64, 3, dtype=torch.uint8).numpy()}])
        assert cache.get(number) is not None
    kept = [number for number in range(200) if cache.get(number) is not None]
    assert 0.8 * 2**20 < len(kept) * 64 * 64 * 3 <= 2**20
    assert kept == list(range(200 - len(kept), 200))


def test_large_tables_are_not_turned_into_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"a": number, "b": [str(number)], "c": None if number % 3 else {"bytes": b"x", "path": "p"}}
        for number in range(50)
    ]
    table = Table.from_rows(rows)
    wanted = {name: table.column(name) for name in table.columns}
    monkeypatch.setattr("rebus.data.table.MOST_LISTED", 10)
    for part, at in ((table, range(50)), (table.select([4, 40, 7] * 10), [4, 40, 7] * 10)):
        for name in table.columns:
            found = part.values(name)
            assert isinstance(found, Column)
            assert list(found) == [wanted[name][row] for row in at]
            assert [found[row] for row in range(len(found))] == list(found)
            assert found[-1] == list(found)[-1]
            assert found[2:5] == list(found)[2:5]
            with pytest.raises(IndexError):
                found[len(found)]
    groups = group_rows(range(MOST_LISTED + 1), None)
    assert isinstance(groups, Singles)
    assert groups[7] == [7]
    assert groups[3:5] == [[3], [4]]
    assert len(groups) == MOST_LISTED + 1
