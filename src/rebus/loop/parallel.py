"""Several processes that train one model, as torchrun starts them. Knows no model and no data.

Every process runs the same steps; a batch is the same whatever their number, and each takes its slice of it.
Weights are read from one folder that all processes see; the first process alone writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rebus.errors import RecipeError

T = TypeVar("T")


def world() -> int:
    """How many processes train together; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process's number, from 0."""
    return int(os.environ.get("RANK", "0")) if world() > 1 else 0


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return rank() == 0


def rank_slice(items: Sequence[T]) -> Sequence[T]:
    """This process's share of a step's items: an equal piece, in order.

    Raises:
        RecipeError: the items cannot be shared equally: the mean over processes would not be the mean over items.
    """
    if len(items) % world():
        raise RecipeError(
            where="train.batch_size",
            expected=f"a batch that {world()} processes can share equally",
            found=f"{len(items)} rows",
            do=f"choose a train.batch_size that {world()} divides",
        )
    size = len(items) // world()
    return items[rank() * size : (rank() + 1) * size]


def local_device(device: str | torch.device) -> torch.device:
    """The device of this process: with several on a machine, ``cuda`` becomes the GPU of its local rank."""
    wanted = torch.device(device)
    if str(wanted) == "cuda" and world() > 1:
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return wanted


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """The processes know each other within this context: gloo on a CPU, nccl on GPUs; nothing for a single one."""
    if world() == 1 or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # the first process validates and saves while the others wait, which may take long
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(hours=2))
    try:
        yield
    finally:
        dist.destroy_process_group()


def wrapped(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with gradients averaged over processes; the model itself when there is one."""
    if world() == 1:
        return model
    # a task may be switched off for a while: its parameters then have no gradient
    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=ids, find_unused_parameters=True)


def without_averaging(model: nn.Module) -> AbstractContextManager[object]:
    """Within this context ``backward`` leaves gradients local: for all but the last part of a step's batch."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


def summed(values: list[float], device: torch.device) -> list[float]:
    """The sums of these figures over all processes, the same in each; float64."""
    if world() == 1:
        return values
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return [float(value) for value in tensor.tolist()]


def agreed(values: list[float]) -> list[float]:
    """``summed`` on whatever device the processes talk through."""
    return summed(values, _talking())


def gathered(tensor: Tensor) -> list[Tensor]:
    """What each process holds of a batch, in the order of the processes: (n, ...) each, of any length n.

    For a loss that every process computes from all of it: this process's own piece carries gradients, and carries them
    as many times as there are processes, since averaging over them divides them by that. So the averaged gradients are
    those of one process with the whole batch. (Each process's loss must be the same function of the pieces.)
    """
    if world() == 1:
        return [tensor]
    device = _talking()
    lengths = [torch.zeros(1, dtype=torch.long, device=device) for _ in range(world())]
    dist.all_gather(lengths, torch.tensor([len(tensor)], device=device))
    counts = [int(length) for length in lengths]
    padded = torch.zeros(max(counts), *tensor.shape[1:], dtype=tensor.dtype, device=device)
    padded[: len(tensor)] = tensor.detach()
    pieces = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(pieces, padded)
    items = [piece[:count].to(tensor.device) for piece, count in zip(pieces, counts, strict=True)]
    items[rank()] = _Shared.apply(tensor)  # type: ignore[no-untyped-call]
    return items


class _Shared(torch.autograd.Function):
    """The same tensor; its gradient times the number of processes."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * world()


def _talking() -> torch.device:
    if world() > 1 and dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
