"""The cache folder: where it is, who may have written it, what of it is whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rebus import cache
from rebus.cli.app import app


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "rebus"


def test_a_relative_place_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.file("a") == tmp_path / "home" / ".cache" / "rebus" / "a"
    monkeypatch.setenv("HOME", "also/relative")
    assert cache.file("a") is None


def test_without_a_home_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: object = None) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    assert cache.folder() is None
    assert cache.file("a") is None


def test_what_is_stored_is_private_whole_and_trusted(folder: Path) -> None:
    path = folder / "deep" / "file"
    os.umask(before := os.umask(0))
    assert cache.write_text(path, "content")
    assert (cache.read_text(path), os.umask(before)) == ("content", before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == folder.stat().st_mode & 0o777 == 0o700
    assert cache.trusted(path)
    assert not cache.whole(path)
    assert cache.keep_digest(path)
    assert cache.whole(path)
    path.write_text("kontent")
    assert not cache.whole(path)


@pytest.mark.parametrize(
    "harm", ["file", "between", "folder", "link", "linked folder", "foreign", "outside", "missing"]
)
def test_what_others_may_have_written_is_not_trusted(folder: Path, tmp_path: Path, harm: str) -> None:
    path = folder / "deep" / "file"
    cache.write_text(path, "content")
    if harm == "file":
        path.chmod(0o620)
    elif harm == "between":
        path.parent.chmod(0o702)
    elif harm == "folder":
        folder.chmod(0o770)
    elif harm == "link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    elif harm == "linked folder":
        path.parent.rename(tmp_path / "elsewhere")
        path.parent.symlink_to(tmp_path / "elsewhere")
    elif harm == "foreign":
        if os.geteuid() != 0:
            pytest.skip("giving a file away needs root")
        os.chown(path, 12345, 12345)
    elif harm == "outside":
        path = tmp_path / "file"
        path.write_text("content")
    else:
        path.unlink()
    assert not cache.trusted(path)


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rebus").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert not cache.write_text(tmp_path / "rebus" / "a", "content")
    assert cache.read_text(tmp_path / "rebus" / "a") is None


@pytest.mark.slow
def test_a_user_without_a_name_or_a_home_can_train(tmp_path: Path) -> None:
    lines = [f"film {number} was {'good,1' if number % 2 else 'bad,0'}" for number in range(24)]
    (tmp_path / "table.csv").write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    code = (
        "import os, pwd, sys\n"
        "def nobody(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = nobody\n"
        "for name in ('HOME', 'USER', 'LOGNAME', 'LNAME', 'USERNAME', 'XDG_CACHE_HOME'): os.environ.pop(name, None)\n"
        "from rebus.cli import main\n"
        "sys.argv = ['rebus', 'train', 'table.csv', '--out', 'run', '--quiet', '--set', 'train.steps=2',\n"
        "    *(f'--set=model.text.{name}' for name in ('width=16', 'depth=1', 'heads=2'))]\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "digests.json").exists()


def test_a_path_below_an_unknown_users_home_is_said(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["data", "check", "~nobody-has-this-name/table.csv"])
    assert done.exit_code == 2
    assert "Traceback" not in done.output
