"""A terminal or pipe that is not UTF-8: what it cannot show is written in ASCII; files are UTF-8 always."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rebus.cli import main
from rebus.cli.streams import write_what_can_be

ROWS = ["文字,标签", *(f"这是第 {i} 个 “例子” — 😀…,{'好' if i % 2 else '坏'}" for i in range(20))]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "表.csv"
    path.write_text("\n".join(ROWS) + "\n", encoding="utf-8")
    return path


def run(monkeypatch: pytest.MonkeyPatch, encoding: str, *words: str) -> tuple[object, str, str]:
    """Exit status, standard output and error of the command on streams in an encoding."""
    out, err = io.BytesIO(), io.BytesIO()
    monkeypatch.setattr(sys, "argv", ["rebus", *words])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding=encoding))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(err, encoding=encoding))
    with pytest.raises(SystemExit) as ended:
        main()
    sys.stdout.flush()
    sys.stderr.flush()
    return ended.value.code, out.getvalue().decode(encoding), err.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437", "gbk", "utf-8"])
def test_the_check_is_printed_everywhere_and_its_file_is_utf8(
    monkeypatch: pytest.MonkeyPatch, table: Path, encoding: str
) -> None:
    code, out, err = run(monkeypatch, encoding, "data", "check", str(table), "--json", str(table.parent / "check.json"))
    assert code in (0, None)
    assert "Traceback" not in out + err
    assert ("文字" if encoding in ("gbk", "utf-8") else "\\u6587\\u5b57") in out
    assert "文字" in json.loads((table.parent / "check.json").read_text(encoding="utf-8"))["columns"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize(
    "words", [["--help"], ["train", "--help"], ["data", "check", "没有.csv"], ["evaluate", "没有"]]
)
def test_help_and_errors_are_printed_everywhere(
    monkeypatch: pytest.MonkeyPatch, encoding: str, words: list[str]
) -> None:
    code, out, err = run(monkeypatch, encoding, *words)
    assert code == (0 if "--help" in words else 2)
    assert "Traceback" not in out + err
    assert "--help" in words or "\\u6ca1\\u6709" in err


def test_a_file_name_that_is_no_text_can_be_named_in_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, _, err = run(monkeypatch, "utf-8", "data", "check", os.fsdecode(bytes(tmp_path) + b"/caf\xe9.csv"))
    assert code == 2
    assert "caf\\udce9.csv" in err


def test_what_json_says_stays_json(monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="ascii"))
    write_what_can_be()
    print(json.dumps({"text": "“é” 😀 …"}, ensure_ascii=False), flush=True)
    assert json.loads(content.getvalue()) == {"text": "''é'' 😀 ..."}


@pytest.mark.slow
def test_a_process_of_its_own_in_the_c_locale(table: Path) -> None:
    environment = {
        **os.environ,
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONIOENCODING": "ascii",
        "PYTHONCOERCECLOCALE": "0",
    }
    done = subprocess.run(
        [sys.executable, "-m", "rebus", "data", "check", table], capture_output=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert b"\\u6587\\u5b57" in done.stdout
    assert b"Traceback" not in done.stderr
