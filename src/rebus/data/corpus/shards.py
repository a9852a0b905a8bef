"""A folder of shards, opened: documents as ids, mapped from disk, whichever file they lie in.

It does not know how shards are made (``build``) nor how rows are cut from them (``packing``).
"""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rebus.data.corpus.manifest import FILE, Manifest
from rebus.data.corpus.shard_file import ShardFile
from rebus.errors import DataError, RunError, nearest

Ids = npt.NDArray[np.int64]


class Documents:
    """All documents of one split, end to end: token ``t`` of the split is a place in one of its files.

    Attributes:
        split: its name.
        eos_id: the id each document ends with.
        starts: (N,) int64, where each document begins.
        lengths: (N,) int64, tokens of each, its end included.
        tokens: how many tokens in all.
        bytes: UTF-8 bytes of their text.
    """

    def __init__(self, split: str, files: list[ShardFile], vocab_size: int, text_bytes: int) -> None:
        self.split, self._files, self.vocab_size, self.bytes = split, files, vocab_size, text_bytes
        self.eos_id = files[0].header.eos_id
        counts = [file.header.tokens for file in files]
        self._bounds = [0, *np.cumsum(counts).tolist()]
        ends = np.concatenate([file.ends.astype(np.int64) + at for file, at in zip(files, self._bounds, strict=False)])
        self.starts: Ids = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
        self.lengths: Ids = ends - self.starts
        self.tokens = int(self._bounds[-1])

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Ids:
        """(L,) ids of a document; the last is ``eos_id``."""
        start = int(self.starts[index])
        return self.ids(start, start + int(self.lengths[index]))

    def ids(self, start: int, stop: int) -> Ids:
        """(stop - start,) int64 ids of a stretch.

        Raises:
            DataError: an id is beyond the vocabulary: the file is damaged.
        """
        out = np.empty(stop - start, dtype=np.int64)
        self.copy(start, stop, out)
        self.check(out, start)
        return out

    def copy(self, start: int, stop: int, out: Ids) -> None:
        """Write the ids of a stretch into ``out`` (stop - start,), unchecked."""
        at = bisect_right(self._bounds, start) - 1
        low, high = self._bounds[at], self._bounds[at + 1]
        if stop <= high:
            out[:] = self._files[at].tokens[start - low : stop - low]
            return
        out[: high - start] = self._files[at].tokens[start - low :]
        self.copy(high, stop, out[high - start :])

    def check(self, ids: Ids, start: int) -> None:
        """Raise DataError where an id is beyond the vocabulary; ``start`` is about where they lie."""
        if ids.size and int(ids.max()) >= self.vocab_size:
            file = self._files[bisect_right(self._bounds, start) - 1]
            raise DataError(
                file.path,
                f"ids below {self.vocab_size:,}",
                f"the id {int(ids.max()):,}: the file is damaged",
                "delete the folder of shards and build it again",
            )

    @property
    def has_words(self) -> bool:
        """Whether it is known where words start."""
        return all(file.header.words for file in self._files)

    def word_starts(self, start: int, stop: int) -> npt.NDArray[np.bool_]:
        """(stop - start,) whether a word starts at each token of a stretch.

        Raises:
            DataError: the shards were made without them.
        """
        parts = []
        while start < stop:
            at = bisect_right(self._bounds, start) - 1
            low, high, file = self._bounds[at], self._bounds[at + 1], self._files[at]
            if not file.header.words:
                raise DataError(
                    file.path, "shards that say where words start", "none", "build them again for the task mlm"
                )
            parts.append(file.words(start - low, min(stop, high) - low))
            start = high
        return np.concatenate(parts) if parts else np.zeros(0, dtype=bool)


class Shards:
    """A folder of shards.

    Attributes:
        folder: where they lie.
        manifest: what they were made from.
    """

    def __init__(self, folder: Path, manifest: Manifest, splits: dict[str, Documents]) -> None:
        self.folder, self.manifest, self._splits = folder, manifest, splits

    @classmethod
    def open(cls, folder: str | Path, *, tokenizer_hash: str | None = None, vocab_size: int | None = None) -> Shards:
        """Open a folder that ``build_shards`` made; nothing is read but headers and where documents end.

        Args:
            folder: where manifest.json lies.
            tokenizer_hash: of the tokenizer that will be used; None: not compared.
            vocab_size: ids the model knows; None: those of the manifest.

        Raises:
            RunError: there is no manifest, it is damaged, or the work was not finished.
            DataError: a file is missing, cut short, or does not fit the manifest, the tokenizer or the vocabulary.
        """
        folder = Path(folder)
        manifest = Manifest.load(folder)
        if not manifest.finished:
            do = "run the same command again: it goes on where it stopped"
            raise RunError(folder, "shards of the whole source", "a build that was interrupted", do)
        most = manifest.vocab_size if vocab_size is None else vocab_size
        splits = {}
        for name, counts in manifest.splits.items():
            files = []
            for listed in counts.shards:
                path = folder / str(listed["name"])
                file = ShardFile(path, tokenizer=tokenizer_hash or manifest.tokenizer, vocab_size=most)
                result = {"tokens": file.header.tokens, "documents": file.header.documents}
                wanted = {key: listed[key] for key in result}
                if result != wanted:
                    raise DataError(
                        path,
                        f"{wanted['tokens']:,} tokens in {wanted['documents']:,} documents, as manifest.json says",
                        f"{result['tokens']:,} in {result['documents']:,}",
                        "delete the folder of shards and build it again",
                    )
                files.append(file)
            if files:
                splits[name] = Documents(name, files, most, counts.bytes)
        return cls(folder, manifest, splits)

    @staticmethod
    def finished(folder: str | Path) -> bool:
        """Whether a folder holds shards of all of their source. Raises RunError where the manifest is damaged."""
        return (Path(folder) / FILE).exists() and Manifest.load(Path(folder)).finished

    @property
    def splits(self) -> list[str]:
        """Names of the splits that hold something: train, valid, sometimes test."""
        return list(self._splits)

    def documents(self, split: str) -> Documents:
        """The documents of a split. Raises DataError where there is none."""
        if split not in self._splits:
            raise DataError(self.folder, f"a split '{split}'", "none", nearest(split, self._splits))
        return self._splits[split]
