"""One tar archive, member by member: where each file's bytes lie. It does not know what they are.

Plain files in the ustar, GNU and pax layouts. Everything that a table does not need is refused, not skipped: links,
devices, sparse files, names that lead out of the archive, archives that are packed, cut short or glued together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rebus.errors import DataError

BLOCK = 512
_ZERO = bytes(BLOCK)
_LONGEST_NAME = 1 << 16  # bytes of a long name or of a pax header
_FILES, _FOLDER = (b"0", b"\0", b"7"), b"5"
_REFUSED = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"S": "a sparse file",
}
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass(frozen=True, slots=True)
class Member:
    """One file inside an archive.

    Attributes:
        name: its path inside, without a leading ``./``.
        offset: where its bytes begin in the archive.
        size: how many there are.
        content: the bytes, where they were asked for.
    """

    name: str
    offset: int
    size: int
    content: bytes | None = None


def members(path: Path, name: str, wanted: Callable[[str, int], bool], encoding: str | None = None) -> Iterator[Member]:
    """The files of an archive in its own order; folders are passed over.

    Args:
        path: the archive.
        name: what messages call it.
        wanted: member's name, its size -> whether its bytes are to be read as well.
        encoding: of names; None: UTF-8.

    Raises:
        DataError: it is no tar archive, it is damaged, or it holds what is refused; the member or byte is named.
    """
    try:
        with open(path, "rb") as file:
            yield from _members(file, name, wanted, encoding or "utf-8")
    except OSError as error:
        message = f"'{error.strerror or error}'"
        raise DataError(path, "a file that can be read", message, "check the path and its permissions") from error


def _members(file: BinaryIO, name: str, wanted: Callable[[str, int], bool], encoding: str) -> Iterator[Member]:
    end = os.fstat(file.fileno()).st_size
    at = 0
    entries: dict[str, str] = {}  # what long-name and pax headers say of the member that follows them
    while True:
        block = file.read(BLOCK)
        if block == _ZERO:
            _expect_nothing_more(file, name, at)
            return
        if len(block) < BLOCK:
            raise _cut(name, at, end)
        kind = block[156:157]
        if not _sum_is_right(block):
            raise _no_archive(name, at, block)
        size = int(entries["size"]) if entries.get("size", "").isdigit() else _number(block[124:136], name, at)
        start = at + BLOCK
        at = start + (size + BLOCK - 1) // BLOCK * BLOCK
        if start + size > end:
            raise _cut(name, start - BLOCK, end)
        if kind in (b"x", b"g", b"L", b"K"):
            message = _read_header(file, name, start, size)
            if kind == b"L":
                entries["path"] = _text(message.rstrip(b"\0"), name, start, encoding)
            elif kind == b"x":
                entries |= _pax(message, name, start)
        else:
            inner = entries.get("path") or _text(_stored_name(block), name, start, encoding)
            if "GNU.sparse.major" in entries or "GNU.sparse.map" in entries:
                kind = b"S"
            entries = {}
            if kind in _FILES and not inner.endswith("/"):
                inner = _safe(inner, name)
                content = None
                if wanted(inner, size):
                    content = file.read(size)
                yield Member(inner, start, size, content)
            elif kind != _FOLDER and not inner.endswith("/"):
                received = f"{_REFUSED.get(kind, f'an entry of type {kind!r}')} ('{inner[:80]}')"
                raise DataError(name, "plain files only", received, "pack the files themselves: tar --dereference")
        file.seek(at)


def _safe(inner: str, name: str) -> str:
    """A member's name below the archive. Raises DataError where it leads out of it."""
    while inner.startswith("./"):
        inner = inner[2:]
    if inner.startswith("/") or "\0" in inner or not inner or ".." in inner.split("/"):
        do = "pack the files again from inside their folder: tar -C FOLDER -cf NAME.tar ."
        raise DataError(name, "names below the archive", f"'{inner[:80]}', which leads out of it", do)
    return inner


def _stored_name(block: bytes) -> bytes:
    name = block[:100].split(b"\0", 1)[0]
    prefix = block[345:500].split(b"\0", 1)[0] if block[257:263] == b"ustar\0" else b""  # GNU keeps times there
    return prefix + b"/" + name if prefix else name


def _number(field: bytes, name: str, at: int) -> int:
    if field[0] & 0x80:  # GNU: sizes of 8 GiB and more in base 256
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b"\0 ")
    try:
        return int(digits, 8) if digits else 0
    except ValueError as error:
        raise _damaged(name, at, f"a size of {field!r}") from error


def _sum_is_right(block: bytes) -> bool:
    try:
        entries = int(block[148:156].strip(b"\0 ") or b"-1", 8)
    except ValueError:
        return False
    return entries == sum(block) - sum(block[148:156]) + 256  # the field itself counts as eight spaces


def _read_header(file: BinaryIO, name: str, at: int, size: int) -> bytes:
    if size > _LONGEST_NAME:
        raise _damaged(name, at, f"a header of {size:,} bytes")
    return file.read(size)


def _pax(content: bytes, name: str, at: int) -> dict[str, str]:
    """Records of a length, a space, ``key=value`` and the end of the line; pax text is always UTF-8."""
    entries = {}
    while content:
        digits, space, _ = content[:20].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        record = content[len(digits) + 1 : length]
        key, equals, value = record.partition(b"=")
        if not space or not equals or length <= len(digits) or not value.endswith(b"\n"):
            raise _damaged(name, at, "a pax header that cannot be read")
        entries[key.decode("utf-8", "replace")] = (
            _text(value[:-1], name, at, "utf-8") if key == b"path" else value[:-1].decode("utf-8", "replace")
        )
        content = content[length:]
    return entries


def _text(name: bytes, archive: str, at: int, encoding: str) -> str:
    try:
        return name.decode(encoding)
    except UnicodeDecodeError as error:
        do = "say how they are written, e.g. --set data.encoding=gbk, or pack the files again"
        raise DataError(f"{archive}, byte {at}", f"names in {encoding}", f"{name[:60]!r}", do) from error


def _expect_nothing_more(file: BinaryIO, name: str, at: int) -> None:
    """After the mark of the end only zeros may follow."""
    while chunk := file.read(1 << 20):
        if chunk.count(0) != len(chunk):
            do = "join archives with `tar --concatenate`, or keep them as files of their own"
            raise DataError(f"{name}, byte {at}", "one archive", "another one after its end", do)


def _cut(name: str, at: int, end: int) -> DataError:
    if end == 0:
        return DataError(name, "a tar archive", "an empty file (0 bytes)", "write or download it again")
    received = f"a file that ends at byte {end:,}, in the middle of it"
    return DataError(f"{name}, byte {at}", "a whole tar archive with its mark of the end", received, _AGAIN)


_AGAIN = "write or download it again, or use what is whole with --set data.on_bad=skip"


def _no_archive(name: str, at: int, block: bytes) -> DataError:
    if at:
        return _damaged(name, at, "a header whose check sum is wrong")
    packed = next((word for mark, word in _PACKED.items() if block.startswith(mark)), None)
    if packed:
        do = "unpack the compression only, so that images can be read from the middle: gzip -d, xz -d, zstd -d"
        return DataError(name, "a plain tar archive", f"one packed by {packed}", do)
    return DataError(name, "a tar archive", "something else", "check the file; it may have been saved incompletely")


def _damaged(name: str, at: int, text: str) -> DataError:
    return DataError(f"{name}, byte {at}", "a whole tar archive", text, _AGAIN)
