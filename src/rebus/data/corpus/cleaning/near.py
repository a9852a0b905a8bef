"""Documents seen before: the same ones by a hash, nearly the same ones by MinHash. Knows no files.

Sources: Broder (1997), "On the resemblance and containment of documents"; the index is datasketch's.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from rebus.errors import MissingPackageError

PERMUTATIONS = 128
_HAN_LIKE = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_WORDS = re.compile(r"\w+")
_CHARACTERS, _WORD_RUN, _CHUNK = 5, 3, 8192
Signature = npt.NDArray[np.uint32]


def key_of_text(text: str) -> int:
    """64 bits of a hash of a text; blank space counts as one space, so that other line ends make no difference."""
    return int.from_bytes(hashlib.blake2b(" ".join(text.split()).encode(), digest_size=8).digest(), "little")


def shingles(text: str) -> set[bytes]:
    """What two texts are compared by: runs of 3 words, and of 5 characters where the script has no spaces.

    Case, punctuation and spaces do not count.
    """
    words = _WORDS.findall(text.casefold())
    joined = "".join(words)
    if len(_HAN_LIKE.findall(joined)) > 0.3 * len(joined):
        return {joined[at : at + _CHARACTERS].encode() for at in range(max(1, len(joined) - _CHARACTERS + 1))}
    return {" ".join(words[at : at + _WORD_RUN]).encode() for at in range(max(1, len(words) - _WORD_RUN + 1))}


def signature(text: str) -> Signature:
    """(128,) the MinHash of a text's shingles. Raises MissingPackageError."""
    built = _empty().copy()
    result = sorted(shingles(text))
    for start in range(0, len(result), _CHUNK):
        built.update_batch(result[start : start + _CHUNK])
    return np.asarray(built.hashvalues).astype(np.uint32)


class NearIndex:
    """Signatures of documents that were kept.

    Args:
        threshold: Jaccard similarity, estimated, from which two are nearly the same.

    Raises:
        MissingPackageError: datasketch is not installed.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._index: Any = _datasketch().MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS)
        self._kept: list[Signature] = []

    def add(self, result: Signature) -> None:
        """Remember a document."""
        self._index.insert(len(self._kept), self._wrapped(result), check_duplication=False)
        self._kept.append(result)

    def __contains__(self, made: Signature) -> bool:
        """Whether a remembered document is this alike."""
        result = self._index.query(self._wrapped(made))
        return any(float((self._kept[other] == made).mean()) >= self.threshold for other in result)

    @staticmethod
    def _wrapped(result: Signature) -> Any:
        wrapped = _empty().copy()
        wrapped.hashvalues = result.astype(wrapped.hashvalues.dtype)
        return wrapped


class KeySet:
    """A set of 64-bit keys in one array: about 16 bytes a key, where Python's own set takes 70."""

    def __init__(self) -> None:
        self._table = np.zeros(1 << 12, dtype=np.uint64)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, key: int) -> bool:
        """Remember a key; False where it was known."""
        key = key or 1  # 0 marks an empty place
        at = self._place(key)
        if int(self._table[at]):
            return False
        self._table[at] = key
        self._count += 1
        if 2 * self._count > len(self._table):
            self._grow()
        return True

    def __contains__(self, key: int) -> bool:
        return bool(int(self._table[self._place(key or 1)]))

    def _place(self, key: int) -> int:
        table, last = self._table, len(self._table) - 1
        at = key & last
        while (result := int(table[at])) and result != key:
            at = (at + 1) & last
        return at

    def _grow(self) -> None:
        known = self._table[self._table > 0]
        self._table = np.zeros(2 * len(self._table), dtype=np.uint64)
        for key in known.tolist():
            self._table[self._place(key)] = key


@cache
def _empty() -> Any:
    return _datasketch().MinHash(PERMUTATIONS, seed=1, hashfunc=zlib.crc32)


def _datasketch() -> Any:
    try:
        import datasketch
    except ImportError as error:
        raise MissingPackageError("datasketch", "corpus", "near-duplicate removal (corpus.clean.near)") from error
    return datasketch
