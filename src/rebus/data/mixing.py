"""Two images as one: mixup and cutmix, with the share of the first, each a pure function of (seed, epoch, index).

Who the second image is depends on the place in the epoch and the size of a batch alone: neither the number of
processes nor accumulation changes it. It does not know what is learned from the images.

Zhang, Cisse, Dauphin and Lopez-Paz, 2018, "mixup: Beyond Empirical Risk Minimization"; Yun, Han, Oh, Chun, Choe and
Yoo, 2019, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rebus.recipe import Augment

Array = npt.NDArray[np.uint8]
_SHARES, _MATES = 1 << 32, 1 << 33  # of the generator's counter: numbers that augmentation does not draw


@dataclass(frozen=True)
class Mix:
    """How two images become one.

    Attributes:
        share: of the first, 0 to 1; the target's too.
        box: (top, left, bottom, right) in pixels, where the second shows; None: both show everywhere.
    """

    share: float
    box: tuple[int, int, int, int] | None = None


def mixes(settings: Augment) -> bool:
    """Whether images are mixed at all."""
    return settings.mixup > 0 or settings.cutmix > 0


def mate(place: int, size: int, seed: int) -> int:
    """The place whose image is mixed into that of ``place``: another one of the same batch, a permutation of it."""
    first = place - place % size
    if size == 1:
        return place
    shift = 1 + int(_dice(seed, first, 0, _MATES).integers(size - 1))
    return first + (place - first + shift) % size


def mix_of(settings: Augment, seed: int, epoch: int, index: int, side: int) -> Mix:
    """How image ``index`` is mixed in this epoch; where both kinds are on, each is drawn half the time.

    Args:
        settings: ``mixup`` and ``cutmix`` are the Beta distributions' parameter.
        seed: of the run.
        epoch: pass over the data.
        index: of the image.
        side: of the images, in pixels.
    """
    rng = _dice(seed, epoch, index, _SHARES)
    cutting, down, across = rng.random(3)
    cut = settings.cutmix > 0 and (settings.mixup == 0 or cutting < 0.5)
    strength = settings.cutmix if cut else settings.mixup
    share = float(rng.beta(strength, strength))
    if not cut:
        return Mix(share)
    half = side * math.sqrt(1.0 - share) / 2
    middle = (down * side, across * side)
    top, left = (max(0, round(at - half)) for at in middle)
    bottom, right = (min(side, round(at + half)) for at in middle)
    area = max(0, bottom - top) * max(0, right - left)
    return Mix(1.0 - area / side**2, (top, left, bottom, right))


def mixed(first: Array, second: Array, mix: Mix) -> Array:
    """(S, S, 3) and (S, S, 3) -> (S, S, 3) uint8, rounded."""
    if mix.box is not None:
        top, left, bottom, right = mix.box
        joined = first.copy()
        joined[top:bottom, left:right] = second[top:bottom, left:right]
        return joined
    total = first.astype(np.float32) * np.float32(mix.share)
    total += second.astype(np.float32) * np.float32(1.0 - mix.share)
    whole: Array = np.rint(total).astype(np.uint8)
    return whole


def _dice(seed: int, epoch: int, index: int, purpose: int) -> np.random.Generator:
    key = np.array([seed % 2**64, epoch % 2**64], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(counter=np.array([0, index, 0, purpose], dtype=np.uint64), key=key))
