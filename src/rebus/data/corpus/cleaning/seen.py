"""What was kept before, remembered on disk as well, so that a build that was killed still knows it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from rebus.data.corpus.cleaning.cleaner import Cleaned
from rebus.data.corpus.cleaning.near import PERMUTATIONS, KeySet, NearIndex
from rebus.errors import RunError
from rebus.recipe import Clean


class Seen:
    """Finds documents that are the same or nearly the same as one that was kept.

    Args:
        path: where keys are appended.
        settings: what is compared.
        count: records to read back; what was written after them is cut off.

    Raises:
        RunError: there are fewer.
    """

    def __init__(self, path: Path, settings: Clean, count: int = 0) -> None:
        self.count = count
        self._keys = KeySet() if settings.exact else None
        self._index = NearIndex(settings.near) if settings.near else None
        fields = [*([("key", "<u8")] if settings.exact else [])]
        self._record = np.dtype([*fields, *([("signature", "<u4", (PERMUTATIONS,))] if settings.near else [])])
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a+b")  # noqa: SIM115 - closed by close()
        size = count * self._record.itemsize
        if self._file.tell() < size:
            do = "delete the folder of shards and build it again"
            raise RunError(path, f"{size:,} bytes, as manifest.json says", f"{self._file.tell():,} bytes", do)
        self._file.truncate(size)
        self._file.seek(0)
        for record in np.frombuffer(self._file.read(), dtype=self._record) if size else ():
            if self._keys is not None:
                self._keys.add(int(record["key"]))
            if self._index is not None:
                self._index.add(record["signature"])

    def reason(self, cleaned: Cleaned) -> str:
        """Why a document is left out, or ""; then it is remembered."""
        if self._keys is not None and cleaned.key in self._keys:
            return "same"
        if self._index is not None and cleaned.signature is not None and cleaned.signature in self._index:
            return "nearly the same"
        if self._record.itemsize:
            record = np.zeros(1, dtype=self._record)
            if self._keys is not None:
                self._keys.add(cleaned.key)
                record["key"] = cleaned.key
            if self._index is not None and cleaned.signature is not None:
                self._index.add(cleaned.signature)
                record["signature"] = cleaned.signature
            self._file.write(record.tobytes())
            self.count += 1
        return ""

    def commit(self) -> int:
        """Flush to disk; how many records there are."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self.count

    def close(self) -> None:
        """Close the file."""
        self._file.close()
