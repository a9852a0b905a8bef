"""Trains a tiny model in real processes, kills them with SIGKILL and compares the weights. Run by test_kill.py.

    python kill_driver.py CONFIG MODE FOLDER SEED

MODE says when to kill: ``random`` at any instant, ``tensors`` between two files of a checkpoint, ``rename`` just
before a checkpoint's folder gets its name, ``remove`` while an old checkpoint is being removed. The slow writes
are made here, not in the package. Prints one JSON line: the kills that hit, and the weights' digests.
Torch is imported once; each process is a fork.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import torch
import training_tiny as tiny

from rebus.loop import checkpoint
from rebus.loop.loop import fit

CONFIGS = {
    "adamw": {"optimizer": "adamw", "accumulate": 2, "validate_every": 5, "save_every": 2},
    "muon": {"optimizer": "muon", "ema": 0.9, "validate_every": 4, "save_every": 3, "keep": 1},
    "early": {"optimizer": "muon", "ema": 0.9, "precision": "bf16", "patience": 3, "save_every": 3, "accumulate": 2},
}


batches = mmap.mmap(-1, 1)  # shared with the forks: how many batches the one alive has made


def slow_batch(step, progress):
    batches[0] += 1
    time.sleep(0.01)
    return tiny.batch_at(step, progress)


def child(config, mode, folder, resume):
    """Train in a process of its own; gives its number."""
    pid = os.fork()
    if pid:
        return pid
    os.nice(3)  # on a busy machine the one who kills is not the one who waits
    torch.set_num_threads(1)
    if mode != "random":
        slow_down(mode, folder)
    model = tiny.net()
    plan = tiny.plan(slow_batch, CONFIGS[config].get("accumulate", 1), total_steps=30)
    try:
        fit(model, plan, tiny.train(**CONFIGS[config]), folder / "run", seed=1, resume=resume, quiet=True)
        (folder / "digest.tmp").write_text(tiny.digest(model), encoding="utf-8")
        os.replace(folder / "digest.tmp", folder / "digest")
        os._exit(0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)


def slow_down(mode, folder):
    marker = folder / "marker"

    def wait():
        marker.touch()
        time.sleep(0.1)

    if mode == "tensors":
        write = checkpoint._write_tensors

        def slow_write(path, tensors):
            write(path, tensors)
            wait()

        checkpoint._write_tensors = slow_write
    else:
        replace = os.replace

        def slow_replace(source, target):
            target = Path(target)
            if target.parent.name == "checkpoints" and target.name.startswith(".") == (mode == "remove"):
                wait()
                replace(source, target)
                wait()
            else:
                replace(source, target)

        os.replace = slow_replace


def run_with_kills(config, mode, folder, kills):
    folder.mkdir()
    hits, tries = 0, 0
    while not (folder / "digest").exists():
        (folder / "marker").unlink(missing_ok=True)
        batches[0] = 0
        pid = child(config, mode if hits < kills else "random", folder, resume=tries > 0)
        tries += 1
        if hits < kills:
            wait_for_the_instant(mode, folder, pid)
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        hits += os.WIFSIGNALED(status)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
            sys.exit(f"the training process failed after {hits} kills")
    return hits


def wait_for_the_instant(mode, folder, pid):
    saves, steps = random.randint(1, 3), random.randint(0, 12)
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if mode == "random" and batches[0] >= steps:
            time.sleep(random.uniform(0.0, 0.04))
            return
        if (folder / "marker").exists():
            (folder / "marker").unlink()
            saves -= 1
            if saves == 0:
                time.sleep(random.uniform(0.0, 0.08))
                return
        time.sleep(0.002)


def main():
    config, mode, folder, seed = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    random.seed(seed)
    reference = folder / "whole"
    reference.mkdir()
    os.waitpid(child(config, "random", reference, resume=False), 0)
    for _ in range(4):  # a run that was over before it was hit says nothing: begin again
        shutil.rmtree(folder / "killed", ignore_errors=True)
        hits = run_with_kills(config, mode, folder / "killed", 6 if mode == "random" else 4)
        if hits >= 3:
            break
    whole = (reference / "digest").read_text(encoding="utf-8")
    killed = (folder / "killed" / "digest").read_text(encoding="utf-8")
    print(json.dumps({"kills": hits, "whole": whole, "killed": killed}))


if __name__ == "__main__":
    main()
