"""A run with its report reads its table once and loads no weights: both are in memory."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

import rebus
from rebus.checkpoints import save_load
from rebus.data import readers
from rebus.recipe import Recipe
from tiny_tables import write_images

SETTINGS = {
    "image.size": 32,
    "model.image": {"kind": "convnet", "width": 16, "depth": 1, "heads": 2, "patch": 8},
    "model.fusion.heads": 2,
    "train.batch_size": 8,
    "train.steps": 3,
    "train.precision": "fp32",
}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    names = [f"images/{number}.png" for number in range(30)]
    write_images(tmp_path, *names)
    with open(tmp_path / "table.csv", "w", newline="", encoding="utf-8") as file:
        rows = [[name, ("train", "valid", "test")[place % 3], "ab"[place % 2]] for place, name in enumerate(names)]
        csv.writer(file).writerows([["image", "split", "label"], *rows])
    return tmp_path / "table.csv"


def counted(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[Any]:
    calls, function = [], getattr(module, name)

    def counting(*given: Any, **named: Any) -> Any:
        calls.append(given)
        return function(*given, **named)

    monkeypatch.setattr(module, name, counting)
    return calls


def test_the_table_is_read_once_and_no_weights_are_loaded(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, loads = counted(monkeypatch, readers, "_read_table"), counted(monkeypatch, save_load, "filled_model")
    recipe = Recipe()
    run = rebus.train(table, task="classify", recipe=recipe, out=tmp_path / "run", settings=SETTINGS, quiet=True)
    assert len(reads) == 1
    assert not loads
    assert recipe == Recipe()
    rebus.load(run.folder)
    assert len(loads) == 1
    reported = (run.folder / "report.html").read_text(encoding="utf-8")
    rebus.api.write_report(run.folder)
    assert (len(reads), len(loads)) == (2, 2)
    assert _figures(run.report_path.read_text(encoding="utf-8")) == _figures(reported)


def _figures(page: str) -> list[str]:
    """Its cells."""
    return [part.partition("</td>")[0] for part in page.split("<td")[1:]]
