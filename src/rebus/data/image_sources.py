"""Where an image's bytes are: a path, base64 text, a ``data:`` address or bytes; and which of those are refused.

A path may name a part of a tar archive: ``photos.tar#1536+20480/cats/1.jpg`` is 20,480 bytes from byte 1,536 on.
A relative path may not leave the table's folder; an absolute path is the user's own word. Nothing is ever fetched.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

from rebus.catalogue import Note
from rebus.data import cells
from rebus.data.lists import parse_list
from rebus.errors import ImageError

INSIDE = "REBUS_INSIDE"  # environment: folders besides the table's that images may lie in; unset: anywhere
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.\-]{1,20}://")
SIGNATURES = (
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"RIFF",
    b"GIF8",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"\0\0\1\0",
    b"P4",
    b"P5",
    b"P6",
)
_SHORTEST_BASE64 = 32
_PORTION = 2**20  # characters of base64 that are decoded at once
_PLAIN, _SPACE = bytes.maketrans(b"-_", b"+/"), b" \t\r\n\v\f"
_WRONG = re.compile(r"[^A-Za-z0-9+/_\-=\s]")
_MEMBER = re.compile(r"(.+\.tar)#(\d{1,18})\+(\d{1,18})/(.+)", re.S)


@dataclass(frozen=True)
class Opened:
    """An image's bytes as a file, and how messages call it.

    Attributes:
        file: open for reading, at its start.
        where: the row (or the file, where no row is known).
        what: the image itself: ``'cats/1.png'`` or ``embedded bytes``.
        ending: of its name, in lower case.
    """

    file: IO[bytes]
    where: str
    what: str
    ending: str = ""


@contextmanager
def open_image(value: str | bytes, root: str | Path, where: str = "") -> Iterator[Opened]:
    """The bytes an image value stands for.

    Raises:
        ImageError: the value is empty, an address, a path out of the folder, or names nothing that can be read.
    """
    embedded = image_bytes(value, where)
    if embedded is not None:
        yield Opened(io.BytesIO(embedded), where or "an image", "embedded data")
        return
    path, offset, size = image_span(str(value), root, where)
    named = f"'{shown(value)}'"
    try:
        file = open(path, "rb", buffering=0 if offset else -1)  # noqa: SIM115 - closed below
    except OSError as error:
        raise _unreadable(where or str(path), named, error) from error
    with file:
        if not offset:
            yield Opened(file, where or str(path), named, path.suffix.lower())
            return
        there = max(0, min(size, os.fstat(file.fileno()).st_size - offset))
        content = os.pread(file.fileno(), there, offset)
    if len(content) < size:
        received = f"{named}, of which {len(content):,} are there"
        raise ImageError(where or str(path), f"{size:,} bytes", received, "write or download the archive again")
    yield Opened(io.BytesIO(content), where or str(path), named, os.path.splitext(str(value))[1].lower())


def image_bytes(value: str | bytes | None, where: str = "") -> bytes | None:
    """The bytes a value carries in itself, None where it is a path. Raises ImageError as ``open_image`` does."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if value is None or not isinstance(value, str) or not value.strip():
        received = "nothing" if value is None or value == "" or isinstance(value, str) else f"a {type(value).__name__}"
        raise ImageError(
            where or "an image", "a path, base64 text or bytes", received, "name an image, or leave the row out"
        )
    if value.startswith("[") and (several := parse_list(value)) is not None and len(several) > 1:
        named = shown(value)
        raise ImageError.of("problem.image_several", where=where or "an image", count=len(several), named=named)
    if is_data_address(value):
        comma = value.find(",", 0, 256)
        head = value[: max(comma, 0)] or value[:256]
        if comma < 0 or not head.rstrip().lower().endswith(";base64"):
            raise ImageError(
                where or "an image",
                "an address like 'data:image/png;base64,...'",
                f"'{shown(head)}'",
                "encode it as base64",
            )
        return _decode_base64(value, where, comma + 1)
    return _decode_base64(value, where) if is_base64_image(value) else None


def is_data_address(value: str) -> bool:
    """Whether text is a ``data:`` address."""
    return value[:64].lstrip()[:5].lower() == "data:"


def is_base64_image(value: str) -> bool:
    """Whether text is base64 of something that begins as an image does (a JPEG's begins '/9j/', like a path)."""
    if len(value) < _SHORTEST_BASE64:
        return False
    try:
        head = base64.b64decode(value[:16].replace("-", "+").replace("_", "/"), validate=True)
    except (ValueError, binascii.Error):
        return False
    return head.startswith(SIGNATURES) and "." not in value[-8:]


