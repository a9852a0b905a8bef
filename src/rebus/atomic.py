"""Files that appear whole or not at all: write beside, fsync, rename, fsync the folder."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rebus.errors import RunError

_BESIDE = re.compile(r"\..+\.(\d+)\.tmp", re.S)


def write_with(path: Path, write: Callable[[Path], None]) -> None:
    """Call ``write(temporary_path)`` and rename what it made to ``path`` once it is on disk.

    Raises:
        RunError: the disk is full, or the folder cannot be written. An earlier file at ``path`` is untouched.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(beside)
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
        sync_folder(path.parent)
    except OSError as error:
        raise explained(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # the reason is already being told
            beside.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all. Raises RunError as ``write_with`` does."""

    def write(beside: Path) -> None:
        beside.write_bytes(content)

    write_with(path, write)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 ``text`` to ``path``, whole or not at all. Raises RunError as ``write_with`` does."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all. Raises RunError as ``write_with`` does."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def sweep(folder: Path) -> None:
    """Remove what ``write_with`` left beside files, at any depth, in processes that were killed."""
    for path in folder.rglob(".*.tmp"):
        named = _BESIDE.fullmatch(path.name)
        if named and path.is_file() and not _alive(int(named[1])):
            with contextlib.suppress(OSError):
                path.unlink()


def _alive(process: int) -> bool:
    if process == os.getpid():
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def sync_folder(folder: Path) -> None:
    """Flush a folder's own entries, so that a rename survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:  # some network file systems refuse fsync on a folder
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def explained(path: Path, error: OSError) -> RunError:
    """What to tell a user about an error of the file system at ``path``."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError.of("problem.disk_full", where=str(path))
    refused = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    key = "problem.not_writable" if refused else "problem.not_written"
    return RunError.of(key, where=str(path), why=error.strerror or str(error))
