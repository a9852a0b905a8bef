"""Mixed images and their targets in a training batch. How pixels are mixed it does not know: ``data.mixing``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from rebus import recipe
from rebus.data.mixing import mate, mix_of, mixed, mixes
from rebus.tasks.base import Item, VectorTask

Key = tuple[int, int]  # (epoch, group)
Image = NDArray[np.uint8]


class Mixer:
    """Mixes each row of a batch with another row of it.

    Args:
        settings: the recipe.
        has_image: group -> whether it has an image; a row is mixed only where both have one.
    """

    def __init__(self, settings: recipe.Recipe, has_image: Callable[[int], bool]) -> None:
        self.settings, self.has_image = settings, has_image
        self.on = mixes(settings.image.augment)

    def partners(self, places: Sequence[int], key_of: Callable[[int], Key]) -> list[Key]:
        """For each place of the endless order of rows, the key of the row that is mixed into it."""
        train = self.settings.train
        return [key_of(mate(place, train.batch_size, self.settings.seed)) for place in places]

    def share(self, key: Key, partner: Key) -> float:
        """How much of the row is its own, 0 to 1."""
        if not (self.has_image(key[1]) and self.has_image(partner[1])):
            return 1.0
        return mix_of(self.settings.image.augment, self.settings.seed, *key, self.settings.image.size).share

    def items(self, task: VectorTask, own: list[Item], theirs: list[Item], share: float) -> list[Item]:
        """The row's item with a mixed target; none where the other row's target is not known."""
        if not own or (share < 1.0 and not theirs):
            return []
        target = task.soft(own[0]["target"])
        if share < 1.0:
            target = np.float32(share) * target + np.float32(1.0 - share) * task.soft(theirs[0]["target"])
        return [{**own[0], "target": target}]

    def images(self, keys: list[Key], partners: list[Key], plain: Callable[[Key], Image]) -> dict[Key, Image]:
        """The mixed image of each row that has one; ``plain`` gives a row's own, and is asked once for each."""
        known: dict[Key, Image] = {}
        for key in (*keys, *partners):
            if key not in known and self.has_image(key[1]):
                known[key] = plain(key)
        augment, size = self.settings.image.augment, self.settings.image.size
        return {
            key: mixed(known[key], known[partner], mix_of(augment, self.settings.seed, *key, size))
            if partner in known
            else known[key]
            for key, partner in zip(keys, partners, strict=True)
            if key in known
        }
