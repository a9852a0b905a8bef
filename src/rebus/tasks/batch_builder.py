"""Training batches as a pure function of the step: nothing about them needs saving, a resume is a step number.

It knows no modality by name. An example is a group of rows that share all inputs but text; its key is (epoch, group).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from rebus import recipe
from rebus.data.mixing import mate
from rebus.data.table import MOST_LISTED
from rebus.errors import RecipeError
from rebus.models.batch import Batch, Inputs
from rebus.models.modalities.base import Item as Input
from rebus.models.modalities.rows import RowInputs
from rebus.tasks.base import Item, Task, Values, VectorTask
from rebus.tasks.cells import missing
from rebus.tasks.contrast import image_key
from rebus.tasks.hiding import hidden_modality, without_text
from rebus.tasks.mixing import mixed_items
from rebus.tasks.text_processor import TextProcessor

CLOSE = 1e-9  # as near as progress comes to a share of the run, both being sums
Key = tuple[int, int]  # (epoch, group)
Features = Callable[[Sequence[int]], dict[str, Any]]  # group numbers -> a frozen tower's tensors, an item each


class BatchBuilder:
    """Deals examples.

    Args:
        tasks: name: task, fitted.
        values: name: the task's columns.
        groups: row numbers, the rows of one example together.
        rows: the inputs of rows.
        processor: text to ids.
        settings: the recipe (seed, batch size, parts).
        features: modality: a frozen tower's features of groups, in place of its items.
        still: progress up to which towers stay as they are, so that features are used.
        share: this process's part of a batch's places, where several processes train together.
    """

    def __init__(
        self,
        tasks: dict[str, Task],
        values: dict[str, Values],
        groups: list[list[int]],
        rows: RowInputs,
        processor: TextProcessor,
        settings: recipe.Recipe,
        *,
        features: Mapping[str, Features] | None = None,
        still: float = math.inf,
        share: Callable[[range], Sequence[int]] = lambda places: places,
    ) -> None:
        self.tasks, self.values, self.groups, self.processor = tasks, values, groups, processor
        self.rows, self.settings = rows, settings
        self.features, self.still, self.share = features or {}, still, share
        self.mixing = next((name for name, modality in rows.modalities.items() if modality.mixes), None)
        self.lengths = None if rows.modalities else self._lengths()
        self._order = lru_cache(maxsize=2)(self._ordered)
        self._item_key = lru_cache(maxsize=65_536)(self._keyed)

    @property
    def steps_per_epoch(self) -> float:
        """Batches in one pass over the groups."""
        return len(self.groups) / self.settings.train.batch_size

    def parts_at(self, step: int, progress: float) -> list[Batch]:
        """This process's share of batch ``step``, in the equal parts that go through the model one after another.

        Args:
            step: of the run.
            progress: 0 to 1, which says which tasks are trained now.

        Raises:
            RecipeError: the processes cannot share a batch equally, or its parts would not be equal.
        """
        size, seed = self.settings.train.batch_size, self.settings.seed
        places = self.share(range(step * size, (step + 1) * size))
        tasks, cached = self.active(progress), self.cached(progress)
        parts = []
        for portion in equal_parts(places, self.settings.train):
            keys = [self._key(place) for place in portion]
            partners = [self._key(mate(place, size, seed)) for place in portion] if self.mixing else []
            parts.append(self.assemble(keys, tasks, cached=cached, partners=partners))
        return parts

    def _key(self, place: int) -> Key:
        """The example at a place of the endless order."""
        epoch, at = divmod(place, len(self.groups))
        return epoch, int(self._order(epoch)[at])

    def cached(self, progress: float) -> bool:
        """Whether a frozen tower's features stand in for its inputs at this point of the run."""
        return bool(self.features) and progress + CLOSE < self.still

    def kind(self, progress: float) -> tuple[Any, ...]:
        """What of a batch depends on the point of the run: the tasks that are trained, and what they see."""
        return (*self.active(progress), self.cached(progress))

    def active(self, progress: float) -> dict[str, Task]:
        """The tasks that are trained at this point of the run; all of them where the recipe leaves a gap."""
        now = {}
        for name, task in self.tasks.items():
            start, until = task.settings.start, task.settings.until
            if start <= progress and (progress < until or until >= 1.0):
                now[name] = task
        return now or self.tasks

    def assemble(
        self, keys: list[Key], tasks: Mapping[str, Task], *, cached: bool = True, partners: Sequence[Key] = ()
    ) -> Batch:
        """The batch of some examples.

        Args:
            keys: of the examples.
            tasks: what is trained.
            cached: with a frozen tower's features, where there are any.
            partners: for each example, the one that is mixed into it; none: nothing is mixed.
        """
        batch = Batch(len(keys), keys=keys, partners=list(partners))
        hidden = [self._hidden(key, tasks) for key in keys]
        for name, task in tasks.items():
            items: list[Item] = []
            owner: list[int] = []
            for place, key in enumerate(keys):
                own = self._targets(task, name, key)
                if partners and isinstance(task, VectorTask):
                    theirs = self._targets(task, name, partners[place])
                    own = mixed_items(task, own, theirs, self._share(key, partners[place]))
                items += without_text(own) if hidden[place] == "text" else own
                owner += [place] * len(own)
            if items:
                batch.targets[name] = task.collate(items, owner)
        for name in self.rows.modalities:
            shown = [None if hidden[place] == name else key for place, key in enumerate(keys)]
            if cached and name in self.features:
                batch.inputs[name] = self._kept(name, shown)
                continue
            mixing = partners if name == self.mixing else ()
            batch.inputs[name] = self._inputs(name, shown, partners=mixing)
            if any(self.tasks[task].views > 1 for task in batch.targets):
                batch.views[name] = self._inputs(name, shown, view=1)
        return batch

    def _targets(self, task: Task, name: str, key: Key) -> list[Item]:
        """A task's items of an example, whose places follow what augmentation moves."""
        epoch, index = key
        items = task.items(self.values[name], self.groups[index], self.processor, (self.settings.seed, epoch, index))
        if not items:
            return []
        for modality, value in self.rows.modalities.items():
            if f"{modality}_key" in items[0] and self._has(modality, index):
                items = [{**item, f"{modality}_key": self._item_key(modality, index)} for item in items]
            frame = value.frame((self.settings.seed, *key)) if task.has_places else None
            if frame is not None:
                items = task.moved(items, self.values[name], self.groups[index], frame)
        return items

    def _inputs(self, name: str, keys: Sequence[Key | None], *, partners: Sequence[Key] = (), view: int = 0) -> Inputs:
        """A modality's items of examples; None: it is hidden."""
        modality, seed, result = self.rows.modalities[name], self.settings.seed, dict[Key, list[Input]]()

        def items(key: Key) -> list[Input]:
            if key not in result:
                plain = enumerate(self.rows.items(name, self.groups[key[1]][0]))
                result[key] = [modality.augment(item, (seed, *key), view + 2 * number) for number, item in plain]
            return result[key]

        examples = [[] if key is None else items(key) for key in keys]
        for place, (key, partner) in enumerate(zip(keys, partners, strict=False)):
            if key is not None and self._share(key, partner) < 1.0:
                examples[place] = [modality.mix(items(key)[0], items(partner)[0], (seed, *key))]
        return modality.inputs(examples)

    def _kept(self, name: str, keys: Sequence[Key | None]) -> Inputs:
        """What a frozen tower gave for a modality's items, of which each example has one at most."""
        there = [place for place, key in enumerate(keys) if key is not None and self._has(name, key[1])]
        groups = [key[1] for key in (keys[place] for place in there) if key is not None]
        return Inputs.at(there, self.features[name](groups) if groups else {})

    def _share(self, key: Key, partner: Key) -> float:
        """How much of a mixed example is its own; only examples of one item each are mixed."""
        assert self.mixing is not None  # noqa: S101 - partners are dealt only then
        alone = all(self.rows.count(self.mixing, self.groups[index][0]) == 1 for _, index in (key, partner))
        return self.rows.modalities[self.mixing].share((self.settings.seed, *key)) if alone else 1.0

    def _hidden(self, key: Key, tasks: Mapping[str, Task]) -> str:
        present = [name for name in self.rows.modalities if self._has(name, key[1])]
        return hidden_modality(self.settings, key, self.groups[key[1]], tasks, self.values, present)

    def _has(self, name: str, index: int) -> bool:
        return self.rows.count(name, self.groups[index][0]) > 0

    def _keyed(self, name: str, index: int) -> NDArray[np.int64]:
        """A number that groups with equal items have in common, whatever their files are called."""
        return image_key(next(iter(self.rows.items(name, self.groups[index][0])[0].values())))

    def _lengths(self) -> NDArray[np.int64]:
        """How long each group's text is, in characters: near enough to sort by."""
        lengths = np.zeros(len(self.groups), dtype=np.int64)
        for place, rows in enumerate(self.groups):
            for name, task in self.tasks.items():
                lengths[place] += sum(len(text) for text in task.texts(self.values[name], rows))
        return lengths

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


