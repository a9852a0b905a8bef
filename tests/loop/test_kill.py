"""The contract: kill it at any instant, resume it, and the weights are those of a run that nothing happened to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("kill_driver.py")


@pytest.mark.parametrize(
    ("config", "mode"),
    [
        ("adamw", "random"),
        ("early", "random"),
        ("muon", "tensors"),
        ("adamw", "rename"),
        ("muon", "remove"),
    ],
)
def test_killed_and_resumed_equals_never_killed(tmp_path, config, mode):
    seed = zlib.crc32(f"{config}{mode}".encode())
    source = str(Path(__file__).parents[2] / "src")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": source}
    command = [sys.executable, str(DRIVER), config, mode, str(tmp_path), str(seed)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["kills"] >= 3
    assert told["killed"] == told["whole"]
    assert not list((tmp_path / "killed" / "run" / "checkpoints").glob(".*"))
