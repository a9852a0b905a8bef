"""The user's cache folder: what can be made again. It does not know what is kept there.

The folder is ``$XDG_CACHE_HOME/rebus`` where that names an absolute path, else ``~/.cache/rebus``. Where there is no
such place (no home, a folder that cannot be written) nothing is kept, and everything works without.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from rebus import atomic
from rebus.errors import RunError


def folder() -> Path | None:
    """The cache folder, made or not; None where there is no place for one."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    if named and Path(named).is_absolute():  # a relative one is to be ignored, says the XDG specification
        return Path(named) / "rebus"
    try:
        home = Path.home()
    except RuntimeError:  # no HOME, and the system does not know the user
        return None
    return home / ".cache" / "rebus" if home.is_absolute() else None


def file(*names: str) -> Path | None:
    """Where a file is kept; None where nothing can be."""
    result = folder()
    return None if result is None else result.joinpath(*names)


def store(path: Path, write: Callable[[Path], None]) -> bool:
    """Write a file whole or not at all, into folders that only the user can write; whether it is there now."""

    def private(beside: Path) -> None:
        write(beside)
        beside.chmod(0o600)

    try:
        _make(path.parent)
        if not trusted(path.parent):
            return False
        atomic.sweep(path.parent)
        atomic.write_with(path, private)
    except (RunError, OSError):  # a cache is a courtesy
        return False
    return True


def write_text(path: Path, text: str) -> bool:
    """``store`` for a short text."""
    return store(path, lambda beside: _written(beside, text.encode("utf-8")))


def read_text(path: Path) -> str | None:
    """A short text; None where it is missing or cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def trusted(path: Path) -> bool:
    """Whether nobody but this user (or root) can have written a file or folder: it, and those above up to the cache's.

    Links are not followed. What is executed is taken from the cache only where this is so.
    """
    top = folder()
    if top is None or top not in (path, *path.parents):
        return False
    owners = {os.geteuid(), 0}
    for item in (path, *path.parents):
        try:
            result = item.lstat()
        except OSError:
            return False
        if (
            result.st_uid not in owners
            or result.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            or stat.S_ISLNK(result.st_mode)
        ):
            return False
        if item == top:
            return True
    return False


def digest_file(path: Path) -> Path:
    """The file beside that holds the SHA-256 of ``path``."""
    return path.with_name(path.name + ".sha256")


def keep_digest(path: Path) -> bool:
    """Note the SHA-256 of a file beside it; whether that could be done."""
    try:
        return write_text(digest_file(path), _sha256(path))
    except OSError:
        return False


def whole(path: Path) -> bool:
    """Whether a file is the one that ``keep_digest`` noted."""
    try:
        return read_text(digest_file(path)) == _sha256(path)
    except OSError:
        return False


def _sha256(path: Path) -> str:
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _make(wanted: Path) -> None:
    top = folder()
    if top is not None:
        top.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            top.mkdir(mode=0o700)
    wanted.mkdir(mode=0o700, parents=True, exist_ok=True)


def _written(path: Path, content: bytes) -> None:
    path.write_bytes(content)
