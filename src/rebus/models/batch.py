"""A batch: the inputs of each modality, with the example that each belongs to, and the targets of each task.

It knows no table, tokenizer or model. Letters: B examples (rows that share all inputs but text), N items of one
modality, R rows of a task's targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Inputs:
    """One modality's share of a batch.

    Attributes:
        tensors: (N, ...) each, e.g. ``pixels`` (N, 3, S, S) uint8, or a frozen tower's ``tokens`` and ``pooled``.
        owner: (N,) long, ascending: the example each item belongs to. An example with none lacks the modality.
        most: the largest number of items that an example has.
    """

    tensors: dict[str, Tensor]
    owner: Tensor
    most: int = -1

    def __post_init__(self) -> None:
        if self.most < 0:
            object.__setattr__(self, "most", int(self.owner.bincount().max()) if len(self.owner) else 0)

    @classmethod
    def one_each(cls, **tensors: Tensor) -> Inputs:
        """Inputs of which every example has one item."""
        first = next(iter(tensors.values()))
        return cls(tensors, torch.arange(len(first), device=first.device), 1)

    @classmethod
    def at(cls, owner: Sequence[int], tensors: dict[str, Tensor]) -> Inputs:
        """Inputs of which the examples ``owner`` have one item each, the others none."""
        return cls(tensors, torch.tensor(owner, dtype=torch.long), int(bool(owner)))

    def __len__(self) -> int:
        """N."""
        return len(self.owner)

    def first(self, examples: Tensor) -> Tensor:
        """(R,) examples, each with an item -> (R,) the number of its first item."""
        return torch.searchsorted(self.owner, examples)

    def to(self, device: torch.device) -> Inputs:
        """The same on a device."""
        return Inputs(
            {name: tensor.to(device) for name, tensor in self.tensors.items()}, self.owner.to(device), self.most
        )

    def where(self, keep: Tensor) -> Inputs:
        """The items of the examples that ``keep`` (B,) bool names."""
        kept = keep[self.owner]
        return Inputs({name: tensor[kept] for name, tensor in self.tensors.items()}, self.owner[kept])


@dataclass(frozen=True)
class Batch:
    """Examples with what is learned of them.

    Attributes:
        size: B.
        inputs: by modality. A modality that is not named is not read at all.
        targets: by task, what its ``collate`` made: ``owner`` (R,), the example each text belongs to, and for a head
            that writes ``input_ids``, ``positions``, ``blocks``, ``labels``, all (R, L); for a head that reads text,
            or where a text tower reads the question, ``text_ids``, ``text_mask`` (R, L) and perhaps ``segment_ids``.
        views: a second view of the inputs, by modality, where a task compares two.
        keys: (epoch, index) of each example in training.
        partners: for each example, the key of the one that is mixed into it; empty: nothing is mixed.
    """

    size: int
    inputs: dict[str, Inputs] = field(default_factory=dict)
    targets: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    views: dict[str, Inputs] = field(default_factory=dict)
    keys: list[tuple[int, int]] = field(default_factory=list)
    partners: list[tuple[int, int]] = field(default_factory=list)

    @classmethod
    def of_target(cls, name: str, target: dict[str, Tensor]) -> Batch:
        """A batch of a task that reads nothing but its own tensors."""
        return cls(len(next(iter(target.values()))), targets={name: target})

    def with_target(self, name: str, target: dict[str, Any]) -> Batch:
        """The same inputs with the tensors of one task."""
        return replace(self, targets={name: target})

    def present(self, modality: str) -> Tensor:
        """(B,) bool: whether each example has an item of a modality."""
        if modality not in self.inputs:
            return torch.zeros(self.size, dtype=torch.bool)
        owner = self.inputs[modality].owner
        return torch.zeros(self.size, dtype=torch.bool, device=owner.device).index_fill(0, owner, True)
