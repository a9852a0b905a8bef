"""Processes that prepare batches: the batches of one process, and no process is left behind, whatever ends."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from rebus.errors import DataError, RunError
from rebus.loop.lines import locked
from rebus.training.loader_workers import BatchBuilderPool


class BatchBuilder:
    """Batches that name their step, their kind and the process that made them."""

    def __init__(self, bad: int = -1, error: Exception | None = None) -> None:
        self.bad, self.error = bad, error

    def kind(self, progress: float) -> tuple[Any, ...]:
        return (progress >= 0.5,)

    def parts_at(self, step: int, progress: float) -> dict[str, Any]:
        if step == self.bad and self.error is not None:
            raise self.error
        return {"step": torch.full((64, 1024), step), "late": progress >= 0.5, "process": os.getpid()}


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def wait_until(what: Any, seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not what() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(what())


@pytest.fixture
def pool() -> Any:
    made = BatchBuilderPool(BatchBuilder(), 2)
    yield made
    made.close()
    assert all(gone(worker.process.pid) for worker in made._workers)


def test_batches_come_in_order_and_follow_the_point_of_the_run(pool: BatchBuilderPool) -> None:
    makers = set()
    for step in range(12):
        batch = pool.parts_at(step, step / 12)
        assert (int(batch["step"][0, 0]), batch["late"]) == (step, step >= 6)
        makers.add(batch["process"])
    assert len(makers) == 2
    assert os.getpid() not in makers


def test_a_worker_that_is_killed_is_named_at_once(pool: BatchBuilderPool) -> None:
    def rest() -> None:
        for step in range(1, 9):
            pool.parts_at(step, 0.0)

    pool.parts_at(0, 0.0)
    victim, start = pool._workers[1].process.pid, time.monotonic()
    os.kill(victim, signal.SIGKILL)
    with pytest.raises(RunError, match=rf"process {victim} was ended by SIGKILL.*--resume"):
        rest()
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [(DataError("row 3", "a", "b", "c"), DataError, "row 3"), (KeyError("row 12"), RuntimeError, "KeyError: 'row 12'")],
)
def test_what_a_worker_raises_comes_out(error: Exception, kind: type[Exception], told: str) -> None:
    pool = BatchBuilderPool(BatchBuilder(3, error), 2)
    try:
        for step in range(3):
            pool.parts_at(step, 0.0)
        with pytest.raises(kind, match=told):
            pool.parts_at(3, 0.0)
    finally:
        pool.close()


def test_an_interrupt_is_for_the_training_alone(pool: BatchBuilderPool) -> None:
    pool.parts_at(0, 0.0)
    for worker in pool._workers:  # a terminal sends it to all
        os.kill(worker.process.pid, signal.SIGINT)
    assert int(pool.parts_at(1, 0.0)["step"][0, 0]) == 1


def test_a_training_that_is_killed_leaves_no_worker_and_no_lock(tmp_path: Path) -> None:
    trainer = os.fork()
    if trainer == 0:
        with locked(tmp_path):
            pool = BatchBuilderPool(BatchBuilder(), 3)
            pool.parts_at(0, 0.0)
            pids = " ".join(str(worker.process.pid) for worker in pool._workers)
            (tmp_path / "workers.tmp").write_text(pids, encoding="ascii")
            (tmp_path / "workers.tmp").rename(tmp_path / "workers")
            time.sleep(60)
        os._exit(0)
    assert wait_until((tmp_path / "workers").exists)
    workers = [int(pid) for pid in (tmp_path / "workers").read_text(encoding="ascii").split()]
    assert len(workers) == 3
    assert not any(gone(pid) for pid in workers)
    os.kill(trainer, signal.SIGKILL)
    os.waitpid(trainer, 0)
    with locked(tmp_path):  # at once, whether they have gone yet or not
        assert wait_until(lambda: all(gone(pid) for pid in workers), 5.0)
