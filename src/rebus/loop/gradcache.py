"""The gradients of a big batch whose rows are compared with one another, in the memory of a small portion.

Knows no task. Plain accumulation would compare the rows of a portion only. Here each portion first goes through the
model without a graph; the loss of all outputs together gives each output's gradient; then each portion goes through
again, with a graph and with the same rng, and its outputs hand their gradients on to the weights. That is one more
forward pass, and the big batch's own gradients (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under
Memory Limited Setup").

A module that takes statistics over the batch (batch normalisation in training mode) takes those of a portion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rebus.loop.batches import map_tensors

Named = dict[str, "float | Tensor"]


@dataclass(frozen=True)
class Cached:
    """A loss over all portions of a batch.

    Attributes:
        compared: (model, portion, progress) -> outputs that are compared, in any nest of tensors.
        outputs: the same, and what else the model is to give; it throws its rng for the compared ones first.
        compare: (outputs of all portions, the portions, progress) -> their loss, named figures.
        rest: (outputs, portion, progress) -> the loss of what is not compared, None where there is none; named figures.
    """

    compared: Callable[[nn.Module, Any, float], Any]
    outputs: Callable[[nn.Module, Any, float], tuple[Any, Any]]
    compare: Callable[[Sequence[Any], Sequence[Any], float], tuple[Tensor, Named]]
    rest: Callable[[Any, Any, float], tuple[Tensor | None, Named]]


def cached_backward(
    model: nn.Module,
    wrapped: nn.Module,
    cached: Cached,
    parts: Sequence[Any],
    progress: float,
    *,
    scope: Callable[[bool], AbstractContextManager[Any]],
    autocast: Callable[[], AbstractContextManager[Any]],
) -> tuple[Tensor, Named]:
    """Add the batch's gradients to the weights.

    Args:
        model: bare.
        wrapped: the same, perhaps wrapped to average gradients over processes.
        cached: what is computed.
        parts: the portions, on the model's device.
        progress: 0 to 1.
        scope: of a portion's second pass; told whether it is the last.
        autocast: of a forward pass.

    Returns:
        The loss, without a graph, and named figures.
    """
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    rng, held = [], []
    for part in parts:
        rng.append(_dice(parts_device(model)))
        with torch.no_grad(), autocast():
            held.append(_leaves(cached.compared(model, part, progress)))
    with torch.no_grad():  # the second pass makes the same statistics again
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    with autocast():
        loss, named = cached.compare([nest for nest, _ in held], parts, progress)
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
    total = loss.detach()
    for number, part in enumerate(parts):
        with scope(number == len(parts) - 1):
            with _thrown_again(rng[number], parts_device(model)), autocast():
                compared, others = cached.outputs(wrapped, part, progress)
                rest, text = cached.rest(others, part, progress)
            _, fresh = _tensors(compared)
            pairs = [(x, leaf.grad) for x, leaf in zip(fresh, held[number][1], strict=True) if leaf.grad is not None]
            handed = torch.stack([(x * grad).sum() for x, grad in pairs]).sum() if pairs else None
            whole = [item for item in (handed, None if rest is None else rest / len(parts)) if item is not None]
            if whole:
                torch.stack(whole).sum().backward()  # type: ignore[no-untyped-call]
        if rest is not None:
            total = total + rest.detach() / len(parts)
        for name, value in text.items():
            named[name] = named.get(name, 0.0) + value / len(parts)
    return total, named


def parts_device(model: nn.Module) -> torch.device:
    """Where the model is."""
    return next(model.parameters()).device


def _tensors(nest: Any) -> tuple[Any, list[Tensor]]:
    result: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        result.append(tensor)
        return tensor

    return map_tensors(nest, keep), result


def _leaves(nest: Any) -> tuple[Any, list[Tensor]]:
    """The same nest of tensors that gradients can be asked of."""
    return _tensors(map_tensors(nest, lambda tensor: tensor.detach().requires_grad_(tensor.is_floating_point())))


def _dice(device: torch.device) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


@contextmanager
def _thrown_again(rng: tuple[Tensor, Tensor | None], device: torch.device) -> Iterator[None]:
    """The random numbers of an earlier pass."""
    torch.set_rng_state(rng[0])
    if rng[1] is not None:
        torch.cuda.set_rng_state(rng[1], device)
    yield
