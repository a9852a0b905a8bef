"""Losses that compare the rows of a whole batch: over all processes, and in portions where memory is small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rebus import recipe
from rebus.errors import RecipeError
from rebus.loop import parallel
from rebus.loop.batches import map_tensors
from rebus.loop.gradcache import Cached, Named
from rebus.models.batch import Batch
from rebus.tasks import Task
from rebus.tasks.contrast import comparing


def check_batches(train: recipe.Train, tasks: dict[str, Task]) -> None:
    """Refuse settings of the loop that tasks which compare rows cannot be trained with.

    Raises:
        RecipeError: a batch of one, plain accumulation, or portions that do not divide the batch.
    """
    comparing = [name for name, task in tasks.items() if task.compares]
    drawing = [name for name, task in tasks.items() if task.draws_negatives]
    own, portion = train.batch_size // parallel.world(), train.grad_cache
    if comparing and train.accumulate > 1:
        expected = f"1 with the task '{comparing[0]}', which learns by comparing all rows of a batch"
        do = f"set train.grad_cache={max(2, own // train.accumulate)}, which saves as much memory and compares them all"
        raise RecipeError("train.accumulate", expected, f"{train.accumulate}", do)
    if portion and not comparing:
        expected = "0, as no task compares the rows of a batch"
        raise RecipeError("train.grad_cache", expected, f"{portion}", "use train.accumulate to save memory")
    if portion and (own % portion or portion > own):
        expected = f"a number that divides a process's share of a batch, {own}"
        raise RecipeError("train.grad_cache", expected, f"{portion}", f"set it to {_divisor(own, portion)}, or 0")
    for name in (*comparing, *drawing):
        if (train.batch_size if name in comparing else portion or own // train.accumulate) < 2:
            do = "set train.batch_size=32 or more; more rows to tell apart teach more"
            raise RecipeError("train.batch_size", f"at least 2 rows for the task '{name}' to tell apart", "1", do)


def _divisor(whole: int, wanted: int) -> int:
    return max(size for size in range(1, min(whole, wanted) + 1) if whole % size == 0)


def compared_loss(task: Task, outputs: Sequence[Any], parts: Sequence[dict[str, Tensor]], *, alone: bool) -> Tensor:
    """A task's loss over portions of a batch and over all processes' shares of it.

    Args:
        task: one that compares rows.
        outputs: the model's, one for each portion.
        parts: the portions.
        alone: not all processes have something to compare: each compares its own.
    """
    whole, part = comparing(task).merged(list(outputs), list(parts))
    if parallel.world() > 1 and not alone:
        shares, pieces = _of_all(whole), _of_all(part)
        whole, part = comparing(task).merged(shares, pieces)
    loss: Tensor = task.loss(whole, part)
    return loss


def summed_loss(tasks: dict[str, Task], outputs: dict[str, Any], batch: Batch) -> tuple[Tensor, Named]:
    """The weighted sum of the tasks' losses, and each by its name."""
    return _summed(tasks, outputs, batch, _common(tasks, outputs))


def _summed(tasks: dict[str, Task], outputs: dict[str, Any], batch: Batch, common: set[str]) -> tuple[Tensor, Named]:
    parts: Named = {}
    losses = []
    for name, output in outputs.items():
        if tasks[name].compares:
            loss = compared_loss(tasks[name], [output], [batch.targets[name]], alone=name not in common)
        else:
            loss = tasks[name].loss(output, batch.targets[name])
        parts[f"loss/{name}"] = loss.detach()
        losses.append(loss * tasks[name].settings.weight)
    return torch.stack(losses).sum(), parts


def cached_plan(tasks: dict[str, Task], train: recipe.Train) -> Cached | None:
    """How ``train.grad_cache`` is done; None where it is off."""
    if not train.grad_cache:
        return None

    def names(batch: Batch, comparing: bool) -> list[str]:
        return [name for name in batch.targets if tasks[name].compares == comparing]

    def compared(model: nn.Module, batch: Batch, progress: float) -> Any:
        return model(batch, names(batch, comparing=True))

    def outputs(model: nn.Module, batch: Batch, progress: float) -> tuple[Any, Any]:
        mine = names(batch, comparing=True)
        result = model(batch, [*mine, *names(batch, comparing=False)])
        return {name: result[name] for name in mine}, {k: value for k, value in result.items() if k not in mine}

    def compare(held: Sequence[Any], batches: Sequence[Any], progress: float) -> tuple[Tensor, Named]:
        there = {name: None for portion in held for name in portion}
        common, text, losses = _common(tasks, there), Named(), []
        for name in there:
            with_it = [place for place, portion in enumerate(held) if name in portion]
            shares = [held[place][name] for place in with_it]
            parts = [batches[place].targets[name] for place in with_it]
            loss = compared_loss(tasks[name], shares, parts, alone=name not in common)
            text[f"loss/{name}"] = loss.detach()
            losses.append(loss * tasks[name].settings.weight)
        return sum(losses[1:], losses[0]) if losses else torch.zeros(()), text

    def rest(others: Any, batch: Batch, progress: float) -> tuple[Tensor | None, Named]:
        return _summed(tasks, others, batch, set()) if others else (None, {})

    return Cached(compared, outputs, compare, rest)


def _common(tasks: dict[str, Task], there: dict[str, Any]) -> set[str]:
    """Comparing tasks that every process has rows of; each process asks for the same ones, in the same order."""
    if parallel.world() == 1:
        return set(there)
    names = [name for name, task in tasks.items() if task.compares]
    if not names:
        return set()
    counts = parallel.agreed([float(name in there) for name in names])
    return {name for name, count in zip(names, counts, strict=True) if count == parallel.world()}


def _of_all(nest: Any) -> list[Any]:
    """A nest of tensors of each process; numbers that stand alone are the same in all."""
    world = parallel.world()
    result: list[list[Tensor]] = []

    def ask(tensor: Tensor) -> Tensor:
        result.append(parallel.gathered(tensor) if tensor.ndim else [tensor] * world)
        return tensor

    map_tensors(nest, ask)
    items = []
    for process in range(world):
        taken = iter(result)
        items.append(map_tensors(nest, lambda _, taken=taken, process=process: next(taken)[process]))  # type: ignore[misc]
    return items
