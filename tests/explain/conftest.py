"""The matrix's table and recipes, for explanations of every task with every fusion."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))  # for test_matrix.py, whose parts are used here

sys.path.insert(0, str(Path(__file__).parent))  # for makers.py

from test_matrix import table  # noqa: F401 - a fixture
