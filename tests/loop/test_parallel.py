from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rebus.errors import RecipeError
from rebus.loop.events import read_metrics
from rebus.loop.parallel import local_device, rank_slice

HERE = Path(__file__).parent


def test_slices_are_equal_and_cover_the_items(monkeypatch):
    assert list(rank_slice([1, 2, 3])) == [1, 2, 3]
    monkeypatch.setenv("WORLD_SIZE", "2")
    seen = []
    for number in "01":
        monkeypatch.setenv("RANK", number)
        seen += rank_slice([1, 2, 3, 4])
    assert seen == [1, 2, 3, 4]
    with pytest.raises(RecipeError, match="2 processes can share equally"):
        rank_slice([1, 2, 3])


def test_each_process_has_its_own_gpu(monkeypatch):
    assert local_device("cuda") == torch.device("cuda")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert local_device("cuda") == torch.device("cuda:3")
    assert local_device("cuda:1") == torch.device("cuda:1")
    assert local_device("cpu") == torch.device("cpu")


def test_two_processes_end_with_the_weights_of_one(tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1] / "src")}
    script = str(HERE / "parallel_script.py")
    two = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", script]
    for name, command in {"one": [sys.executable, script], "two": two}.items():
        folder = tmp_path / name
        folder.mkdir()
        done = subprocess.run(
            [*command, str(folder)], env=environment, capture_output=True, text=True, timeout=250, check=False
        )
        assert done.returncode == 0, done.stderr
    one, other = (load_file(tmp_path / name / "final.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=1e-6, rtol=0)
    losses = [
        [line["loss"] for line in read_metrics(tmp_path / name) if line["kind"] == "train"] for name in ("one", "two")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert len(losses[0]) == 5
