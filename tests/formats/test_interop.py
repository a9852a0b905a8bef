"""docs/INTEROP.md says what is true: each case of the table is tried."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def table() -> ModuleType:
    """The script that writes the file."""
    spec = importlib.util.spec_from_file_location("interop_table", ROOT / "scripts" / "interop_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = table()
ROWS = {
    (cells[1], cells[0]): cells[2]
    for line in SCRIPT.FILE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 4
    if cells[1] in ("in", "out")
}


@pytest.mark.parametrize("direction", SCRIPT.directions())
@pytest.mark.filterwarnings("ignore")
def test_the_table_of_interoperability_is_true(direction: str) -> None:
    for library in ("peft", "gguf", "sentence_transformers"):
        pytest.importorskip(library)
    found = SCRIPT.outcomes(direction)
    assert "different" not in {result for result, _ in found.values()}
    assert {name: result for name, (result, _) in found.items()} == {
        name: result for (there, name), result in ROWS.items() if there == direction
    }
