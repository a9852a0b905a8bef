"""What texts are written from beside their prompts, computed once for all requests about one image.

It knows no images: a source computes its condition when it is asked, and is known by its key. Letters: P prefix tokens,
M memory tokens, L tokens, D width.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from rebus.generation.paging import CrossCache
from rebus.generation.requests import Source
from rebus.models.features import Features
from rebus.models.fusion import Condition


class Conditioning:
    """One source's condition, without the tokens that are masked.

    Attributes:
        key: the source's.
        prefix: (P, D), read before the prompt, every one seeing all; None: nothing is.
        memory: (1, M, D), all of it real; None: nothing is attended to.
        cross: what attention made of the memory, layer by layer, once it is known.
        spread: whether it changes how every token enters the decoder.
        inside: whether image tokens take the place of marks in the prompt.
    """

    def __init__(self, source: Source) -> None:
        condition = source.compute()
        self.key, self.model = source.key, source.model
        prefix, memory = condition.prefix, condition.memory
        self.prefix = None if prefix is None else prefix.tokens[0][prefix.mask[0]]
        self.memory = None if memory is None else _real(memory)
        self.condition = replace(condition, prefix=None, memory=None)
        self.cross: CrossCache = {}
        self.spread = condition.vector is not None or condition.shown is not None
        self.inside = condition.inside is not None

    @property
    def length(self) -> int:
        """P."""
        return 0 if self.prefix is None else len(self.prefix)

    @property
    def bytes(self) -> int:
        """What its tensors take."""
        tensors = [self.prefix, *_tensors(self.memory), *(tensor for pair in self.cross.values() for tensor in pair)]
        tensors += [
            tensor for part in fields(self.condition) for tensor in _tensors(getattr(self.condition, part.name))
        ]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor is not None)

    def marks(self, ids: Sequence[int]) -> int:
        """How many places of image tokens there are among ids."""
        return list(ids).count(self.model.image_id) if self.inside and self.model.image_id is not None else 0

    def embed(self, ids: Tensor, before: int) -> Tensor:
        """(1, L) ids of one text that had ``before`` image marks until then -> (1, L, D)."""
        count = torch.full((1,), before, device=ids.device) if self.inside else None
        return self.model.embed(self.condition, ids, count)


class ConditioningCache:
    """Conditionings by their keys: those asked for last, as far as they fit.

    Args:
        most: bytes.
    """

    def __init__(self, most: int) -> None:
        self.most, self._entries = most, OrderedDict[str, Conditioning]()

    def find(self, key: str) -> Conditioning | None:
        """The one with this key."""
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def compute(self, source: Source) -> Conditioning:
        """A new one; the oldest go until the rest fits, and texts that use one keep it. Raises as ``compute``."""
        new = self._entries[source.key] = Conditioning(source)
        sizes = {key: entry.bytes for key, entry in self._entries.items()}  # a memory's grows when it is first read
        total = sum(sizes.values())
        while total > self.most and self._entries:
            key, _ = self._entries.popitem(last=False)
            total -= sizes[key]
        return new


def joined(conditions: Sequence[Condition]) -> Condition | None:
    """Conditions of one item each as one of several; None: their sizes differ."""
    whole: dict[str, Any] = {}
    for part in fields(Condition):
        values = [getattr(condition, part.name) for condition in conditions]
        if all(value is None for value in values):
            continue
        if any(value is None for value in values):
            return None
        rows = [_tensors(value) for value in values]
        if any(tensor.shape != first.shape for row in rows for tensor, first in zip(row, rows[0], strict=True)):
            return None
        columns = [torch.cat(column) for column in zip(*rows, strict=True)]
        whole[part.name] = Features(*columns) if isinstance(values[0], Features) else columns[0]
    return Condition(**whole)


def _tensors(value: Features | Tensor | None) -> list[Tensor]:
    if value is None:
        return []
    return [value] if isinstance(value, Tensor) else [value.tokens, value.mask, value.pooled]


def _real(part: Features) -> Features:
    """One item without its masked tokens."""
    tokens = part.tokens[:, part.mask[0]]
    return Features(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device), part.pooled)
