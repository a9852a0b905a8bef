"""Training batches as a pure function of the step: nothing about them needs saving, a resume is a step number."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rebus import recipe
from rebus.data.frame import frame_of
from rebus.data.table import MOST_LISTED
from rebus.data.transforms import augment
from rebus.errors import RecipeError
from rebus.models.batch import Batch, Inputs
from rebus.tasks.base import Item, Task, TextProcessor, Values, VectorTask
from rebus.tasks.cells import missing
from rebus.tasks.contrast import image_key
from rebus.tasks.hiding import hidden_modality, without_text
from rebus.tasks.mixing import Mixer

CLOSE = 1e-9  # as near as progress comes to a share of the run, both being sums
Image = Callable[[int], NDArray[np.uint8]]  # row number -> (size, size, 3)


class BatchBuilder:
    """Deals groups of rows that share an image.

    Args:
        tasks: name: task, fitted.
        values: name: the task's columns.
        groups: row numbers, the rows of one image together.
        image: gives a row's image; None where no task sees any.
        image_values: the image column; rows without an image have none.
        processor: text to ids.
        settings: the recipe (seed, batch size, augmentation).
        features: group numbers -> a frozen tower's (tokens, pooled), instead of images; None: images.
        still: progress up to which the tower stays as it is, so that these features are used.
        share: this process's part of a batch's places, where several processes train together.
    """

    def __init__(
        self,
        tasks: dict[str, Task],
        values: dict[str, Values],
        groups: list[list[int]],
        image: Image | None,
        image_values: Sequence[Any] | None,
        processor: TextProcessor,
        settings: recipe.Recipe,
        *,
        features: Callable[[Sequence[int]], tuple[Tensor, ...]] | None = None,
        still: float = math.inf,
        share: Callable[[range], Sequence[int]] = lambda places: places,
    ) -> None:
        self.tasks, self.values, self.groups, self.processor = tasks, values, groups, processor
        self.image, self.image_values, self.settings = image, image_values, settings
        self.features, self.still, self.share = features, still, share
        self.mixer = Mixer(settings, self._has_image)
        self.lengths = self._lengths() if image is None else None
        self._order = lru_cache(maxsize=2)(self._ordered)
        self._image_key = lru_cache(maxsize=65_536)(self._keyed)

    @property
    def steps_per_epoch(self) -> float:
        """Batches in one pass over the groups."""
        return len(self.groups) / self.settings.train.batch_size

    def batch_at(self, step: int, progress: float) -> Batch:
        """This process's share of batch ``step``; ``progress`` (0 to 1) says which tasks are trained now.

        Raises:
            RecipeError: the processes cannot share a batch equally.
        """
        size = self.settings.train.batch_size
        places = self.share(range(step * size, (step + 1) * size))
        keys = [self._key(place) for place in places]
        partners = self.mixer.partners(places, self._key) if self.mixer.on else None
        return self.assemble(keys, self.active(progress), cached=self.cached(progress), partners=partners)

    def _key(self, place: int) -> tuple[int, int]:
        """(epoch, group) at a place of the endless order."""
        epoch, at = divmod(place, len(self.groups))
        return epoch, int(self._order(epoch)[at])

    def cached(self, progress: float) -> bool:
        """Whether a frozen tower's features stand in for images at this point of the run."""
        return self.features is not None and progress + CLOSE < self.still

    def kind(self, progress: float) -> tuple[Any, ...]:
        """What of a batch depends on the point of the run: the tasks that are trained, and whether images are."""
        return (*self.active(progress), self.cached(progress))

    def active(self, progress: float) -> dict[str, Task]:
        """The tasks that are trained at this point of the run; all of them where the recipe leaves a gap."""
        now = {}
        for name, task in self.tasks.items():
            start, until = task.settings.start, task.settings.until
            if start <= progress and (progress < until or until >= 1.0):
                now[name] = task
        return now or self.tasks

    def split(self, batch: Batch, parts: int) -> list[Batch]:
        """The same batch as ``parts`` smaller ones of equally many images, for accumulation.

        Raises:
            RecipeError: it cannot be cut equally.
        """
        keys, tasks = batch.keys, {name: self.tasks[name] for name in batch.targets}
        if len(keys) % parts:
            raise RecipeError(
                "train.accumulate", f"a batch that divides into {parts} equal parts", f"{len(keys)} rows", "lower it"
            )
        size = len(keys) // parts
        cached, partners = self.features is not None and "pixels" not in batch.inputs["image"].tensors, batch.partners
        cuts = [slice(at, at + size) for at in range(0, len(keys), size)]
        return [self.assemble(keys[c], tasks, cached=cached, partners=partners[c] or None) for c in cuts]

    def assemble(
        self,
        keys: list[tuple[int, int]],
        tasks: dict[str, Task],
        *,
        cached: bool = True,
        partners: list[tuple[int, int]] | None = None,
    ) -> Batch:
        """The batch of some groups.

        Args:
            keys: each group's (epoch, index).
            tasks: what is trained.
            cached: with a frozen tower's features, where there are any.
            partners: for each group, the one that is mixed into it; None: nothing is mixed.
        """
        batch = Batch(len(keys), keys=keys, partners=partners or [])
        seed = self.settings.seed
        hidden = [self._hidden(key, tasks) for key in keys]
        for name, task in tasks.items():
            items: list[Item] = []
            owner: list[int] = []
            for place, (epoch, index) in enumerate(keys):
                made = task.items(self.values[name], self.groups[index], self.processor, (seed, epoch, index))
                if made and "image_key" in made[0] and self._has_image(index):
                    made = [{**item, "image_key": self._image_key(index)} for item in made]
                made = self._moved(task, name, made, keys[place])
                if partners and isinstance(task, VectorTask):
                    made = self._mixed(task, name, made, keys[place], partners[place])
                items += without_text(made) if hidden[place] == "text" else made
                owner += [place] * len(made)
            if items:
                batch.targets[name] = task.collate(items, owner)
        shown = [place for place, key in enumerate(keys) if self._has_image(key[1]) and hidden[place] != "image"]
        images = torch.tensor(shown, dtype=torch.long)
        if self.features is not None and cached:
            known = self.features([keys[place][1] for place in shown]) if shown else ()
            batch.inputs["image"] = Inputs(dict(zip(("tokens", "pooled"), known, strict=False)), images)
        elif self.image is not None:
            self._add_images(batch, shown, images, self.image)
        return batch

    def _hidden(self, key: tuple[int, int], tasks: dict[str, Task]) -> str:
        shown = (self.image is not None or self.features is not None) and self._has_image(key[1])
        return hidden_modality(self.settings, key, self.groups[key[1]], tasks, self.values, has_image=shown)

    def _keyed(self, index: int) -> NDArray[np.int64]:
        """A number that groups with equal images have in common, whatever their files are called."""
        assert self.image is not None  # noqa: S101 - there is an image
        return image_key(self.image(self.groups[index][0]))

    def _has_image(self, index: int) -> bool:
        return self.image_values is not None and not missing(self.image_values[self.groups[index][0]])

    def _moved(self, task: Task, name: str, made: list[Item], key: tuple[int, int]) -> list[Item]:
        """Items whose places follow the image's."""
        if not task.has_places or not made:
            return made
        frame = frame_of(self.settings.image.augment, self.settings.seed, *key)
        return made if frame is None else task.moved(made, self.values[name], self.groups[key[1]], frame)

    def _mixed(
        self, task: VectorTask, name: str, made: list[Item], key: tuple[int, int], other: tuple[int, int]
    ) -> list[Item]:
        theirs = task.items(self.values[name], self.groups[other[1]], self.processor, (self.settings.seed, *other))
        return self.mixer.items(task, made, theirs, self.mixer.share(key, other))

    def _add_images(self, batch: Batch, shown: list[int], owner: Tensor, image: Image) -> None:
        side, change = self.settings.image.size, self.settings.image.augment
        changes = any(value for _, value in change)

        def one(key: tuple[int, int], view: int = 0) -> NDArray[np.uint8]:
            array = image(self.groups[key[1]][0])
            return augment(array, change, self.settings.seed, *key, view) if changes else array

        def stacked(arrays: list[NDArray[np.uint8]]) -> Inputs:
            pixels = np.array(arrays, dtype=np.uint8).reshape(-1, side, side, 3)
            return Inputs(
                {"pixels": torch.from_numpy(pixels).permute(0, 3, 1, 2)}, torch.tensor(shown, dtype=torch.long)
            )

        keys = [batch.keys[place] for place in shown]
        if batch.partners:
            mixed = self.mixer.images(keys, [batch.partners[place] for place in shown], one)
            batch.inputs["image"] = stacked([mixed[key] for key in keys])
        else:
            batch.inputs["image"] = stacked([one(key) for key in keys])
        if any(self.tasks[name].views > 1 for name in batch.targets):
            batch.views["image"] = stacked([one(key, 1) for key in keys])

    def _lengths(self) -> NDArray[np.int64]:
        """How long each group's text is, in characters: near enough to sort by."""
        found = np.zeros(len(self.groups), dtype=np.int64)
        for place, rows in enumerate(self.groups):
            for name, task in self.tasks.items():
                found[place] += sum(len(text) for text in task.texts(self.values[name], rows))
        return found

    def _ordered(self, epoch: int) -> NDArray[np.int64]:
        """The order of groups in an epoch; texts of like length stand together, batches in random order."""
        rng = np.random.default_rng((self.settings.seed, epoch))
        blocks = self.settings.data.order == "blocks"
        order = in_blocks(len(self.groups), rng) if blocks else rng.permutation(len(self.groups))
        if self.lengths is None:
            return order
        size = self.settings.train.batch_size
        window = size * 32
        sorted_parts = [part[np.argsort(self.lengths[part], kind="stable")] for part in split_every(order, window)]
        batches = split_every(np.concatenate(sorted_parts), size)
        whole, rest = [b for b in batches if len(b) == size], [b for b in batches if len(b) < size]
        mixed = [whole[i] for i in rng.permutation(len(whole))] + rest
        return np.concatenate(mixed)


