"""The example notebooks run from top to bottom, with trainings of a few steps, and a Run shows itself in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[2] / "examples"
TINY = [
    "train.steps=3",
    "train.batch_size=8",
    "train.valid_rows=4",
    "image.size=48",
    "text.vocab_size=300",
    "model.image.width=24",
    "model.text.width=24",
    "model.text.heads=2",
    "model.text.depth=1",
]


LANGUAGE = ["train.steps=3", "model.size=nano", "text.vocab_size=512", "corpus.block=64", "train.batch_size=4"]


def cells_run(name: str, parameters: str, where: Path) -> dict[str, list[Any]]:
    """A notebook's outputs by the first line of each cell, run with these parameters in this folder."""
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    tagged[0].source = parameters
    resources = {"metadata": {"path": str(where)}}
    NotebookClient(notebook, timeout=200, kernel_name="python3", resources=resources).execute()
    return {cell.source.split("\n")[0]: cell.outputs for cell in notebook.cells if cell.get("outputs")}


def printed(outputs: list[Any]) -> str:
    return "".join(part["text"] for part in outputs if part["output_type"] == "stream" and part["name"] == "stdout")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_it_is_kept_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert [cell for cell in notebook.cells if cell.get("outputs")] == []


@pytest.mark.slow
def test_the_quick_start_runs(tmp_path: Path) -> None:
    outputs = cells_run("quickstart.ipynb", f"SCENES = 16\nSETTINGS = {TINY!r}", tmp_path)
    assert "<table>" in outputs["run"][0]["data"]["text/html"]
    answers = next(found for source, found in outputs.items() if source.startswith("for question"))
    assert len(printed(answers).splitlines()) == 3


@pytest.mark.slow
def test_the_language_notebook_runs(tmp_path: Path) -> None:
    classify = [word for word in TINY if not word.startswith("image.")]
    outputs = cells_run("language.ipynb", f"PRETRAIN = {LANGUAGE!r}\nCLASSIFY = {classify!r}", tmp_path)
    assert "bits_per_byte" in outputs["run"][0]["data"]["text/html"]
    sorter = next(found for source, found in outputs.items() if source.startswith("sorter ="))
    assert "accuracy" in sorter[-1]["data"]["text/html"]
    answers = next(found for source, found in outputs.items() if source.startswith("reader ="))
    assert len(printed(answers).splitlines()) == 2
