"""Write docs/INTEROP.md: what of other libraries Rebus opens, and what of Rebus they open, each case tried just now.

Run it from the root of the project: ``python scripts/interop_table.py``. ``tests/formats/test_interop.py`` holds the
file's rows against the same cases.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "docs" / "INTEROP.md"
EQUAL = 1e-4  # of numbers around 1, in float32
HEAD = """# Interoperability

Written by `python scripts/interop_table.py`, which makes each checkpoint with the other library (transformers, peft,
sentence-transformers, gguf; tiny random weights), opens it here, or the other way round, and compares logits, scores or
vectors. *Equal*: they differ by less than 0.0001. *Refused*: an error says why, and nothing is opened. A test runs the
same cases and fails where a row of this table is no longer true.

| Case | Direction | Result | Largest difference |
|---|---|---|---|
"""


def outcomes(direction: str) -> dict[str, tuple[str, float]]:
    """Case: (``equal``, ``refused`` or ``different``, the largest difference)."""
    from rebus.errors import RebusError

    found: dict[str, tuple[str, float]] = {}
    for name, case in importlib.import_module(f"interop_{direction}").CASES.items():
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            try:
                far = case(Path(folder))
                found[name] = ("equal" if far < EQUAL else "different", far)
            except RebusError:
                found[name] = ("refused", 0.0)
    return found


def directions() -> list[str]:
    """Those that there are cases for."""
    return [one for one in ("in", "out") if find_spec(f"interop_{one}") is not None]


def main() -> None:
    sys.path[:0] = [str(ROOT / "tests")]
    warnings.simplefilter("ignore")
    rows = [
        f"| {name} | {direction} | {result} | {f'{far:.0e}' if result != 'refused' else ''} |"
        for direction in directions()
        for name, (result, far) in outcomes(direction).items()
    ]
    FILE.write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")
    print(f"{FILE}: {len(rows)} rows")


if __name__ == "__main__":
    main()
