from __future__ import annotations

import errno
import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
import training_tiny as tiny
from torch import nn

from rebus.errors import RunError, WeightsError
from rebus.loop import checkpoint
from rebus.loop.ema import WeightAverage
from rebus.loop.optim import build_optimizers


def trained(steps=2, **settings):
    model = tiny.net(dropout=0.0)
    optimizers = build_optimizers(model, tiny.train(**settings))
    average = WeightAverage(model, 0.9)
    for step in range(steps):
        tiny.loss_of(model, tiny.batch_at(step, 0.0), 0.0)[0].backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        average.update()
    return model, optimizers, average


def saved(run, step, steps=2, **settings):
    model, optimizers, average = trained(steps, **settings)
    checkpoint.save(run, step, model, optimizers, average.tensors, {"note": "è"})
    return model, optimizers, average


@pytest.mark.parametrize("name", ["muon", "adamw", "sgd"])
def test_everything_comes_back_bit_for_bit(tmp_path, name):
    model, optimizers, average = saved(tmp_path, 2, optimizer=name)
    found = checkpoint.load(tmp_path, 2)
    other = tiny.net()
    fresh = build_optimizers(other, tiny.train(optimizer=name))
    checkpoint.restore(other, fresh, found)
    assert tiny.digest(other) == tiny.digest(model)
    assert found.state == {"step": 2, "note": "è"}
    assert all(torch.equal(found.ema[key], value) for key, value in average.tensors.items())
    kept = [state for one in optimizers for state in one.state.values()]
    back = [state for one in fresh for state in one.state.values()]
    assert len(kept) == len(back) > 0
    for left, right in zip(kept, back, strict=True):
        assert {key for key, value in left.items() if value is not None} == right.keys()
        assert all(torch.equal(value, left[key]) for key, value in right.items())


def test_tied_weights_are_kept_once_and_stay_tied(tmp_path):
    def build(seed):
        torch.manual_seed(seed)
        model = nn.ModuleDict({"embed": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
        model["head"].weight = model["embed"].weight
        return model

    model, other = build(0), build(1)
    checkpoint.save(tmp_path, 1, model, [], None, {})
    found = checkpoint.load(tmp_path, 1)
    assert list(found.model) == ["embed.weight"]
    checkpoint.restore(other, [], found)
    assert torch.equal(other["head"].weight, model["embed"].weight)
    assert other["head"].weight is other["embed"].weight


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "ema.safetensors", "state.json", "manifest.json"]
)
@pytest.mark.parametrize("harm", ["cut", "flip", "remove"])
def test_a_damaged_checkpoint_is_skipped_for_the_one_before(tmp_path, name, harm):
    saved(tmp_path, 1, steps=1)
    saved(tmp_path, 2)
    path = checkpoint.path_of(tmp_path, 2) / name
    content = bytearray(path.read_bytes())
    if harm == "remove":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
    notes = []
    found = checkpoint.load_newest(tmp_path, notes.append)
    assert found is not None
    assert found.step == 1
    assert len(notes) == 1
    assert "step-00000002" in notes[0]


def test_no_whole_checkpoint_at_all(tmp_path):
    assert checkpoint.load_newest(tmp_path, print) is None
    checkpoint.path_of(tmp_path, 3).mkdir(parents=True)
    notes = []
    assert checkpoint.load_newest(tmp_path, notes.append) is None
    assert len(notes) == 1


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    saved(tmp_path, 1)
    found = checkpoint.load(tmp_path, 1)
    other = tiny.net()
    other.head = nn.Linear(8, 2)
    with pytest.raises(WeightsError, match=r"'head.bias'.*\[2\].*\[1\]"):
        checkpoint.restore(other, [], found)
    same = tiny.net()
    with pytest.raises(WeightsError, match="optimizers in the recipe"):
        checkpoint.restore(same, build_optimizers(same, tiny.train(optimizer="sgd")), found)


def test_the_newest_and_the_best_are_kept(tmp_path):
    for step in (1, 2, 3, 4, 9):
        saved(tmp_path, step, steps=1)
    checkpoint.prune(tmp_path, 4, 2, 1)
    assert checkpoint.steps_saved(tmp_path) == [1, 3, 4]  # 9 is of a run that was resumed from before it


def refuse(number):
    def refused(*_args, **_more):
        raise OSError(number, os.strerror(number))

    return refused


@pytest.mark.parametrize(("number", "told"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "permissions")])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_refuses_gives_a_clear_error_and_loses_nothing(tmp_path, monkeypatch, number, told, call):
    model, optimizers, _ = saved(tmp_path, 1)
    monkeypatch.setattr(os, call, refuse(number))
    with pytest.raises(RunError, match=told):
        checkpoint.save(tmp_path, 2, model, optimizers, None, {})
    monkeypatch.undo()
    assert tiny.files(tmp_path / "checkpoints") == ["step-00000001"]
    assert checkpoint.load(tmp_path, 1).step == 1


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "mkdir", refuse(errno.EACCES))
    with pytest.raises(RunError, match="permissions"):
        checkpoint.save(tmp_path, 1, tiny.net(), [], None, {})


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_is_really_full(tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=192k", "tmpfs", str(tmp_path)], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        saved(tmp_path, 1)
        model = nn.Linear(300, 300)
        with pytest.raises(RunError, match="disk is full"):
            checkpoint.save(tmp_path, 2, model, [], None, {})
        assert tiny.files(tmp_path / "checkpoints") == ["step-00000001"]
        assert checkpoint.load(tmp_path, 1).step == 1
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_the_files_are_safetensors_and_json_only(tmp_path):
    saved(tmp_path, 1)
    folder = checkpoint.path_of(tmp_path, 1)
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert set(manifest) == {path.name for path in folder.iterdir()} - {"manifest.json"}


def test_the_loop_never_unpickles():
    import rebus.loop

    for path in Path(rebus.loop.__file__).parent.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        for word in ("pickle", "torch.save", "torch.load(", "broadcast_object", "all_gather_object"):
            assert word not in text, f"{path.name}: {word}"
