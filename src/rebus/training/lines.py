"""Files that grow line by line, and the lock that keeps a second process out of a run. Knows no format."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rebus import atomic
from rebus.errors import RunError


def append_line(path: Path, text: str, *, sync: bool = False) -> None:
    """Add a line to a file; with ``sync`` it is on disk when this returns.

    Raises:
        RunError: the disk is full, or the file cannot be written.
    """
    try:
        with open(path, "ab") as file:
            file.write(text.encode("utf-8") + b"\n")
            file.flush()
            if sync:
                os.fsync(file.fileno())
    except OSError as error:
        raise atomic.explained(path, error) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Within this context no other process trains into ``folder``; a process that dies lets go of it.

    Raises:
        RunError: another process has it, or the folder cannot be written.
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise atomic.explained(path, error) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
            raise RunError(
                where=folder,
                expected="a run that no other process is training",
                found=f"that process {owner or 'unknown'} is training it",
                do="wait for it, stop it, or choose another folder with --out",
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode("ascii"), 0)
        yield
    finally:
        with contextlib.suppress(OSError):
            os.close(handle)
