"""The same thing twice: identical rows, and images or texts that lie in two splits (leakage).

It does not know tasks. Images are compared by the bytes of all of them and by thumbnails of those that were decoded.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rebus.data.names import tidy
from rebus.data.table import Table

THUMB = 16
_RMS, _MOST = 4.0, 40.0  # differences of 0..255: what another size or another JPEG quality makes of the same image
_LIKE = 0.92  # correlation: of another size of a pale drawing at least 0.92, of two drawings at most 0.72
_FLAT = 2  # levels of 0..255 between the darkest and the brightest part of an image that shows nothing
_NOT_WORDS = re.compile(r"[\W_]+")
_CHUNK = 1024


def duplicate_rows(table: Table) -> list[tuple[int, int]]:
    """(row, the earlier row it repeats) for every row that equals an earlier one in all columns but the split."""
    columns = [name for name in table.columns if tidy(name) != "split"]
    seen: dict[tuple[Any, ...], int] = {}
    twice = []
    listed = [[_hashable(value) for value in table.column(name)] for name in columns]
    for row, key in enumerate(zip(*listed, strict=True)):
        first = seen.setdefault(key, row)
        if first != row:
            twice.append((row, first))
    return twice


def fingerprint(table: Table) -> str:
    """A table's content as 32 hexadecimal digits: its columns' names and every cell, in the order of the rows.

    An image that is named by its path counts by that name; one inside the table counts by its bytes.
    """
    digest = hashlib.sha256("\0".join(table.columns).encode("utf-8", "surrogatepass"))
    listed = [[_hashable(value) for value in table.column(name)] for name in table.columns]
    for row in zip(*listed, strict=True):
        digest.update(repr(row).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]


def column_digests(table: Table, columns: Sequence[str]) -> dict[str, str]:
    """Each column's cells in the order of the rows, as 32 hexadecimal digits; see ``fingerprint``."""
    entries = {}
    for name in columns:
        digest = hashlib.sha256()
        for value in table.column(name):
            digest.update(repr(_hashable(value)).encode("utf-8", "surrogatepass") + b"\0")
        entries[name] = digest.hexdigest()[:32]
    return entries


def shared_texts(texts: Sequence[str], splits: Sequence[str]) -> list[tuple[int, int]]:
    """(held-out row, training row) with the same text but for case, space and punctuation; one pair a held-out row.

    Args:
        texts: (N,) one a row; blank ones are passed over.
        splits: (N,) train, valid or test.
    """
    training: dict[str, int] = {}
    keys = [_NOT_WORDS.sub("", unicodedata.normalize("NFKC", text).casefold()) for text in texts]
    for row, key in enumerate(keys):
        if key and splits[row] == "train":
            training.setdefault(key, row)
    return [(row, training[key]) for row, key in enumerate(keys) if key and splits[row] != "train" and key in training]


def shared_keys(keys: Sequence[Any], splits: Sequence[set[str]]) -> list[tuple[int, int]]:
    """(held-out image, training image) pairs of equal key, where the two are different entries.

    Args:
        keys: (M,) a hash of each image's bytes; None: not known.
        splits: (M,) the splits in which each image is used.
    """
    groups: dict[Any, list[int]] = defaultdict(list)
    for at, key in enumerate(keys):
        if key is not None:
            groups[key].append(at)
    pairs = []
    for group in groups.values():
        training = [at for at in group if "train" in splits[at]]
        if training:
            pairs += [(at, training[0]) for at in group if splits[at] - {"train"} and at != training[0]]
    return sorted(pairs)


def blank_images(thumbs: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Which images are of one colour: (M, 16, 16, 3) uint8 -> (M,) bool."""
    flat = thumbs.reshape(len(thumbs), -1, thumbs.shape[-1]).astype(np.int64)
    return np.asarray((flat.max(1) - flat.min(1)).max(1) <= _FLAT) if len(flat) else np.zeros(0, dtype=np.bool_)


def similar_images(
    thumbs: npt.NDArray[np.uint8], held_out: npt.NDArray[np.int64], training: npt.NDArray[np.int64]
) -> list[tuple[int, int]]:
    """(held-out, training) pairs that look the same; the nearest training image of each held-out one.

    The two differ by no more than another size or quality makes, and correlate: pale outlines of two things differ by
    little and do not. Blank images look like no other.

    Args:
        thumbs: (M, 16, 16, 3) uint8.
        held_out: positions of the held-out ones.
        training: positions of the training ones.
    """
    if not len(held_out) or not len(training):
        return []
    blank = blank_images(thumbs)
    held_out, training = held_out[~blank[held_out]], training[~blank[training]]
    if not len(held_out) or not len(training):
        return []
    flat = thumbs.reshape(len(thumbs), -1).astype(np.float32) - 128.0
    size = flat.shape[1]
    known = flat[training]
    squares = (known * known).sum(1)
    pairs = []
    for start in range(0, len(held_out), _CHUNK):
        part = held_out[start : start + _CHUNK]
        asked = flat[part]
        distance = (asked * asked).sum(1)[:, None] + squares[None] - 2.0 * (asked @ known.T)
        nearest = distance.argmin(1)
        for row in np.flatnonzero(distance[np.arange(len(part)), nearest] <= _RMS**2 * size):
            other = int(training[nearest[row]])
            item, near = flat[part[row]], flat[other]
            if np.abs(item - near).max() <= _MOST and _correlation(item, near) >= _LIKE:
                pairs.append((int(part[row]), other))
    return pairs


def _correlation(float32: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    a, b = float32 - float32.mean(), other - other.mean()
    return float((a * b).sum() / max(1e-6, float(np.sqrt((a * a).sum() * (b * b).sum()))))


def _hashable(value: Any) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(value, sort_keys=True, default=repr)
    if isinstance(value, str | bytes) and len(value) > 4096:  # not to keep embedded images twice in memory
        content = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(content, digest_size=16).digest()
    return value
