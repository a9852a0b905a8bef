from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest
import torch

from rebus.loop.batches import AHEAD, Prefetcher, map_tensors


@dataclass(frozen=True)
class Pair:
    ids: torch.Tensor
    name: str


def test_batches_come_in_order_and_are_made_ahead_in_another_thread():
    made, enough = [], threading.Event()

    def make(step):
        made.append((step, threading.current_thread() is threading.main_thread()))
        if step == 5 + AHEAD:
            enough.set()
        return step * 10

    batches = Prefetcher(make, 5)
    assert batches.get(5) == 50
    assert enough.wait(5)
    assert [step for step, _ in made] == [5, 6, 7]
    assert not any(main for _, main in made)
    assert [batches.get(step) for step in (6, 7, 8)] == [60, 70, 80]
    batches.close()


def test_no_batch_is_made_beyond_the_last_step():
    made = []
    batches = Prefetcher(lambda step: made.append(step), 0, 2)
    batches.get(0)
    batches.get(1)
    batches.close()
    assert made == [0, 1]


def test_an_error_appears_at_the_step_whose_batch_failed():
    def make(step):
        if step == 2:
            raise OSError("the image is gone")
        return step

    batches = Prefetcher(make, 0)
    assert [batches.get(0), batches.get(1)] == [0, 1]
    with pytest.raises(OSError, match="gone"):
        batches.get(2)
    batches.close()


def test_nested_batches_keep_their_shape():
    batch = {"pair": Pair(torch.ones(2), "a"), "list": [torch.zeros(1), 3], "tuple": (torch.ones(1), None)}
    doubled = map_tensors(batch, lambda tensor: tensor * 2)
    assert doubled["pair"].ids.tolist() == [2, 2]
    assert doubled["pair"].name == "a"
    assert doubled["list"][1] == 3
    assert doubled["tuple"] == (torch.tensor([2.0]), None)
