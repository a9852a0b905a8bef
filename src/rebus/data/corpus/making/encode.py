"""Documents to tokens, a batch at a time: what a process of ``build_shards`` does, a pure function of the batch."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rebus.data.corpus.cleaning.cleaner import Cleaned, Cleaner
from rebus.data.corpus.reading.documents import Document, cut_text
from rebus.data.corpus.shard_file import id_type
from rebus.data.corpus.word_starts import starts_of_tokens, word_places
from rebus.errors import DataError
from rebus.text.words import Segment

EncodeMany = Callable[[Sequence[str]], list[list[int]]]
EncodeWithOffsets = Callable[[str], tuple[list[int], list[tuple[int, int]]]]
_BATCH = 1 << 18  # characters
_MOST = 2048  # documents
_SHOWN = 240  # characters of a document that are kept, for examples


@dataclass(slots=True)
class Unit:
    """A text that is dealt to one split, as tokens.

    Attributes:
        ids: (n,) of it.
        words: (n,) whether a word starts at each; None: not asked for.
        characters, bytes: of the text that the tokens stand for.
        largest: the largest id.
    """

    ids: npt.NDArray[np.unsignedinteger]
    words: npt.NDArray[np.bool_] | None
    characters: int
    bytes: int
    largest: int


@dataclass(slots=True)
class Encoded:
    """What became of a document.

    Attributes:
        document: with only the beginning of its text.
        characters: of the whole text.
        cleaned: what cleaning says; its text is not kept.
        digest: 16 bytes, a hash of the cleaned text.
        units: its tokens; none where it is left out.
    """

    document: Document
    characters: int
    cleaned: Cleaned
    digest: bytes
    units: list[Unit]


@dataclass
class Encoder:
    """Cleans, cuts and encodes a batch of documents.

    Attributes:
        cleaner: makes them clean.
        encode_many: texts to ids.
        vocab_size: ids must be below it.
        unit: most characters of a text that is dealt as one; None: documents are not divided.
        with_offsets: also finds where words start.
        segment: how Chinese is cut into words.
        normalise: what the tokenizer does to a text before cutting it; bytes are counted after it.
    """

    cleaner: Cleaner
    encode_many: EncodeMany
    vocab_size: int
    unit: int | None = None
    with_offsets: EncodeWithOffsets | None = None
    segment: Segment = "auto"
    normalise: Callable[[str], str] | None = None

    def __call__(self, batch: Sequence[Document]) -> list[Encoded]:
        """One result a document, in order. Raises DataError where the tokenizer gives an id beyond its vocabulary."""
        done: list[Encoded] = []
        texts: list[str] = []
        owners: list[Encoded] = []
        for document in batch:
            cleaned = self.cleaner(document)
            digest = hashlib.blake2b(cleaned.text.encode(), digest_size=16).digest()
            item = Encoded(_beginning(document), len(document.text), cleaned, digest, [])
            if not cleaned.reason:
                parts = cut_text(cleaned.text, self.unit) if self.unit else [cleaned.text]
                texts += parts
                owners += [item] * len(parts)
            cleaned.text = ""
            done.append(item)
        kind = id_type(self.vocab_size)
        for item, text, (ids, words) in zip(owners, texts, self._encoded(texts), strict=True):
            largest = int(ids.max()) if len(ids) else 0
            if largest >= self.vocab_size:
                raise DataError(
                    f"{item.document.where}, the tokenizer",
                    f"ids below the vocabulary's {self.vocab_size:,}",
                    f"the id {largest:,}",
                    "give the vocabulary its true size",
                )
            stands_for = text if self.normalise is None else self.normalise(text)
            item.units.append(Unit(ids.astype(kind), words, len(stands_for), len(stands_for.encode()), largest))
        return done

    def _encoded(self, texts: list[str]) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_] | None]]:
        if self.with_offsets is None:
            for ids in self.encode_many(texts) if texts else []:
                yield np.array(ids, dtype=np.int64), None
            return
        for text in texts:
            result, offsets = self.with_offsets(text)
            yield np.array(result, dtype=np.int64), starts_of_tokens(word_places(text, self.segment), offsets)


def _beginning(document: Document) -> Document:
    if len(document.text) <= _SHOWN:
        return document
    return dataclasses.replace(document, text=document.text[:_SHOWN])


def batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Documents in batches of about 256,000 characters, whatever the number of processes."""
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= _BATCH or len(batch) >= _MOST:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
