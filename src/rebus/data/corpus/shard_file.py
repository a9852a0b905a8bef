"""One shard on disk: a header, tokens, where documents end, and (for masked models) where words start.

    header   256 bytes: magic, version, size of an id, counts, vocabulary, eos, largest id, hash of the tokenizer
    tokens   (T,) uint16, or uint32 where the vocabulary needs it; little-endian; every document ends with eos
    ends     (N,) uint64, the place after each document's last token
    words    (T / 8,) bits, 1 where a word starts; only in shards made for masked models

It does not know splits or manifests. A file is checked when it is opened; its tokens are mapped, not read.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rebus.errors import DataError

MAGIC = b"REBUSTOK"
VERSION = 1
HEADER = 256
LARGEST_VOCABULARY = 1 << 32
_FIELDS = struct.Struct("<8sIIQQQQIIQ32s")
_WORDS = 1  # flag: word starts are there
_REBUILD = "delete the folder of shards and build it again; the text it was made from is untouched"


def id_type(vocab_size: int) -> np.dtype[np.unsignedinteger]:
    """The smallest type that holds every id. Raises DataError where none of four bytes does."""
    if vocab_size > LARGEST_VOCABULARY:
        raise DataError(
            "the tokenizer", f"at most {LARGEST_VOCABULARY:,} ids", f"{vocab_size:,}", "use a smaller vocabulary"
        )
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


@dataclass(frozen=True)
class Header:
    """What a shard says of itself.

    Attributes:
        item: bytes of an id, 2 or 4.
        tokens: how many ids.
        documents: how many documents.
        vocab_size: ids are below it.
        largest: the largest id there is.
        eos_id: the id each document ends with.
        words: whether it says where words start.
        text_bytes: UTF-8 bytes of the text that the tokens stand for.
        tokenizer: hash of the tokenizer.
    """

    item: int
    tokens: int
    documents: int
    vocab_size: int
    largest: int
    eos_id: int
    words: bool
    text_bytes: int
    tokenizer: str

    def pack(self) -> bytes:
        """256 bytes."""
        packed = _FIELDS.pack(
            MAGIC,
            VERSION,
            self.item,
            self.tokens,
            self.documents,
            self.vocab_size,
            self.largest,
            self.eos_id,
            _WORDS if self.words else 0,
            self.text_bytes,
            _digest(self.tokenizer),
        )
        return packed.ljust(HEADER, b"\0")

    @property
    def ends_at(self) -> int:
        """The byte at which the ends begin: after the tokens, a multiple of 8."""
        return HEADER + -(-self.tokens * self.item // 8) * 8

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.ends_at + 8 * self.documents + (-(-self.tokens // 8) if self.words else 0)


class ShardFile:
    """A shard, opened and checked.

    Attributes:
        header: what it says of itself.
        tokens: (T,) ids, mapped.
        ends: (N,) uint64, mapped.
    """

    def __init__(self, path: Path, *, tokenizer: str | None = None, vocab_size: int | None = None) -> None:
        """Open a shard.

        Args:
            path: the file.
            tokenizer: the hash it must have been made with; None: any.
            vocab_size: how many ids the model knows; None: any.

        Raises:
            DataError: it is missing, cut short, of another kind, version or tokenizer, or its ids do not fit.
        """
        self.path = path
        self.header, self._map = _open(path)
        header = self.header
        if tokenizer is not None and _digest(tokenizer) != _digest_in(self._map):
            raise DataError(
                path,
                f"tokens made by the tokenizer {tokenizer[:12]}",
                "tokens of another tokenizer, so that its ids mean other text",
                "use the tokenizer they were made with, or name another folder for the shards (corpus.cache)",
            )
        if vocab_size is not None and header.largest >= vocab_size:
            raise DataError(path, f"ids below the vocabulary's {vocab_size:,}", f"the id {header.largest:,}", _REBUILD)
        kind = np.dtype("<u2" if header.item == 2 else "<u4")
        self.tokens: npt.NDArray[np.unsignedinteger] = np.frombuffer(self._map, kind, header.tokens, HEADER)
        self.ends: npt.NDArray[np.uint64] = np.frombuffer(self._map, "<u8", header.documents, header.ends_at)
        wrong = self._inconsistent()
        if wrong:
            raise DataError(path, "ends of documents that fit the tokens", wrong, _REBUILD)

    def words(self, start: int, stop: int) -> npt.NDArray[np.bool_]:
        """(stop - start,) whether a word starts at each token."""
        header = self.header
        first = start // 8
        packed = np.frombuffer(
            self._map, np.uint8, -(-stop // 8) - first, header.ends_at + 8 * header.documents + first
        )
        return np.unpackbits(packed)[start - 8 * first : stop - 8 * first].astype(bool)

    def _inconsistent(self) -> str:
        header, ends = self.header, self.ends
        if header.documents == 0 or header.tokens == 0:
            return f"{header.documents:,} documents of {header.tokens:,} tokens"
        if int(ends[-1]) != header.tokens:
            return f"a last document that ends at {int(ends[-1]):,} of {header.tokens:,} tokens"
        if int(ends[0]) == 0 or bool((ends[1:] <= ends[:-1]).any()):
            return "ends that do not rise"
        if int(self.tokens[-1]) != header.eos_id:
            return f"a last token {int(self.tokens[-1])} that is not the end of a document ({header.eos_id})"
        return ""


def _open(path: Path) -> tuple[Header, mmap.mmap]:
    try:
        with open(path, "rb") as file:
            result = file.seek(0, 2)
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if result else None
    except OSError as error:
        do = "check the folder; if the file is lost, " + _REBUILD
        raise DataError(path, "a shard", f"'{error.strerror or error}'", do) from error
    if mapped is None or result < HEADER:
        raise DataError(path, f"a shard, at least {HEADER} bytes", f"{result} bytes: it was cut short", _REBUILD)
    if mapped[:8] != MAGIC:
        raise DataError(path, f"a shard, which begins with {MAGIC!r}", f"{mapped[:8]!r}", _REBUILD)
    _, version, item, tokens, documents, vocab, largest, eos, flags, size, _ = _FIELDS.unpack(mapped[: _FIELDS.size])
    if version != VERSION:
        raise DataError(path, f"a shard of version {VERSION}", f"version {version}", _REBUILD)
    if item not in (2, 4) or vocab > 1 << (8 * item) or largest >= vocab:
        received = f"ids of {item} bytes up to {largest:,} for a vocabulary of {vocab:,}"
        raise DataError(path, "ids of 2 or 4 bytes that hold the vocabulary", received, _REBUILD)
    header = Header(item, tokens, documents, vocab, largest, eos, bool(flags & _WORDS), size, "")
    if result != header.size:
        received = f"{result:,} bytes: " + ("it was cut short" if result < header.size else "something was added")
        raise DataError(
            path, f"{header.size:,} bytes for {tokens:,} tokens in {documents:,} documents", received, _REBUILD
        )
    return header, mapped


def _digest(tokenizer: str) -> bytes:
    return hashlib.blake2b(tokenizer.encode(), digest_size=32).digest()


def _digest_in(mapped: mmap.mmap) -> bytes:
    digest: bytes = _FIELDS.unpack(mapped[: _FIELDS.size])[-1]
    return digest
