"""Training batches as a pure function of the step: nothing about them needs saving, a resume is a step number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rebus import recipe
from rebus.data.transforms import augment
from rebus.errors import RecipeError
from rebus.tasks.base import Codec, Item, Task, Values
from rebus.tasks.cells import missing

Picture = Callable[[int], NDArray[np.uint8]]  # row number -> (size, size, 3)


class Feed:
    """Deals groups of rows that share a picture.

    Args:
        tasks: name: task, fitted.
        values: name: the task's columns.
        groups: row numbers, the rows of one picture together.
        picture: gives a row's picture; None where no task sees any.
        picture_values: the picture column; rows without a picture have none.
        codec: text to ids.
        settings: the recipe (seed, batch size, augmentation).
        features: group numbers -> a frozen tower's (tokens, pooled), instead of pictures; None: pictures.
        share: this process's part of a batch's places, where several processes train together.
    """

    def __init__(
        self,
        tasks: dict[str, Task],
        values: dict[str, Values],
        groups: list[list[int]],
        picture: Picture | None,
        picture_values: Sequence[Any] | None,
        codec: Codec,
        settings: recipe.Recipe,
        *,
        features: Callable[[Sequence[int]], tuple[Tensor, ...]] | None = None,
        share: Callable[[range], Sequence[int]] = lambda places: places,
    ) -> None:
        self.tasks, self.values, self.groups, self.codec = tasks, values, groups, codec
        self.picture, self.picture_values, self.settings = picture, picture_values, settings
        self.features, self.share = features, share
        self.lengths = self._lengths() if picture is None else None
        self._order = lru_cache(maxsize=2)(self._ordered)

    @property
    def steps_per_epoch(self) -> float:
        """Batches in one pass over the groups."""
        return len(self.groups) / self.settings.train.batch_size

    def batch_at(self, step: int, progress: float) -> dict[str, Any]:
        """This process's share of batch ``step``; ``progress`` (0 to 1) says which tasks are trained now.

        Raises:
            RecipeError: the processes cannot share a batch equally.
        """
        size, many = self.settings.train.batch_size, len(self.groups)
        places = self.share(range(step * size, (step + 1) * size))
        keys = [(place // many, int(self._order(place // many)[place % many])) for place in places]
        return self.assemble(keys, self.active(progress))

    def active(self, progress: float) -> dict[str, Task]:
        """The tasks that are trained at this point of the run; all of them where the recipe leaves a gap."""
        now = {}
        for name, task in self.tasks.items():
            start, until = task.settings.start, task.settings.until
            if start <= progress and (progress < until or until >= 1.0):
                now[name] = task
        return now or self.tasks

    def split(self, batch: dict[str, Any], parts: int) -> list[dict[str, Any]]:
        """The same batch as ``parts`` smaller ones of equally many pictures, for accumulation.

        Raises:
            RecipeError: it cannot be cut equally.
        """
        keys, tasks = batch["keys"], {name: self.tasks[name] for name in batch["tasks"]}
        if len(keys) % parts:
            raise RecipeError(
                "train.accumulate", f"a batch that divides into {parts} equal parts", f"{len(keys)} rows", "lower it"
            )
        size = len(keys) // parts
        return [self.assemble(keys[start : start + size], tasks) for start in range(0, len(keys), size)]

    def assemble(self, keys: list[tuple[int, int]], tasks: dict[str, Task]) -> dict[str, Any]:
        """The batch of some groups, each named by (epoch, index)."""
        batch: dict[str, Any] = {"tasks": {}, "keys": keys}
        seed = self.settings.seed
        for name, task in tasks.items():
            items: list[Item] = []
            owner: list[int] = []
            for place, (epoch, index) in enumerate(keys):
                made = task.items(self.values[name], self.groups[index], self.codec, (seed, epoch, index))
                items += made
                owner += [place] * len(made)
            if items:
                batch["tasks"][name] = task.collate(items, owner)
        if self.features is not None:
            batch["picture_tokens"], batch["picture_pooled"] = self.features([index for _, index in keys])
            batch["has_picture"] = torch.tensor([self._has_picture(index) for _, index in keys])
        elif self.picture is not None:
            self._add_pictures(batch, keys, self.picture)
        return batch

    def _has_picture(self, index: int) -> bool:
        return self.picture_values is not None and not missing(self.picture_values[self.groups[index][0]])

    def _add_pictures(self, batch: dict[str, Any], keys: list[tuple[int, int]], picture: Picture) -> None:
        side, change = self.settings.picture.size, self.settings.picture.augment
        pixels = np.zeros((len(keys), side, side, 3), dtype=np.uint8)
        there = np.zeros(len(keys), dtype=bool)
        changes = any(value for _, value in change)
        for place, (epoch, index) in enumerate(keys):
            if self._has_picture(index):
                array = picture(self.groups[index][0])
                pixels[place] = augment(array, change, self.settings.seed, epoch, index) if changes else array
                there[place] = True
        batch["picture"] = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        batch["has_picture"] = torch.from_numpy(there)

    def _lengths(self) -> NDArray[np.int64]:
        """How long each group's text is, in characters: near enough to sort by."""
        found = np.zeros(len(self.groups), dtype=np.int64)
        for place, rows in enumerate(self.groups):
            for name, task in self.tasks.items():
                found[place] += sum(len(text) for text in task.texts(self.values[name], rows))
        return found

    def _ordered(self, epoch: int) -> NDArray[np.int64]:
        """The order of groups in an epoch; texts of like length stand together, batches in random order."""
        dice = np.random.default_rng((self.settings.seed, epoch))
        order = dice.permutation(len(self.groups))
        if self.lengths is None:
            return order
        size = self.settings.train.batch_size
        window = size * 32
        sorted_parts = [part[np.argsort(self.lengths[part], kind="stable")] for part in split_every(order, window)]
        batches = split_every(np.concatenate(sorted_parts), size)
        whole, rest = [b for b in batches if len(b) == size], [b for b in batches if len(b) < size]
        mixed = [whole[i] for i in dice.permutation(len(whole))] + rest
        return np.concatenate(mixed)


def split_every(array: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Cut into runs of ``size``, the last one shorter."""
    return [array[start : start + size] for start in range(0, len(array), size)]


def group_rows(rows: Sequence[int], pictures: Sequence[Any] | None) -> list[list[int]]:
    """Put rows that share a picture together, in order of first appearance; a row without one stands alone."""
    if pictures is None:
        return [[row] for row in rows]
    groups: dict[Any, list[int]] = {}
    for row in rows:
        value = pictures[row]
        groups.setdefault(("row", row) if missing(value) else value, []).append(row)
    return list(groups.values())
