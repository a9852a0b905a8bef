"""Orders that are pure functions of (seed, epoch, index); whole numbers only, so that they never change with a library.

It does not know what is put in order.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

_MASK = (1 << 64) - 1
_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def key_of(*parts: int | str) -> int:
    """One 64-bit key for a purpose, a seed, an epoch, ..."""
    content = "\0".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def mixed(count: int, key: int) -> npt.NDArray[np.uint64]:
    """(count,) well mixed 64-bit numbers, a different one for each index (SplitMix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN) + np.uint64(key)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(_FIRST)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(_SECOND)
    return z ^ (z >> np.uint64(31))


def permutation(count: int, key: int) -> npt.NDArray[np.int64]:
    """(count,) the numbers 0 to count - 1 in an order that the key decides."""
    return np.argsort(mixed(count, key), kind="stable").astype(np.int64)


class Shuffle:
    """A permutation of ``count`` numbers; a large one is computed, not stored.

    Large: a Feistel network, walked until it lands inside. Few numbers are better mixed by a stored order.
    Source: Black and Rogaway (2002), "Ciphers with Arbitrary Finite Domains".

    Args:
        count: how many numbers.
        key: another key, another order.
    """

    STORED = 1 << 16
    _ROUNDS = 4

    def __init__(self, count: int, key: int) -> None:
        self.count = count
        self._stored = permutation(count, key) if count <= self.STORED else None
        self._half = max(1, ((max(count, 2) - 1).bit_length() + 1) // 2)
        self._keys = [key_of(key, number) for number in range(self._ROUNDS)]

    def __call__(self, index: int) -> int:
        """The number at place ``index``."""
        if not 0 <= index < self.count:
            raise IndexError(f"{index} of {self.count}")
        if self._stored is not None:
            return int(self._stored[index])
        mask = (1 << self._half) - 1
        while True:
            left, right = index >> self._half, index & mask
            for key in self._keys:
                z = ((right + key) * _FIRST) & _MASK
                z = ((z ^ (z >> 29)) * _SECOND) & _MASK
                left, right = right, left ^ ((z >> 32) & mask)
            index = (left << self._half) | right
            if index < self.count:
                return index