def in_blocks(count: int, rng: np.random.Generator, block: int = 256, window: int = 16) -> NDArray[np.int64]:
    """(count,) an order in which near rows are read near each other: blocks are shuffled, then rows within 16."""
    blocks = split_every(np.arange(count), block)
    shuffled = np.concatenate([blocks[at] for at in rng.permutation(len(blocks))])
    return np.concatenate([rng.permutation(part) for part in split_every(shuffled, block * window)])


def split_every(array: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Cut into runs of ``size``, the last one shorter."""
    return [array[start : start + size] for start in range(0, len(array), size)]


class Singles(Sequence[list[int]]):
    """Groups of one row each, kept as one array: of a million rows, 8 MB that forked processes share."""

    def __init__(self, rows: NDArray[np.int64]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        return [[int(row)] for row in self._rows[index]] if isinstance(index, slice) else [int(self._rows[index])]


def group_rows(rows: Sequence[int], images: Sequence[Any] | None) -> list[list[int]]:
    """Put rows that share an image together, in order of first appearance; a row without one stands alone."""
    if images is None:
        single = np.asarray(rows, dtype=np.int64)
        return cast("list[list[int]]", Singles(single)) if len(rows) > MOST_LISTED else [[row] for row in rows]
    groups: dict[Any, list[int]] = {}
    for row in rows:
        value = images[row]
        alone = missing(value) or not isinstance(value, Hashable)  # pixels, or a list: no path
        groups.setdefault(("row", row) if alone else value, []).append(row)
    return list(groups.values())
