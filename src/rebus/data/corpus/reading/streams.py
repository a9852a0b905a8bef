"""A file, plain or packed by gzip or zstd, as pieces of text of bounded size; bytes that are not text are named.

It does not know documents. Memory does not grow with the file.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rebus.data.encodings import EncodingError, find_encoding, undecodable
from rebus.errors import DataError

PACKED = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}
CHUNK = 1 << 20
BAD = "\udfff"  # stands where bytes could not be read; no encoding makes it
_HEAD = 1 << 16


class BinaryError(DataError):
    """A file that holds no text at all."""


def ending(path: Path) -> str:
    """The ending that says what is inside: ``.txt`` for ``novel.txt`` and ``novel.TXT.gz``."""
    name = path.name.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    return Path(name).suffix


def is_packed(path: Path) -> bool:
    """Whether the name says gzip or zstd."""
    return path.suffix.lower() in PACKED


def read_bytes(path: Path, name: str, callableint_none: Callable[[int], None] | None = None) -> Iterator[bytes]:
    """The content, unpacked, in pieces of at most ``CHUNK`` bytes.

    Args:
        path: the file.
        name: what messages call it.
        callableint_none: is given the bytes that were read from the disk, packed ones as they are.

    Raises:
        DataError: it cannot be read, or the archive is damaged or cut short.
    """
    import pyarrow as pa

    packed = PACKED.get(path.suffix.lower())
    try:
        with open(path, "rb") as file:
            stream: Any = file if packed is None else pa.CompressedInputStream(pa.PythonFile(file, "r"), packed)
            at = 0
            while content := stream.read(CHUNK):
                if callableint_none is not None:
                    callableint_none(file.tell() - at)
                    at = file.tell()
                yield content
    except (OSError, pa.ArrowException) as error:
        if packed is None or getattr(error, "errno", None):
            message = f"'{getattr(error, 'strerror', None) or error}'"
            raise DataError(path, "a file that can be read", message, "check its permissions") from error
        message = " ".join(str(error).split())[:120]
        message = "one that is cut short" if "runcated" in message else f"damage ({message})"
        raise DataError(name, f"a whole {packed} archive", message, "write or download it again") from error


def read_text(
    path: Path,
    name: str,
    encoding: str | None = None,
    skip_bad: bool = False,
    callableint_none: Callable[[int], None] | None = None,
) -> Iterator[str]:
    """The text in pieces; lines end as in Unix. Nothing is yielded for an empty file.

    Args:
        path: the file.
        name: what messages call it.
        encoding: None: found from its first 64 KiB, as ``data.encodings`` does.
        skip_bad: put ``BAD`` where bytes cannot be read instead of raising.
        callableint_none: as for ``read_bytes``.

    Raises:
        BinaryError: it is no text.
        EncodingError: it is text in two encodings, about as likely.
        DataError: the encoding is not known, or it holds bytes that do not fit its encoding (byte and line are named).
    """
    pieces = read_bytes(path, name, callableint_none)
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= _HEAD:
            break
    if not head:
        return
    try:
        chosen = find_encoding(head, name, encoding, whole=len(head) < _HEAD).name
    except EncodingError:
        raise
    except DataError as error:
        raise (BinaryError(**error.as_dict()) if encoding is None else error) from error
    codecs.register_error("rebus-bad", _mark)
    decoder = codecs.getincrementaldecoder(chosen)("rebus-bad" if skip_bad else "strict")
    lines = io.IncrementalNewlineDecoder(None, translate=True)
    line, at = 1, 0
    first = True

    def decoded(content: bytes, final: bool) -> str:
        nonlocal line, at, first
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(content, final)
        except UnicodeDecodeError as error:
            start, number = at - pending + error.start, line + content.count(b"\n", 0, max(0, error.start - pending))
            raise undecodable(name, chosen, start, number, error.object[error.start], error.reason) from error
        first_piece = first
        if first and text:
            text, first = text.removeprefix("\ufeff"), False
        if "\0" in text and skip_bad and not first_piece:
            text = text.replace("\0", BAD)
        if "\0" in text:
            number = line + text[: text.index("\0")].count("\n")
            do = "leave it out; if it is text, name its encoding with --set data.encoding=NAME"
            raise BinaryError(f"{name}, line {number}", "text", "a zero byte, as binary files have", do)
        at, line = at + len(content), line + content.count(b"\n")
        return str(lines.decode(text, final))

    for piece in _chain(head, pieces):
        if text := decoded(piece, False):
            yield text
    if text := decoded(b"", True):
        yield text


def _chain(head: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from pieces


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return BAD, error.end


def text_lines(pieces: Iterator[str], limit: int) -> Iterator[tuple[int, str, bool]]:
    """Lines as (number from 1, text, whether it is whole).

    A line longer than ``limit`` characters is given at once, its beginning only, and marked as not whole; whoever goes
    on reads past the rest of it. Memory stays bounded.
    """
    number, held, size = 1, list[str](), 0
    for piece in pieces:
        parts = piece.split("\n")
        for last, part in zip([False] * (len(parts) - 1) + [True], parts, strict=True):
            if part and size <= limit:
                held.append(part[: limit + 1 - size])
                size += len(part)
                if size > limit:
                    yield number, "".join(held), False
            if not last:
                if size <= limit:
                    yield number, "".join(held), True
                number, held, size = number + 1, [], 0
    if held and size <= limit:
        yield number, "".join(held), True