def image_path(value: str, root: str | Path, where: str = "") -> Path:
    """The file that a path value names. Raises ImageError where it is refused or missing."""
    where = where or f"image '{shown(value)}'"
    named = f"'{shown(value)}'"
    if _ADDRESS.match(value):
        raise ImageError.of("problem.image_remote", where=where, named=named)
    if "\0" in value:
        raise ImageError(where, "a path", f"{named}, which holds a zero byte", "correct the table")
    path = _placed(value, Path(root), where)
    if not os.path.exists(path):
        path = _respelt(value, Path(root), where) or path
    inside = os.environ.get(INSIDE, "")
    followed = (path.parent, path) if os.path.islink(path) else (path.parent,)  # one folder holds many images
    if inside and not all(_within(str(item), str(root), inside) for item in followed):
        do = "move the image there, or let somebody who may read it train"
        raise ImageError(where, "an image in a folder that this process may read", named, do)
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        raise _unreadable(where, named, error, path) from error
    if stat.S_ISREG(mode):
        return path
    raise ImageError(
        where, "an image file", f"{named}, a {'folder' if stat.S_ISDIR(mode) else 'device or pipe'}", "name a file"
    )


def member_value(archive: str, offset: int, size: int, name: str) -> str:
    """How a table writes an image that lies inside a tar archive."""
    return f"{archive}#{offset}+{size}/{name}"


@lru_cache(maxsize=4096)
def _within(path: str, root: str, inside: str) -> bool:
    """Whether a path, its links followed, lies in the table's folder or in one of those that ``inside`` lists."""
    real = Path(os.path.realpath(path))
    folders = [Path(item).resolve() for item in (*inside.split(os.pathsep), root)]
    return any(real == folder or folder in real.parents for folder in folders)


def named_file(value: str) -> str:
    """The file that a path value names, as it is written; nothing is looked for."""
    inside = _MEMBER.fullmatch(value)
    return value if inside is None else inside[1]


def image_span(value: str, root: str | Path, where: str = "") -> tuple[Path, int, int]:
    """(file, first byte, bytes) of a path value. Raises ImageError as ``image_path`` does."""
    inside = _MEMBER.fullmatch(value)
    if inside is None:
        path = image_path(value, root, where)
        return path, 0, path.stat().st_size
    return _archive(inside[1], str(root), where), int(inside[2]), int(inside[3])


def _archive(name: str, root: str, where: str) -> Path:
    result = _known_archive(name, root)
    return result if result is not None else image_path(name, root, where)


@lru_cache(maxsize=4096)
def _known_archive(name: str, root: str) -> Path | None:
    """An archive that has been found before is not looked for again: there are few, and a million images in them."""
    try:
        return image_path(name, root)
    except ImageError:
        return None


def shown(text: str | bytes) -> str:
    """A value as messages show it: one line, cut to 80 characters."""
    words = repr(text)[1:-1] if isinstance(text, str) else repr(text)
    return words if len(words) <= 80 else words[:77] + "..."


def _placed(value: str, root: Path, where: str) -> Path:
    path = Path(value)
    return path if path.is_absolute() else _below(value, root, where)


def _respelt(value: str, root: Path, where: str) -> Path | None:
    """The file that another spelling of a path names; a path that is relative stays so in every spelling."""
    for spelling in cells.paths(value):
        if Path(spelling).is_absolute() == Path(value).is_absolute():
            path = _placed(spelling, root, where)
            if os.path.isfile(path):
                return path
    return None


def _below(value: str, root: Path, where: str) -> Path:
    inner = os.path.normpath(value)
    if inner == ".." or inner.startswith(("../", "..\\")):
        raise ImageError.of("problem.image_outside_table", where=where, root=str(root), named=shown(value))
    return root / inner


def _decode_base64(text: str, where: str, begin: int = 0) -> bytes:
    """Base64 from this character on, in either alphabet, with or without padding and white space.

    It is decoded in portions, as one call over a large image would hold up every other thread.
    """
    result: list[bytes] = []
    rest, ended, start = b"", False, begin
    try:
        for start in range(begin, len(text), _PORTION):
            letters = rest + text[start : start + _PORTION].encode("ascii").translate(_PLAIN, _SPACE)
            whole = len(letters) - len(letters) % 4
            portion, rest = letters[:whole], letters[whole:]
            if ended and letters:
                raise binascii.Error("Text after the padding")
            ended = ended or portion.endswith(b"=")
            result.append(binascii.a2b_base64(portion, strict_mode=True))
        if rest:
            result.append(binascii.a2b_base64(rest + b"=" * (-len(rest) % 4), strict_mode=True))
    except (ValueError, binascii.Error) as error:
        wrong = _WRONG.search(text, start, start + _PORTION)
        message = f"holds {wrong[0]!r} at character {wrong.start() - begin + 1:,}" if wrong else f"is not ({error})"
        raise ImageError.of("problem.image_base64", where=where or "an image", why=message) from error
    return b"".join(result)


def _unreadable(where: str, named: str, error: Exception, path: Path | None = None) -> ImageError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        there = path is None or path.parent.is_dir()
        folder = "" if there else Note("hint.no_folder_either", folder=shown(str(path.parent)))  # type: ignore[union-attr]
        return ImageError.of("problem.image_no_file", where=where, named=named, folder=folder)
    message = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return ImageError.of("problem.image_unreadable", where=where, named=named, why=message)
