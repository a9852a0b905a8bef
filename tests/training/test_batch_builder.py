"""Batches: a pure function of the step, whoever makes them; frozen features; what is learned and what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from batches import in_parts, pixels_of, same
from rebus.recipe import Recipe, TaskSettings, Tower
from rebus.training.loader_workers import BatchBuilderPool
from rebus.training.train import Assembled, assemble, summed_loss


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("feed")
    rows = []
    for number in range(10):
        Image.fromarray(np.full((32, 32, 3), 25 * number, dtype=np.uint8)).save(folder / f"{number}.png")
        for question, answer in (("How bright?", "dark" if number < 5 else "bright"), ("第几张？", f"第{number}张")):
            rows.append({"image": f"{number}.png", "question": question, "answer": answer, "split": "train"})
    (folder / "table.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return folder / "table.jsonl"


def ready_for(table: Path, **changes: Any) -> Assembled:
    recipe = Recipe().replace(
        {
            "data.path": str(table),
            "data.split.column": "split",
            "data.split.valid": 0.0,
            "data.split.test": 0.0,
            "image.size": 32,
            "text.vocab_size": 320,
            "image.augment.colour": changes.pop("colour", 0.5),
            "model.image": Tower(
                kind="convnet", width=24, depth=1, heads=2, patch=8, frozen=changes.pop("frozen", False)
            ),
            "model.text": Tower(kind="decoder", width=24, depth=1, heads=2),
        }
    )
    columns = {"image": "image", "question": "question", "answer": "answer"}
    recipe = recipe.replace({"tasks": [TaskSettings(name="answer", columns=columns, **changes)], "train.batch_size": 4})
    return assemble(recipe, lambda _: None)


def test_a_batch_is_a_function_of_the_step(table: Path) -> None:
    first, again = ready_for(table).builder, ready_for(table).builder
    later = again.parts_at(5, 0.5)[0]
    assert same(first.parts_at(5, 0.5)[0], later)  # asked for in another order, from another process's memory
    assert not same(first.parts_at(4, 0.5)[0], later)
    seen = [index for step in range(5) for _, index in first.parts_at(step, 0.5)[0].keys]
    assert sorted(seen) == sorted([*range(10), *range(10)])  # two epochs, every image once in each


def test_worker_processes_make_the_same_batches(table: Path) -> None:
    builder = ready_for(table).builder
    pool = BatchBuilderPool(builder, 2)
    try:
        assert all(same(pool.parts_at(step, 0.5)[0], builder.parts_at(step, 0.5)[0]) for step in range(4))
    finally:
        pool.close()


def test_processes_share_a_batch_without_overlap(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [index for _, index in ready_for(table).builder.parts_at(3, 0.5)[0].keys]
    parts = []
    for rank in ("0", "1"):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", rank)
        parts += [index for _, index in ready_for(table).builder.parts_at(3, 0.5)[0].keys]
    assert parts == whole


def test_frozen_features_stand_in_for_images(table: Path) -> None:
    moving, frozen = ready_for(table, colour=0.0), ready_for(table, colour=0.0, frozen=True)
    frozen.model.load_state_dict(moving.model.state_dict())
    batch = frozen.builder.parts_at(0, 1.0)[0]
    assert batch.inputs["image"].tensors.keys() == {"tokens", "pooled"}
    tasks = frozen.prepared.tasks
    with torch.no_grad():
        one = summed_loss(tasks, frozen.model(batch), batch)[0]
        whole = moving.builder.parts_at(0, 1.0)[0]
        other = summed_loss(tasks, moving.model(whole), whole)[0]
    assert torch.allclose(one, other, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in frozen.model.image.parameters())


def test_images_that_are_changed_are_not_cached(table: Path) -> None:
    assert "pixels" in ready_for(table, frozen=True).builder.parts_at(0, 1.0)[0].inputs["image"].tensors


def test_the_prompt_is_never_learned(table: Path) -> None:
    """The loss is the same when the labels of the prompt would be garbage: there are none to read."""
    ready = ready_for(table)
    part = ready.builder.parts_at(0, 1.0)[0].targets["answer"]
    tokenizer = ready.processor.tokenizer
    for row in range(len(part["labels"])):
        learned = part["labels"][row][part["labels"][row] != -100].tolist()
        texts = tokenizer.decode(learned, skip_special=False).split("<|eos|>")[:-1]
        assert texts
        assert all(text in ("dark", "bright") or text.startswith("第") for text in texts), texts
        assert "How" not in "".join(texts)


def test_length_weight_makes_short_answers_count(table: Path) -> None:
    """With weight 1 each text counts the same, however long."""
    ready = ready_for(table, length_weight=1.0)
    task = ready.prepared.tasks["answer"]
    labels = torch.tensor([[5, 6, 7, 8, 9, -100]])
    blocks = torch.tensor([[0, 1, 1, 1, 1, -1]])
    logits = torch.zeros(5, 320)
    logits[0, 5] = 20.0  # the short text is known, the long one is not
    loss = task.loss(logits, {"labels": labels, "blocks": blocks})
    assert abs(float(loss) - 0.5 * float(np.log(320))) < 1e-3
    task.settings = task.settings.replace(length_weight=0.0)
    loss = task.loss(logits, {"labels": labels, "blocks": blocks})
    assert abs(float(loss) - 0.8 * float(np.log(320))) < 1e-3


def test_accumulation_cuts_a_batch_by_images(table: Path) -> None:
    builder = ready_for(table).builder
    whole = builder.parts_at(0, 1.0)[0]
    halves = in_parts(builder, 0, 1.0, 2)
    assert [len(half.keys) for half in halves] == [2, 2]
    assert torch.equal(torch.cat([pixels_of(half) for half in halves]), pixels_of(whole))
