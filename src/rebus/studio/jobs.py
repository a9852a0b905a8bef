"""Training as a process of its own: it outlives the page and the Studio, and is stopped by the signal that saves.

A Run belongs to one trainer at a time. The process holds ``.studio.lock`` in the Run for as long as it lives, so that a
second Studio is told, even while the table is still being read; from the first step on it holds ``.lock`` as well, as
every training does.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rebus import atomic
from rebus.checkpoints.run_folder import Run
from rebus.data.image_sources import INSIDE
from rebus.errors import DataError, RebusError, RunError, StudioError

State = Literal["running", "stopped", "finished", "failed", "none"]
LOG, LOCK = "train.log", ".studio.lock"
_TOLD = re.compile(
    r"Error: (?P<where>.*?): expected (?P<expected>.*?); found (?P<found>.*?)\. What to do: (?P<do>.*)", re.S
)
_TAIL = 20_000  # bytes of the log that are read


@dataclass(frozen=True)
class Job:
    """What is known of a Run's training.

    Attributes:
        state: running; stopped, with something to go on from; finished; failed; none: nothing was begun.
        owner: the process that trains.
        log: the last lines it printed.
        error: why it failed.
    """

    state: State
    owner: int | None = None
    log: str = ""
    error: RebusError | None = None


def start(
    folder: Path, data: Path, words: Sequence[str] = (), *, bring: bool = False, inside: Sequence[Path] = ()
) -> None:
    """Begin ``rebus train DATA --out folder``.

    Args:
        folder: the Run, new or empty.
        data: the table.
        words: more of the command line.
        bring: copy the table into the Run first, because where it is now it will not stay.
        inside: folders besides the table's that images may lie in; none: anywhere.

    Raises:
        StudioError: the folder holds a Run, another process trains into it. RunError: it cannot be written.
    """
    if (folder / "recipe.yaml").exists():
        raise StudioError.of("problem.is_a_run", folder=str(folder))
    held = _hold(folder)
    try:
        if bring:
            data = _brought(data, folder)
        _begin(folder, ["train", str(data), "--out", str(folder), *words], held, inside)
    finally:
        os.close(held)


def resume(folder: Path, *, inside: Sequence[Path] = ()) -> None:
    """Begin ``rebus train --resume folder``; ``inside`` as for ``start``.

    Raises:
        StudioError: as ``start``; or there is nothing to go on with.
    """
    if not (folder / "recipe.yaml").exists():
        raise StudioError.of("problem.not_begun", folder=str(folder))
    if Run(folder).finished:
        raise StudioError.of("problem.is_finished", folder=str(folder))
    held = _hold(folder)
    try:
        _begin(folder, ["train", "--resume", str(folder)], held, inside)
    finally:
        os.close(held)


def stop(folder: Path) -> None:
    """Ask the training to save and end. Raises StudioError where none runs here."""
    owner = trainer(folder)
    if owner is None:
        raise StudioError.of("problem.none_runs", folder=str(folder))
    try:
        os.kill(owner, signal.SIGINT)
    except (ProcessLookupError, PermissionError) as error:
        raise StudioError.of("problem.cannot_stop", folder=str(folder), owner=str(owner)) from error


def look(folder: Path) -> Job:
    """How a Run's training is."""
    if not folder.is_dir():
        return Job("none")
    owner, log = trainer(folder), _tail(folder / LOG)
    if owner is not None:
        return Job("running", owner, log)
    if Run(folder).finished:
        return Job("finished", None, log)
    error = told(log)
    if error is not None:
        return Job("failed", None, log, error)
    if "Traceback (most recent call last)" in log:
        do = f"read {folder / LOG}, and report it with the output of `rebus doctor`"
        return Job("failed", None, log, RunError(folder, "a training that ends by itself", "a defect of Rebus", do))
    begun = (folder / "recipe.yaml").exists()
    return Job("stopped" if begun else "none", None, log)


def told(log: str) -> RebusError | None:
    """The last error that a command printed, in its four parts."""
    result = list(_TOLD.finditer(log))
    if not result:
        return None
    return RebusError(**{name: " ".join(text.split()) for name, text in result[-1].groupdict().items()})


def trainer(folder: Path) -> int | None:
    """The process that trains into a folder; None: none does."""
    for name in (LOCK, ".lock"):
        with contextlib.suppress(OSError, ValueError), open(folder / name, "rb") as file:
            owner = int(file.read(32) or b"0")
            if owner and _alive(owner) and _held(file.fileno()):
                return owner
    return None


def _hold(folder: Path) -> int:
    """The Run's lock, open and held. Raises RunError."""
    owner = trainer(folder)
    if owner is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise atomic.explained(folder, error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
        else:
            return handle
    raise StudioError.of("problem.is_trained", folder=str(folder), owner=str(owner or "?"))


def _begin(folder: Path, words: Sequence[str], held: int, inside: Sequence[Path] = ()) -> None:
    try:
        with open(folder / LOG, "wb") as log:
            process = subprocess.Popen(  # noqa: S603 - our own command, its words given as a list
                [sys.executable, "-m", "rebus", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the Studio's terminal is not meant for it
                pass_fds=[held],  # the lock lives as long as the process
                env=environment(inside),
            )
        os.ftruncate(held, 0)
        os.pwrite(held, f"{process.pid}\n".encode("ascii"), 0)
    except OSError as error:
        raise atomic.explained(folder, error) from error
    threading.Thread(target=process.wait, daemon=True, name="rebus-train").start()  # nobody stays a zombie


def environment(inside: Sequence[Path]) -> dict[str, str]:
    """The environment of a command that the Studio begins; ``inside`` as for ``start``."""
    folders = {INSIDE: os.pathsep.join(map(str, inside))} if inside else {}
    return {**os.environ, "NO_COLOR": "1", "COLUMNS": "160", "PYTHONIOENCODING": "utf-8", **folders}


def _brought(data: Path, folder: Path) -> Path:
    target = folder / "data" / data.name
    if not data.is_file():
        raise DataError(data, "a file", "none", "drop the table again")

    def copied(beside: Path) -> None:
        shutil.copyfile(data, beside)

    atomic.write_with(target, copied)
    return target


def _alive(owner: int) -> bool:
    try:
        os.kill(owner, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _held(handle: int) -> bool:
    """Whether somebody has the lock. It is only tried where its owner lives, so that no owner is kept from it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(handle, fcntl.LOCK_UN)
    return False


def _tail(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
