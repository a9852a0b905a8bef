"""The example notebook runs from top to bottom, with a training of a few steps, and a Run shows itself in it."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"
TINY = [
    "train.steps=3",
    "train.batch_size=8",
    "train.valid_rows=4",
    "picture.size=48",
    "text.vocab_size=300",
    "model.picture.width=24",
    "model.text.width=24",
    "model.text.heads=2",
    "model.text.depth=1",
]


def test_it_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert [cell for cell in notebook.cells if cell.get("outputs")] == []


@pytest.mark.slow
def test_it_runs(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    parameters = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(parameters) == 1
    parameters[0].source = f"SCENES = 16\nSETTINGS = {TINY!r}"
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=200, kernel_name="python3", resources=where).execute()
    outputs = {cell.source.split("\n")[0]: cell.outputs for cell in notebook.cells if cell.get("outputs")}
    assert "<table>" in outputs["run"][0]["data"]["text/html"]
    answers = next(found for source, found in outputs.items() if source.startswith("for question"))
    assert len("".join(part["text"] for part in answers).splitlines()) == 3
