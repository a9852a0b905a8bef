"""Rows with several images: a cell holds a list, in training and in prediction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rebus import api
from rebus.errors import DataError
from rebus.inference.predictor import Predictor
from rebus.recipe import Fusion, Recipe, TaskSettings, Tower
from rebus.training.losses import summed_loss
from rebus.training.train import Assembled, assemble

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}
COLUMNS = {
    "classify": {"image": "image", "text": "question", "label": "label"},
    "tag": {"image": "image", "text": "question", "labels": "labels"},
    "regress": {"image": "image", "text": "question", "target": "number"},
    "caption": {"image": "image", "caption": "caption"},
    "answer": {"image": "image", "question": "question", "answer": "caption"},
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images a row, whether they are of one colour; a row of one, and a row of none."""
    folder = tmp_path_factory.mktemp("several")
    for name, colour in COLOURS.items():
        Image.fromarray(np.full((16, 16, 3), colour, dtype=np.uint8)).save(folder / f"{name}.png")
    rows = []
    for number in range(16):
        first, second = ("red", "blue")[number % 2], ("red", "blue")[number // 2 % 2]
        images = [f"{first}.png", f"{second}.png"]
        alike = first == second
        rows.append(
            {
                "image": images[:1] if number == 12 else None if number == 13 else images,
                "label": "same" if alike else "other",
                "labels": [first, second],
                "number": float(alike),
                "question": "which?",
                "caption": f"{first} and {second}",
                "split": "test" if number >= 14 else "train",
            }
        )
    (folder / "t.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    lines = [f'"{row["image"] or ""}",{row["label"]}' for row in rows]
    (folder / "t.csv").write_text("\n".join(["image,label", *lines]) + "\n", encoding="utf-8")
    return folder / "t.jsonl"


def ready_for(table: Path, task: str, fusion: str = "unified") -> Assembled:
    used = COLUMNS[task].values()
    recipe = Recipe().replace(
        {
            "data.path": str(table),
            "data.split.column": "split",
            "data.on_bad": "skip",
            "data.ignore": [name for name in ("label", "labels", "number", "caption") if name not in used],
            "image.size": 16,
            "text.vocab_size": 300,
            "model.image": Tower(kind="convnet", width=16, depth=1, heads=2, patch=8),
            "model.text": Tower(kind="decoder", width=16, depth=1, heads=2),
            "model.fusion": Fusion(kind=fusion, depth=1, heads=2),
            "tasks": [TaskSettings(name=task, columns=COLUMNS[task])],
            "train.batch_size": 4,
            "train.steps": 4,
        }
    )
    return assemble(recipe, lambda _: None)


@pytest.mark.parametrize("name", ["t.jsonl", "t.csv"])
def test_lists_of_images_are_no_bad_rows(table: Path, name: str) -> None:
    report = api.check(table.parent / name)
    assert report.kinds["image"] == "image"
    assert set(report.bad_rows) <= {13}  # which has none, and in one table nothing else
    assert not report.errors


@pytest.mark.parametrize("task", COLUMNS)
def test_each_task_learns_and_predicts_from_all_of_them(table: Path, task: str) -> None:
    ready = ready_for(table, task)
    batch = ready.builder.assemble([(0, index) for index in range(len(ready.builder.groups))], ready.tasks)
    owners = batch.inputs["image"].owner.tolist()
    assert {owners.count(place) for place in range(batch.size)} in ({0, 1, 2}, {1, 2})
    loss, _ = summed_loss(ready.tasks, ready.model(batch), batch)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    row: dict[str, Any] = {"image": ["red.png", "blue.png"], "question": "which?"}
    told = ready.predictor.predict([row, {**row, "image": "red.png"}, {**row, "image": []}], root=table.parent)
    assert len(told) == 3


@pytest.mark.parametrize("fusion", ["joint", "unified", "cross"])
def test_the_second_image_counts_and_a_batch_changes_nothing(table: Path, fusion: str) -> None:
    predictor: Predictor = ready_for(table, "classify", fusion).predictor
    for parameter in predictor.model.parameters():
        torch.nn.init.normal_(parameter, std=0.3) if parameter.dim() > 1 else torch.nn.init.ones_(parameter)
    cells: list[Any] = [
        ["red.png", "blue.png"],
        ["red.png", "red.png"],
        "red.png",
        ["red.png"],
        "['red.png', 'blue.png']",
    ]
    rows = [{"image": cell, "question": "which?"} for cell in cells]
    together = [one.scores["same"] for one in predictor.predict(rows, root=table.parent)]
    alone = [predictor.predict(row, root=table.parent)[0].scores["same"] for row in rows]
    assert together == pytest.approx(alone, abs=1e-5)
    assert abs(together[0] - together[1]) > 1e-6
    assert together[2] == pytest.approx(together[3], abs=1e-6)
    assert together[0] == pytest.approx(together[4], abs=1e-6)


def test_a_broken_second_image_is_named(table: Path, tmp_path: Path) -> None:
    rows = [{"image": [str(table.parent / "red.png"), name], "label": name} for name in ("a.png", "b.png")]
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    assert sorted(api.check(tmp_path / "t.jsonl").bad_rows) == [0, 1]


def test_marks_of_one_image_in_a_text_stand_for_one(table: Path) -> None:
    recipe = ready_for(table, "caption").recipe.replace({"model.fusion.layout": "inline"})
    with pytest.raises(DataError, match="one image a row"):
        assemble(recipe, lambda _: None)
