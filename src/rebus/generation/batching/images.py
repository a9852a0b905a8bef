"""What texts are written from beside their prompts, made once for all that ask about one image.

It knows no images: a source makes its condition when it is asked, and is known by its key. Letters: P prefix tokens,
M memory tokens, L tokens, D width.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from rebus.generation.batching.requests import ImageSource
from rebus.generation.paging import Kept
from rebus.models.features import Features
from rebus.models.fusion import Condition
from rebus.models.vlm import VisionLanguageModel


class Given:
    """One source's condition, without the tokens that are masked.

    Attributes:
        key: the source's.
        prefix: (P, D), read before the prompt, every one seeing all; None: nothing is.
        memory: (1, M, D), all of it real; None: nothing is attended to.
        kept: what attention made of the memory, layer by layer, once it is known.
        spread: whether it changes how every token enters the decoder.
        inside: whether image tokens take the place of marks in the prompt.
    """

    def __init__(self, key: str, model: VisionLanguageModel, condition: Condition) -> None:
        self.key, self.model = key, model
        prefix, memory = condition.prefix, condition.memory
        self.prefix = None if prefix is None else prefix.tokens[0][prefix.mask[0]]
        self.memory = None if memory is None else _real(memory)
        self.condition = replace(condition, prefix=None, memory=None)
        self.kept: Kept = {}
        self.spread = condition.vector is not None or condition.shown is not None
        self.inside = condition.inside is not None

    @property
    def length(self) -> int:
        """P."""
        return 0 if self.prefix is None else len(self.prefix)

    @property
    def bytes(self) -> int:
        """What it takes."""
        tensors = [self.prefix, *_tensors(self.memory), *(one for pair in self.kept.values() for one in pair)]
        tensors += [one for part in fields(self.condition) for one in _tensors(getattr(self.condition, part.name))]
        return sum(one.numel() * one.element_size() for one in tensors if one is not None)

    def marks(self, ids: Sequence[int]) -> int:
        """How many places of image tokens there are among ids."""
        return list(ids).count(self.model.image_id) if self.inside and self.model.image_id is not None else 0

    def embed(self, ids: Tensor, before: int) -> Tensor:
        """(1, L) ids of one text that had ``before`` image marks until then -> (1, L, D)."""
        count = torch.full((1,), before, device=ids.device) if self.inside else None
        return self.model.embed(self.condition, ids, count)


class Images:
    """Givens by their keys: those asked for last, as far as they fit.

    Args:
        most: bytes.
    """

    def __init__(self, most: int) -> None:
        self.most, self._kept = most, OrderedDict[str, Given]()

    def find(self, key: str) -> Given | None:
        """The one with this key."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def make(self, source: ImageSource) -> Given:
        """A new one. Raises whatever making it raises."""
        given = Given(source.key, source.model, source.make())
        self._kept[source.key] = given
        self.shrink()
        return given

    def shrink(self) -> None:
        """Let go of the oldest until the rest fits; texts that use one keep it."""
        sizes = {key: given.bytes for key, given in self._kept.items()}  # a memory's grows when it is first read
        total = sum(sizes.values())
        while total > self.most and self._kept:
            key, _ = self._kept.popitem(last=False)
            total -= sizes[key]


def joined(conditions: Sequence[Condition]) -> Condition | None:
    """Conditions of one item each as one of several; None: their sizes differ."""
    made: dict[str, Any] = {}
    for part in fields(Condition):
        values = [getattr(one, part.name) for one in conditions]
        if all(value is None for value in values):
            continue
        if any(value is None for value in values):
            return None
        lists = [_tensors(value) for value in values]
        if any(one.shape != first.shape for row in lists for one, first in zip(row, lists[0], strict=True)):
            return None
        whole = [torch.cat(column) for column in zip(*lists, strict=True)]
        made[part.name] = Features(*whole) if isinstance(values[0], Features) else whole[0]
    return Condition(**made)


def _tensors(value: Features | Tensor | None) -> list[Tensor]:
    if value is None:
        return []
    return [value] if isinstance(value, Tensor) else [value.tokens, value.mask, value.pooled]


def _real(part: Features) -> Features:
    """One item without its masked tokens."""
    tokens = part.tokens[:, part.mask[0]]
    return Features(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device), part.pooled)
