"""Modality dropout: pure, about as often as it says, never what a task needs nor the only thing a row has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from batches import in_parts
from rebus.recipe import Fusion, Recipe, TaskSettings, Tower
from rebus.tasks import TASKS, Task
from rebus.tasks.hiding import hidden_modality
from rebus.training.train import assemble

ROWS = 8
COLUMNS: dict[str, dict[str, str]] = {
    "classify": {"image": "image", "text": "text", "label": "label"},
    "answer": {"image": "image", "question": "text", "answer": "label"},
    "caption": {"image": "image", "caption": "text"},
}


def setting(*names: str, **gaps: list[int]) -> tuple[dict[str, Task], dict[str, dict[str, Any]]]:
    columns: dict[str, list[Any]] = {
        "image": [f"{row}.png" for row in range(ROWS)],
        "text": [f"text {row}" for row in range(ROWS)],
        "label": ["yes" if row % 2 else "no" for row in range(ROWS)],
    }
    for column, rows in gaps.items():
        for row in rows:
            columns[column][row] = None
    tasks = {name: TASKS.get(name)(TaskSettings(name=name, columns=COLUMNS[name])) for name in names}
    return tasks, {name: task.values(columns) for name, task in tasks.items()}


def hidden(chance: float, rows: list[int], tasks: Any, values: Any, times: int = 400, **said: Any) -> list[str]:
    recipe = Recipe(seed=said.get("seed", 0)).replace(
        {"model.fusion": Fusion(modality_dropout=chance, kind=said.get("kind", "unified"))}
    )
    shown = said.get("has_image", True)
    return [hidden_modality(recipe, (0, at), rows, tasks, values, ["image"] if shown else []) for at in range(times)]


def test_it_hides_as_often_as_it_says_one_or_the_other() -> None:
    told = hidden(0.4, [0], *setting("classify"), times=2000)
    assert 0.36 < 1 - told.count("") / 2000 < 0.44
    assert 0.4 < told.count("image") / (told.count("image") + told.count("text")) < 0.6
    assert told == hidden(0.4, [0], *setting("classify"), times=2000)
    assert told != hidden(0.4, [0], *setting("classify"), times=2000, seed=1)


def test_it_never_hides_what_a_task_needs_or_the_only_thing_there_is() -> None:
    assert set(hidden(0.9, [0], *setting("caption"))) == {""}
    assert set(hidden(0.9, [0], *setting("answer"))) == {"", "image"}  # a question is always asked
    assert set(hidden(0.9, [0], *setting("answer", "caption"))) == {""}  # they share the image
    assert set(hidden(0.9, [0], *setting("classify", text=[0]))) == {""}
    assert set(hidden(0.9, [0], *setting("classify"), has_image=False)) == {""}
    assert set(hidden(0.9, [0, 1], *setting("classify", text=[1]))) == {"", "text"}  # row 1 has its image alone
    assert set(hidden(0.9, [0], *setting("classify"), kind="none")) == {""}
    assert set(hidden(0.0, [0], *setting("classify"))) == {""}


def test_a_batch_is_the_same_each_time_and_holds_no_row_without_both(tmp_path: Path) -> None:
    lines = []
    for row in range(24):
        Image.fromarray(np.full((16, 16, 3), 8 * row, dtype=np.uint8)).save(tmp_path / f"{row}.png")
        lines.append({"image": f"{row}.png", "text": f"some text {row}", "label": "yes" if row % 2 else "no"})
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    recipe = Recipe().replace(
        {
            "data.path": str(tmp_path / "t.jsonl"),
            "data.split.valid": 0.0,
            "data.split.test": 0.0,
            "image.size": 16,
            "text.vocab_size": 300,
            "model.image": Tower(width=16, depth=1, heads=2, patch=8),
            "model.text": Tower(width=16, depth=1, heads=2),
            "model.fusion": Fusion(depth=1, modality_dropout=0.6),
            "tasks": [TaskSettings(name="classify", columns=COLUMNS["classify"])],
            "train.batch_size": 24,
        }
    )
    ready = assemble(recipe, lambda _: None)
    batch, again, later = (
        ready.builder.parts_at(0, 0.0)[0],
        ready.builder.parts_at(0, 0.0)[0],
        ready.builder.parts_at(1, 0.0)[0],
    )
    text = batch.targets["classify"]["text_mask"].any(1)
    assert torch.equal(batch.present("image"), again.present("image"))
    assert torch.equal(text, again.targets["classify"]["text_mask"].any(1))
    assert not batch.present("image").all()
    assert not text.all()
    assert (batch.present("image") | text).all()
    assert not torch.equal(batch.present("image"), later.present("image"))
    parts = in_parts(ready.builder, 0, 0.0, 2)  # accumulation hides the same
    assert torch.equal(torch.cat([part.present("image") for part in parts]), batch.present("image"))
    ready.model.train()
    loss = ready.tasks["classify"].loss(ready.model(batch)["classify"], batch.targets["classify"])
    loss.backward()
    assert torch.isfinite(loss)
    assert ready.model.fusion is not None
    assert all(float(vector.grad.abs().sum()) > 0 for vector in ready.model.fusion.absent.values())


def test_it_is_refused_where_it_would_hide_everything() -> None:
    with pytest.raises(ValueError, match="less than 1"):
        Fusion(modality_dropout=1.0)
