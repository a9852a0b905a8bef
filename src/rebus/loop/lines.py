"""Files that grow line by line, and the lock that keeps a second process out of a run. Knows no format."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rebus import atomic
from rebus.errors import RunError

LOCK = ".lock"
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW  # a link could name any file


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


@dataclass
class _Lock:
    handle: int
    thread: int


_held: dict[Path, _Lock] = {}  # by folder: the locks of this process


def _let_go() -> None:
    """A forked process closes what it inherited: a lock belongs to the process that took it, and ends with it."""
    for lock in _held.values():
        with contextlib.suppress(OSError):
            os.close(lock.handle)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


@contextmanager
def locked(folder: Path, *, wait: float = 0.0) -> Iterator[bool]:
    """Within this context no other process writes into ``folder``; a process that dies lets go of it.

    The thread that holds the lock may take it again; the context's value is whether it had not.

    Args:
        folder: made where it is missing.
        wait: seconds to wait for another process that has it.

    Raises:
        RunError: another process has it, or the folder cannot be written.
    """
    key = folder.resolve()
    mine = _held.get(key)
    if mine is not None and mine.thread == threading.get_ident():
        yield False
        return
    handle = _taken(folder, wait)
    _held[key] = _Lock(handle, threading.get_ident())
    try:
        yield True
    finally:
        if _held.pop(key, None) is not None:  # not in a process that was forked on the way
            with contextlib.suppress(OSError):
                if [entry.name for entry in os.scandir(folder)] == [LOCK]:  # nothing came of it
                    os.unlink(folder / LOCK)
                    os.rmdir(folder)
            with contextlib.suppress(OSError):
                os.close(handle)


def _taken(folder: Path, wait: float) -> int:
    """The open and locked file of a folder's lock. Raises RunError."""
    end = time.monotonic() + wait
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder / LOCK, _LOCK_FLAGS, 0o644)
        except FileNotFoundError:  # whoever had it has just removed the folder
            continue
        except OSError as error:
            raise atomic.explained(folder, error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_ino == os.stat(folder / LOCK).st_ino:
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"{os.getpid()}\n".encode("ascii"), 0)
                return handle
        except BlockingIOError as error:
            if time.monotonic() >= end:
                owner = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
                os.close(handle)
                raise RunError(
                    where=folder,
                    expected="a run that no other process is training",
                    found=f"that process {owner or 'unknown'} is training it or writing its report",
                    do="wait for it, stop it, or choose another folder with --out",
                ) from error
            time.sleep(0.05)
        except FileNotFoundError:
            pass
        except OSError as error:
            os.close(handle)
            raise atomic.explained(folder, error) from error
        os.close(handle)
