"""A file appears whole or not at all: the disk full, the folder read-only, the process killed in between."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rebus import atomic
from rebus.errors import RunError


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "名字.json"
    atomic.write_json(path, {"答": [1, 2]})
    assert path.read_text(encoding="utf-8") == '{\n  "答": [\n    1,\n    2\n  ]\n}\n'
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "disk is full"),
        (errno.EACCES, "permissions"),
        (errno.EROFS, "permissions"),
        (errno.EIO, "try again"),
    ],
)
def test_a_failed_write_is_told_and_leaves_the_earlier_file(tmp_path: Path, number: int, hint: str) -> None:
    path = tmp_path / "weights"
    atomic.write_text(path, "earlier")

    def write(beside: Path) -> None:
        beside.write_bytes(b"half")
        raise OSError(number, os.strerror(number))

    with pytest.raises(RunError) as caught:
        atomic.write_with(path, write)
    assert hint in str(caught.value)
    assert str(path) in caught.value.where
    assert path.read_text() == "earlier"
    assert os.listdir(tmp_path) == ["weights"]


def test_a_full_disk_at_fsync_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights"
    atomic.write_text(path, "earlier")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(RunError, match="disk is full"):
        atomic.write_text(path, "later")
    assert path.read_text() == "earlier"
    assert os.listdir(tmp_path) == ["weights"]


def test_a_file_where_a_folder_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(RunError, match="What to do"):
        atomic.write_text(tmp_path / "run" / "recipe.yaml", "x")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_folder_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match="permissions"):
        atomic.write_text(tmp_path / "x", "x")
    tmp_path.chmod(0o700)


KILLED_IN_BETWEEN = """
import os, signal, sys
from pathlib import Path
from rebus import atomic
moment, path = sys.argv[1], Path(sys.argv[2])
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
def write(beside):
    beside.write_text("later")
    if moment == "while writing": die()
if moment == "before the rename": atomic.os.replace = die
if moment == "after the rename": atomic.sync_folder = die
atomic.write_with(path, write)
"""


@pytest.mark.parametrize(
    ("moment", "content"),
    [("while writing", "earlier"), ("before the rename", "earlier"), ("after the rename", "later")],
)
def test_a_kill_leaves_the_earlier_file_or_the_later_one(tmp_path: Path, moment: str, content: str) -> None:
    path = tmp_path / "weights"
    atomic.write_text(path, "earlier")
    done = subprocess.run([sys.executable, "-c", KILLED_IN_BETWEEN, moment, str(path)])
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == content
    atomic.write_text(path, "again")  # and what it left behind is in nobody's way
    assert path.read_text() == "again"