def equal_parts(places: Sequence[int], train: recipe.Train) -> list[Sequence[int]]:
    """A process's places of a batch in the portions that go through the model one after another.

    Raises:
        RecipeError: they cannot be cut equally; the mean of the parts would not be the mean of the whole.
    """
    parts = len(places) // train.grad_cache if train.grad_cache else train.accumulate
    if len(places) % parts:
        expected = f"a batch that divides into {parts} equal parts"
        raise RecipeError("train.accumulate", expected, f"{len(places)} rows", "lower it")
    size = len(places) // parts
    return [places[start : start + size] for start in range(0, len(places), size)]


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


def group_rows(rows: Sequence[int], inputs: Sequence[Any] | Mapping[int, Any] | None) -> list[list[int]]:
    """Put rows of equal inputs together, in order of first appearance; a row without any stands alone."""
    if inputs is None:
        single = np.asarray(rows, dtype=np.int64)
        return cast("list[list[int]]", Singles(single)) if len(rows) > MOST_LISTED else [[row] for row in rows]
    groups: dict[Any, list[int]] = {}
    for row in rows:
        value = inputs[row]
        alone = missing(value) or not isinstance(value, Hashable)  # pixels, or a list: no path
        groups.setdefault(("row", row) if alone else value, []).append(row)
    return list(groups.values())
