"""Lines of JSON are divided at line feeds only, everywhere."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from rebus.checkpoints.run_folder import Run
from rebus.data.readers import read_table
from rebus.jsonl import json_lines
from rebus.loop.events import read_metrics
from rebus.recipe import Data
from rebus.studio.watching import metrics

ROOT = Path(__file__).parents[2]
BREAKS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"
OTHERS = {  # files that divide other texts into lines: /proc, a log, settings that were typed, a text to be measured
    "src/rebus/generation/decoders/compiled.py": 1,
    "src/rebus/training/hardware.py": 1,
    "src/rebus/studio/train.py": 3,
    "src/rebus/studio/watching.py": 1,
    "src/rebus/text/measures.py": 1,
}


def calls(path: Path) -> int:
    """How often a source file calls ``splitlines`` or ``readlines``."""
    text = path.read_text(encoding="utf-8")
    if "splitlines" not in text and "readlines" not in text:
        return 0
    tree = ast.parse(text)
    return sum(isinstance(node, ast.Attribute) and node.attr in ("splitlines", "readlines") for node in ast.walk(tree))


def test_no_other_source_divides_at_every_line_break() -> None:
    found = {path.relative_to(ROOT).as_posix(): calls(path) for path in sorted((ROOT / "src").rglob("*.py"))}
    told = "divide JSON lines with rebus.jsonl.json_lines; list other texts in OTHERS"
    assert {name: count for name, count in found.items() if count} == OTHERS, told


def test_lines_keep_every_other_break() -> None:
    rows = [{"text": f"a{mark}b"} for mark in BREAKS]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    assert [json.loads(line) for _, line in json_lines(text)] == rows
    assert list(json_lines("\ufeff{}\r\n\n \ufeff[1]")) == [(1, "{}"), (3, "[1]")]


def test_tables_and_metrics_with_such_texts(tmp_path: Path) -> None:
    text = f"one{BREAKS}two"
    rows = [{"text": f"{text} {i}", "label": "x" if i % 2 else "y"} for i in range(4)]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8", newline="")
    assert list(read_table(Data(path=str(path)))) == rows
    (tmp_path / "metrics.jsonl").write_text(
        "".join(json.dumps({"kind": "sample", "step": i, "text": text}, ensure_ascii=False) + "\n" for i in range(3)),
        encoding="utf-8",
    )
    for read in (read_metrics, metrics, lambda folder: Run(folder).metrics()):
        assert [line["text"] for line in read(tmp_path)] == [text] * 3


@pytest.mark.parametrize("mark", BREAKS)
def test_each_break_alone(mark: str) -> None:
    assert [line for _, line in json_lines(f'{{"a": "{mark}"}}\n')] == [f'{{"a": "{mark}"}}']
