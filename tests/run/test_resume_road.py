"""The whole road, killed at random instants and resumed, ends with the weights of a run that was not."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kill")
    rows = ["picture,question,answer"]
    for number in range(40):
        shade = 6 * number
        Image.fromarray(np.full((32, 32, 3), shade, dtype=np.uint8)).save(folder / f"{number}.png")
        rows.append(f"{number}.png,How bright is it?,{'dark' if shade < 120 else 'bright'}")
        rows.append(f"{number}.png,亮还是暗？,{'暗' if shade < 120 else '亮'}")
    (folder / "table.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder / "table.csv"


def words(table: Path, out: Path) -> list[str]:
    sets = {
        "picture.size": 32,
        "picture.augment.colour": 0.3,
        "picture.augment.shift": 0.1,
        "model.picture.width": 16,
        "model.picture.depth": 1,
        "model.picture.heads": 2,
        "model.text.width": 16,
        "model.text.depth": 1,
        "model.text.heads": 2,
        "model.text.dropout": 0.1,
        "text.vocab_size": 300,
        "train.steps": 60,
        "train.batch_size": 8,
        "train.save_every": 5,
        "train.validate_every": 30,
        "train.ema": 0.9,
    }
    return [
        *(sys.executable, "-m", "rebus", "train", str(table), "--out", str(out), "--quiet"),
        *(word for key, value in sets.items() for word in ("--set", f"{key}={value}")),
    ]


@pytest.mark.slow
def test_killed_and_resumed_to_the_same_bits(table: Path, tmp_path: Path) -> None:
    subprocess.run(words(table, tmp_path / "calm"), check=True, capture_output=True, timeout=240)
    run, dice, kills = tmp_path / "stormy", random.Random(0), 0
    command = words(table, run)
    for _ in range(4):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 90
        seen = set((run / "checkpoints").glob("step-*")) if run.exists() else set()
        while process.poll() is None and time.monotonic() < deadline:
            if set((run / "checkpoints").glob("step-*")) - seen:  # it has got further than last time
                time.sleep(dice.uniform(0, 0.3))
                break
            time.sleep(0.02)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
        command = [sys.executable, "-m", "rebus", "train", "--resume", str(run), "--quiet"]
        if (run / "config.json").exists():
            break
    subprocess.run([sys.executable, "-m", "rebus", "train", "--resume", str(run), "--quiet"], check=True, timeout=240)
    assert kills >= 1
    assert (run / "model.safetensors").read_bytes() == (tmp_path / "calm" / "model.safetensors").read_bytes()
