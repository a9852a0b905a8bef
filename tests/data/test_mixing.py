"""Mixed images, boxes under moves and crops, and texts that a mirror image makes wrong."""

from __future__ import annotations

import numpy as np
import pytest

from rebus.data.frame import frame_of
from rebus.data.mixing import mate, mix_of, mixed
from rebus.data.sides import sides_in, speaks_of_sides
from rebus.data.transforms import augment
from rebus.recipe import Augment


def test_partners_are_another_row_of_the_batch_each_used_once() -> None:
    for size in (2, 5, 32):
        for batch in range(20):
            places = range(batch * size, (batch + 1) * size)
            found = [mate(place, size, 7) for place in places]
            assert sorted(found) == list(places)
            assert all(other != place for other, place in zip(found, places, strict=True))
    assert mate(3, 1, 0) == 3
    assert len({mate(32 * batch, 32, 0) % 32 for batch in range(60)}) > 20  # another shift in each batch


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_follow_the_beta_distribution(alpha: float) -> None:
    shares = np.array([mix_of(Augment(mixup=alpha), 1, 0, index, 64).share for index in range(3000)])
    assert abs(shares.mean() - 0.5) < 0.03
    assert abs(shares.var() - 1 / (4 * (2 * alpha + 1))) < 0.015
    assert mix_of(Augment(mixup=alpha), 1, 0, 5, 64) == mix_of(Augment(mixup=alpha), 1, 0, 5, 64)
    assert (
        len({mix_of(Augment(mixup=alpha), *key, 64).share for key in ((1, 0, 5), (2, 0, 5), (1, 1, 5), (1, 0, 6))}) == 4
    )


def test_mixup_is_the_weighted_mean() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(2))
    mix = mix_of(Augment(mixup=0.4), 0, 0, 1, 16)
    exact = mix.share * first.astype(float) + (1 - mix.share) * second
    assert np.abs(mixed(first, second, mix) - exact).max() <= 0.501


def test_cutmix_shares_are_the_areas() -> None:
    black, white = np.zeros((40, 40, 3), np.uint8), np.full((40, 40, 3), 255, np.uint8)
    shares = []
    for index in range(200):
        mix = mix_of(Augment(cutmix=1.0), 0, 0, index, 40)
        assert (mixed(black, white, mix) == 0).mean() == pytest.approx(mix.share)
        shares.append(mix.share)
    assert 0.5 < np.mean(shares) < 0.75  # boxes are cut at the edges, so the first has more than half
    kinds = {mix_of(Augment(mixup=1.0, cutmix=1.0), 0, 0, index, 40).box is None for index in range(20)}
    assert kinds == {True, False}


@pytest.mark.parametrize(
    "settings",
    [
        Augment(flip=1.0),
        Augment(shift=0.2),
        Augment(scale=0.3),
        Augment(crop=0.4),
        Augment(crop=0.4, aspect=2.0),
        Augment(flip=0.5, shift=0.1, scale=0.2),
        Augment(flip=0.5, crop=0.5),
    ],
    ids=str,
)
def test_boxes_follow_the_image(settings: Augment) -> None:
    side, box = 96, [0.25, 0.375, 0.5, 0.625]
    image = np.zeros((side, side, 3), np.uint8)
    image[36:60, 24:48] = 255
    seen = 0
    for index in range(60):
        frame = frame_of(settings, 3, 1, index)
        found = box if frame is None else frame.box(box)
        bright = augment(image, settings, 3, 1, index)[..., 0] > 127
        if found is None:
            assert bright.sum() < side  # at most an edge that is repeated
            continue
        if min(found) <= 0.02 or max(found) >= 0.98:
            continue  # cut at the edge, which is repeated in the image
        rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
        drawn = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        assert np.abs(np.array(drawn) - np.array(found) * side).max() <= 1.6
        seen += 1
    assert seen >= 10


def test_boxes_out_of_sight_are_dropped() -> None:
    settings = Augment(crop=0.1, aspect=1.0)
    corner = [{"label": "cat", "box": [0.0, 0.0, 0.05, 0.05]}]
    frames = [frame_of(settings, 0, 0, index) for index in range(50)]
    counts = [len(frame.boxes(corner)) for frame in frames if frame is not None]
    assert 0 < sum(counts) < 25
    assert frame_of(Augment(colour=0.5), 0, 0, 0) is None


@pytest.mark.parametrize(
    "text",
    [
        "the dog on the left",
        "Turn RIGHT here",
        "the leftmost cup",
        "a left-handed man",
        "it turns clockwise",
        "a sign that says STOP",
        "左边的狗",
        "往右走",
        "逆时针",
        "牌子上写着停",
        "which letter is this?",
    ],
)
def test_texts_that_a_mirror_makes_wrong(text: str) -> None:
    assert speaks_of_sides(text)


@pytest.mark.parametrize("text", ["a bright red bus", "a cleft rock", "copyright", "一只狗在草地上", "two birds", ""])
def test_texts_that_bear_a_mirror(text: str) -> None:
    assert not speaks_of_sides(text)


def test_what_speaks_against_mirroring_is_told() -> None:
    assert sides_in(["a cat", "left of the tree"], []) == (
        "1 of 2 texts speak of left and right or of writing, such as 'left of the tree'"
    )
    assert "turn_left" in (sides_in(["a"], ["go", "turn_left"]) or "")
    assert "single signs" in (sides_in([], list("0123456789")) or "")
    assert sides_in([], ["cat", "dog"]) is None
