"""Random crops, lost colours and second views: pure functions of (seed, epoch, index, view)."""

from __future__ import annotations

import numpy as np

from rebus.data.transforms import augment, draws
from rebus.recipe import Augment


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def test_a_view_depends_on_seed_epoch_index_and_view_alone() -> None:
    settings = Augment(crop=0.2, flip=0.5, colour=0.4, hue=0.1, grey=0.2)
    whole = np.stack([image(seed) for seed in range(4)])
    for view in (0, 1):
        together = augment(whole, settings, 3, 2, [5, 6, 7, 8], view)
        assert np.array_equal(together[2], augment(whole[2], settings, 3, 2, 7, view))
    first, second = (augment(whole[0], settings, 3, 2, 5, view) for view in (0, 1))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, augment(whole[0], settings, 3, 2, 5))
    assert not np.array_equal(draws(3, 2, 5, 0), draws(3, 2, 5, 1))


def test_a_crop_keeps_what_it_says() -> None:
    """On a ramp, what is seen of it is the crop's share: between a fifth of the area and all of it."""
    ramp = np.broadcast_to(np.arange(0, 256, 4, dtype=np.uint8)[None, :64, None], (64, 64, 3)).copy()
    shares = []
    for index in range(300):
        rows = augment(ramp.transpose(1, 0, 2), Augment(crop=0.2), 0, 0, index)
        columns = augment(ramp, Augment(crop=0.2), 0, 0, index)
        wide = (int(columns[0, -1, 0]) - int(columns[0, 0, 0])) / 252
        high = (int(rows[-1, 0, 0]) - int(rows[0, 0, 0])) / 252
        shares.append(wide * high)
        assert 3 / 4 * 0.9 < wide / high < 4 / 3 * 1.1 or wide > 0.95 or high > 0.95
    assert 0.15 < min(shares) < 0.25
    assert max(shares) > 0.9
    assert 0.5 < np.mean(shares) < 0.65  # even between 0.2 and 1, a little less where a side is cut off at 1


def test_crops_lie_everywhere() -> None:
    ramp = np.broadcast_to(np.arange(0, 256, 4, dtype=np.uint8)[None, :64, None], (64, 64, 3)).copy()
    left = [int(augment(ramp, Augment(crop=0.2), 0, 0, index)[0, 0, 0]) for index in range(300)]
    right = [int(augment(ramp, Augment(crop=0.2), 0, 0, index)[0, -1, 0]) for index in range(300)]
    assert min(left) == 0
    assert max(left) > 90
    assert max(right) == 252


def test_grey_takes_the_colour_and_leaves_brightness() -> None:
    array = image()
    grey = augment(array, Augment(grey=1.0), 0, 0, 0)
    assert np.array_equal(grey[..., 0], grey[..., 1])
    assert np.array_equal(grey[..., 0], grey[..., 2])
    assert np.abs(grey[..., 0] - array @ np.array([0.299, 0.587, 0.114])).max() <= 1
    assert np.array_equal(augment(array, Augment(grey=0.0, flip=1e-9), 0, 0, 0), array)


def test_new_kinds_leave_the_old_ones_as_they_were() -> None:
    """The numbers that a flip or a shift is drawn from have not moved."""
    array = image()
    old = Augment(shift=0.1, scale=0.2, flip=0.5, colour=0.3, hue=0.1, erase=0.5)
    one = augment(array, old, 1, 2, 3)
    assert int(one.astype(np.int64).sum()) == int(augment(array, old, 1, 2, 3, 0).astype(np.int64).sum())
    assert np.array_equal(draws(1, 2, 3)[:16], reference_draws(1, 2, 3))


def reference_draws(seed: int, epoch: int, index: int) -> np.ndarray:
    key, counter = np.array([seed, epoch], dtype=np.uint64), np.array([0, index, 0, 0], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(counter=counter, key=key)).random(16)
