"""Tokens of one split written to shards, so that a kill at any moment loses only what was not committed.

Tokens are appended to a file in ``parts/``; ``commit`` flushes it and says how long it is; whoever goes on cuts it to
that length. A full part is copied into a shard that appears whole or not at all. It knows no text.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from rebus import atomic
from rebus.data.corpus.making.encode import Unit
from rebus.data.corpus.manifest import SplitCount
from rebus.data.corpus.shard_file import Header, id_type
from rebus.errors import RunError

PARTS = "parts"


@dataclass
class WriterState:
    """Everything a writer knows, as plain values.

    Attributes:
        split: its name.
        shard: number of the shard in the making.
        tokens, documents, bytes, largest: of that shard so far.
        open: a document was begun and not ended.
        total: of all shards, that one included.
    """

    split: str
    shard: int = 0
    tokens: int = 0
    documents: int = 0
    bytes: int = 0
    largest: int = 0
    open: bool = False
    total: dict[str, Any] = field(default_factory=lambda: dataclasses.asdict(SplitCount()))


class SplitWriter:
    """Writes one split.

    Args:
        folder: of the shards.
        state: where to go on; what was written after it is cut off.
        limit: most tokens of a shard.
        header: what all shards have in common; its counts are not read.
    """

    def __init__(self, folder: Path, state: WriterState, limit: int, header: Header) -> None:
        self.folder, self.state, self.limit, self.common = folder, state, limit, header
        self._kind = id_type(header.vocab_size)
        self._eos = header.eos_id.to_bytes(self._kind.itemsize, "little")
        self._done: list[Path] = []  # parts that are in a shard, kept until that is committed
        self._files: dict[str, IO[bytes]] = {}
        self._open()

    def add(self, unit: Unit, joined: bool) -> bool:
        """Append a text's tokens.

        Args:
            unit: its tokens.
            joined: it goes on with the text before it; else that document is ended first.

        Returns:
            Whether a shard was finished on the way.
        """
        finished, state, ids, words = False, self.state, unit.ids, unit.words
        if not joined:
            self.end_document()
        if state.tokens and state.tokens + len(ids) + 1 > self.limit:
            finished = True
            self.finish_shard()
        state.bytes += unit.bytes
        state.total["characters"] += unit.characters
        state.total["bytes"] += unit.bytes
        at = 0
        while at < len(ids):
            room = self.limit - 1 - state.tokens
            if room <= 0:
                finished = True
                self.finish_shard()
                continue
            self._append(ids[at : at + room], None if words is None else words[at : at + room])
            state.largest = max(state.largest, unit.largest)
            at += room
        return finished

    def end_document(self) -> None:
        """Put the end after the document that is open, if one is."""
        state = self.state
        if not state.open:
            return
        self._files["tokens"].write(self._eos)
        if self.common.words:
            self._files["words"].write(b"\1")
        state.tokens += 1
        state.total["tokens"] += 1
        state.largest = max(state.largest, self.common.eos_id)
        self._files["ends"].write(state.tokens.to_bytes(8, "little"))
        state.documents += 1
        state.total["documents"] += 1
        state.open = False

    def finish_shard(self) -> None:
        """Make a shard of what there is, if there is anything, and begin the next."""
        self.end_document()
        state = self.state
        if not state.tokens:
            return
        self._close()
        header = dataclasses.replace(
            self.common, tokens=state.tokens, documents=state.documents, largest=state.largest, text_bytes=state.bytes
        )
        name = f"{state.split}-{state.shard:05d}.shard"
        atomic.write_with(self.folder / name, lambda beside: self._assemble(beside, header))
        state.total["shards"].append({"name": name, "tokens": state.tokens, "documents": state.documents})
        self._done += [self._part(which) for which in self._parts]
        state.shard += 1
        state.tokens = state.documents = state.bytes = state.largest = 0
        self._open()

    def commit(self) -> dict[str, Any]:
        """Flush everything to disk; the state that the files now have."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        return dataclasses.asdict(self.state)

    def forget_done(self) -> None:
        """Delete parts that are in shards; only after that has been committed."""
        for path in self._done:
            path.unlink(missing_ok=True)
        self._done.clear()

    def close(self) -> None:
        """Close the files."""
        self._close()

    @property
    def _parts(self) -> list[str]:
        return ["tokens", "ends", "words"] if self.common.words else ["tokens", "ends"]

    def _part(self, which: str) -> Path:
        return self.folder / PARTS / f"{self.state.split}-{self.state.shard:05d}.{which}"

    def _append(self, ids: npt.NDArray[np.integer], words: npt.NDArray[np.bool_] | None) -> None:
        state = self.state
        self._files["tokens"].write(ids.astype(self._kind, copy=False).tobytes())
        if self.common.words and words is not None:
            self._files["words"].write(words.astype(np.uint8).tobytes())
        state.tokens += len(ids)
        state.total["tokens"] += len(ids)
        state.open = True

    def _open(self) -> None:
        state = self.state
        sizes = {"tokens": state.tokens * self._kind.itemsize, "ends": state.documents * 8, "words": state.tokens}
        for which in self._parts:
            path = self._part(which)
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(path, "ab")  # noqa: SIM115 - closed by close()
            if file.tell() < sizes[which]:
                received = f"{file.tell():,} bytes"
                do = "delete the folder of shards and build it again"
                raise RunError(path, f"{sizes[which]:,} bytes, as manifest.json says", received, do)
            file.truncate(sizes[which])
            self._files[which] = file

    def _close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _assemble(self, beside: Path, header: Header) -> None:
        with open(beside, "wb") as shard:
            shard.write(header.pack())
            with open(self._part("tokens"), "rb") as tokens:
                shutil.copyfileobj(tokens, shard, 1 << 20)
            shard.write(b"\0" * (header.ends_at - shard.tell()))
            with open(self._part("ends"), "rb") as ends:
                shutil.copyfileobj(ends, shard, 1 << 20)
            if header.words:
                flags = np.fromfile(self._part("words"), dtype=np.uint8)
                shard.write(np.packbits(flags).tobytes())
