"""Which text trains and which is held out: a pure function of the texts and their order. Knows no tokens.

Where there are many documents, whole ones are held out, by a hash of their beginning: the same text always falls in the
same split, whatever is added to the source. Where there are few (one novel), stretches of text are: one in every
``stretch / valid`` characters, at a place the seed decides, so that there is held-out text from all over the source.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rebus.data.corpus.order import key_of
from rebus.data.corpus.reading.documents import Document

_ENOUGH = 20  # held-out documents to be expected, from which whole ones are dealt
_LOOKED_AT = 64_000_000  # characters
_SHORTEST, _LONGEST = 64, 65_536  # of a stretch
_STRETCHES = 4  # at least, where the text is long enough


@dataclass
class Dealing:
    """How text is dealt.

    Attributes:
        valid: share that is held out.
        seed: another seed deals otherwise.
        stretch: characters of a held-out stretch; 0: whole documents are dealt.
        said: the source itself says what is held out.
        seen: characters dealt so far, of all splits.
        document: split of the document that the last text belonged to.
    """

    valid: float
    seed: int
    stretch: int = 0
    said: bool = False
    seen: int = 0
    document: str = "train"

    @property
    def unit(self) -> int | None:
        """Most characters that are dealt together; None: documents are not divided."""
        return self.stretch // 2 if self.stretch else None

    def begin(self, document: Document, digest: bytes) -> None:
        """Choose the split of a document by a hash of its text, or of the first part of it."""
        if document.split and (document.split != "train" or self.said):
            self.document = document.split
        elif not self.valid or self.said or self.stretch:
            self.document = "train"
        else:
            mixed = hashlib.blake2b(digest, digest_size=8, salt=_salt(self.seed)).digest()
            self.document = "valid" if int.from_bytes(mixed, "little") < self.valid * 2**64 else "train"

    def deal(self, characters: int) -> str:
        """The split of the next text of the document, and count it."""
        middle = self.seen + characters / 2
        self.seen += characters
        if not self.stretch or self.document != "train":
            return self.document
        window = self.stretch / self.valid
        number = int(middle // window)
        begin = (window - self.stretch) * key_of("stretch", self.seed, number) / 2**64
        return "valid" if begin <= middle - number * window < begin + self.stretch else "train"

    def as_dict(self) -> dict[str, Any]:
        """Plain values; ``Dealing(**these)`` goes on."""
        return dict(vars(self))


def survey(documents: Iterable[Document], valid: float, seed: int, texts: Iterable[str]) -> Dealing:
    """Choose how to deal, from the beginning of the source: 64 million characters or the documents that are enough.

    Args:
        documents: the source.
        valid: share to hold out, below 1.
        seed: of the dealing.
        texts: splits that the source itself names.
    """
    if not valid or "valid" in texts:
        return Dealing(valid, seed, said="valid" in texts)
    enough = math.ceil(_ENOUGH / valid)
    count = characters = 0
    for document in documents:
        if document.split not in ("", "train"):
            continue
        count += document.begins
        characters += len(document.text)
        if count >= enough:
            return Dealing(valid, seed)
        if characters >= _LOOKED_AT:
            break
    stretch = int(min(max(characters * valid / _STRETCHES, _SHORTEST), _LONGEST))
    return Dealing(valid, seed, stretch)


def _salt(seed: int) -> bytes:
    return (seed % 2**64).to_bytes(16, "little")
