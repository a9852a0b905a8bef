"""Word vectors: read from files of GloVe and word2vec, or trained on the texts at hand. It knows no tensors.

Sources: Mikolov et al. (2013), "Efficient Estimation of Word Representations in Vector Space" (skip-gram, CBOW);
Pennington et al. (2014), "GloVe: Global Vectors for Word Representation". Letters: D width.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from rebus.errors import DataError, MissingPackageError

Floats = NDArray[np.float32]
TRAINED = ("skipgram", "cbow")
_LONGEST = 1000  # bytes of a word in a binary file


def train_vectors(
    sentences: Iterable[Sequence[str]], way: str, width: int, seed: int, epochs: int = 10
) -> dict[str, Floats]:
    """Vectors of the words of some texts; the same texts and seed give the same vectors.

    Args:
        sentences: the words of each text.
        way: one of ``TRAINED``: ``skipgram`` guesses the words around a word, ``cbow`` a word from those around it.
        width: D.
        seed: of the first vectors and of what is sampled.
        epochs: passes over the texts.

    Returns:
        word: (D,), for words that occur at least twice.

    Raises:
        MissingPackageError: gensim is not installed. DataError: no word occurs twice.
    """
    try:
        from gensim.models import Word2Vec
    except ImportError as error:
        raise MissingPackageError("gensim", "vectors", f"training word vectors by {way}", "rebus-words") from error
    texts = [list(sentence) for sentence in sentences]
    model = Word2Vec(
        vector_size=width,
        sg=int(way == "skipgram"),
        window=5,
        min_count=2,
        epochs=epochs,
        seed=seed,
        workers=1,  # more threads would race for the same vectors
        hashfxn=_hash,
    )
    model.build_vocab(texts)
    if not len(model.wv):
        raise DataError(
            "the texts", "words that occur twice or more", "none", "use more text, or no text.options.vectors"
        )
    model.train(texts, total_examples=len(texts), epochs=epochs)
    return {word: np.asarray(model.wv[word], dtype=np.float32) for word in model.wv.index_to_key}


def _hash(text: str) -> int:
    """As Python's own, but the same in every process."""
    return zlib.crc32(text.encode())


def read_vectors(path: str | Path) -> Iterator[tuple[str, Floats]]:
    """The words and vectors of a word2vec or GloVe file, one by one; gzipped or not.

    Text: each line is a word and its numbers, separated by spaces. A first line of two whole numbers is word2vec's
    header (words, width). A word may itself hold spaces, as some of GloVe's do. Binary, as word2vec writes it: that
    header, then each word, a space, and its numbers as four bytes each, lowest byte first.

    Raises:
        DataError: no such file, not UTF-8, a line whose numbers cannot be read or are not finite, a line of another
            width than the first, or a file that is cut short; the message has the line's or the word's number.
    """
    path = Path(path)
    try:
        with _opened(path) as file:
            header = _header(file)
            if header is not None and _is_binary(file, header[1]):
                yield from _binary(file, *header, path)
            else:
                yield from _lines(file, header[1] if header else None, 2 if header else 1, path)
    except (OSError, EOFError, zlib.error) as error:
        message = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataError(path, "a file of word vectors", f"'{message}'", "check text.file") from error


def _opened(path: Path) -> IO[bytes]:
    file = open(path, "rb")  # noqa: SIM115 - closed by the caller
    packed = file.peek(2)[:2] == b"\x1f\x8b"
    return gzip.open(file) if packed else file  # type: ignore[return-value]


def _header(file: IO[bytes]) -> tuple[int, int] | None:
    """(words, width) of a first line of two whole numbers, which is then read; else None."""
    line = file.peek(64)[:64].partition(b"\n")[0]  # type: ignore[attr-defined]
    parts = line.split()
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        return None
    file.readline()
    return int(parts[0]), int(parts[1])


def _is_binary(file: IO[bytes], width: int) -> bool:
    """Whether what follows the header is not a word and its numbers in letters."""
    some = file.peek(4096)[:4096].partition(b"\n")[0]  # type: ignore[attr-defined]
    parts = some.split(b" ")[1:][: max(1, min(width, 4))]
    return not parts or not all(_number(part) for part in parts)


def _binary(file: IO[bytes], many: int, width: int, path: Path) -> Iterator[tuple[str, Floats]]:
    size = 4 * width
    do = "copy or fetch the file again"
    for number in range(1, many + 1):
        word = bytearray()
        while (byte := file.read(1)) not in (b" ", b""):
            word += byte
            if len(word) > _LONGEST:
                raise DataError(f"{path}, word {number}", "a word and a space", f"{_LONGEST} bytes without one", do)
        numbers = file.read(size)
        if len(numbers) < size:
            raise DataError(path, f"{many} words, as its first line says", f"{number - 1}: it is cut short", do)
        vector = np.frombuffer(numbers, dtype="<f4")
        if not np.isfinite(vector).all():
            raise DataError(f"{path}, word {number}", "finite numbers", "a number that is not", do)
        yield bytes(word).lstrip(b"\n").decode("utf-8", "replace"), vector.astype(np.float32)


def _lines(file: IO[bytes], width: int | None, first: int, path: Path) -> Iterator[tuple[str, Floats]]:
    for number, raw in enumerate(file, first):
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            do = "convert it to UTF-8; binary files of word2vec begin with a line of two numbers"
            raise DataError(f"{path}, line {number}", "word vectors as UTF-8 text", f"'{error.reason}'", do) from error
        parts = line.rstrip("\r\n ").split(" ")
        if parts == [""]:
            continue
        width = len(parts) - 1 if width is None else width
        yield _entry(parts, width, f"{path}, line {number}")


def _entry(parts: list[str], width: int, where: str) -> tuple[str, Floats]:
    do = "remove or mend the line"
    if width < 1 or len(parts) < width + 1:
        raise DataError(where, f"a word and {max(width, 1)} numbers", f"{len(parts) - 1} numbers", do)
    word = " ".join(parts[:-width])
    try:
        vector = [float(part) for part in parts[-width:]]
    except ValueError as error:
        raise DataError(where, f"a word and {width} numbers", f"'{' '.join(parts)[:60]}'", do) from error
    if not all(math.isfinite(value) for value in vector):
        raise DataError(where, "finite numbers", "a number that is not", do)
    if len(parts) > width + 1 and _number(parts[-width - 1]):
        raise DataError(where, f"{width} numbers, as in the lines before", f"{len(parts) - 1}", do)
    return word, np.asarray(vector, dtype=np.float32)


def _number(text: str | bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
