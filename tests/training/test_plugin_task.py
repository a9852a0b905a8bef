"""A task of another package: its columns are guessed, it is trained, asked and explained."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import rebus
from rebus.data.kinds import infer
from rebus.data.table import Table
from rebus.tasks import TASKS

SOURCE = '''
from typing import Any, ClassVar

import numpy as np
import torch
from rebus.data.declared import Role
from rebus.models.heads import HeadSpec
from rebus.tasks.base import Prediction, VectorTask
from rebus.tasks.metrics.intervals import Statistic


class Pair(VectorTask):
    """Two numbers a row: low and high."""

    name = "pair"
    watch = "error"
    higher_is_better = False
    roles: ClassVar[dict[str, Role]] = {
        "text": Role(("text",)),
        "low": Role(("number",)),
        "high": Role(("number",)),
    }
    inputs = ("text",)

    def head(self, codec):
        return HeadSpec("vector", 2, reads=self.reads())

    def output_names(self):
        return ["low", "high"]

    def target(self, values, row):
        return np.asarray([float(values["low"][row]), float(values["high"][row])], dtype=np.float32)

    def loss(self, outputs, part):
        return torch.nn.functional.mse_loss(outputs.float(), part["target"])

    def decode(self, outputs):
        return [Prediction([float(x) for x in row]) for row in outputs.float()]

    def statistics(self, values, rows, predictions):
        errors = self.right(values, rows, predictions)
        return {"error": lambda weights: (weights * errors).sum(1) / weights.sum(1)}

    def naive(self, values, rows, known, train_rows):
        mean = np.mean([self.target(known, row) for row in train_rows], axis=0)
        return [Prediction([float(x) for x in mean]) for _ in rows], "the mean"

    def right(self, values, rows, predictions):
        wanted = [self.target(values, row) for row in rows]
        return np.asarray([np.abs(np.asarray(p.value) - w).mean() for p, w in zip(predictions, wanted)])
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution that offers the task."""
    info = tmp_path / "pair_rebus-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pair-rebus\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[rebus.tasks]\npair = pair_rebus_plugin:Pair\n")
    (tmp_path / "pair_rebus_plugin.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(TASKS, "_loaded_plugins", False)
    monkeypatch.setattr(TASKS, "_items", dict(TASKS._items))
    yield
    sys.modules.pop("pair_rebus_plugin", None)


@pytest.mark.usefixtures("plugin")
def test_columns_are_guessed_from_what_the_task_declares() -> None:
    TASKS.get("pair")
    rows = [{"high": 2.5 + i, "note": f"some words here {i}", "low": 0.5 * i} for i in range(9)]
    assert infer(Table.from_rows(rows), tasks=["pair"]).tasks[0].columns == {
        "text": "note",
        "low": "low",
        "high": "high",
    }


@pytest.mark.usefixtures("plugin")
def test_it_is_trained_asked_and_explained(tmp_path: Path) -> None:
    rows = [
        {"note": f"{w} number {i}", "low": i % 7 - 0.5, "high": i % 5 + 0.25} for i in range(30) for w in ("a", "b")
    ]
    table = tmp_path / "t.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"train.steps": 3, "text.vocab_size": 300, "report.explained": 1}
    run = rebus.train(table, task="pair", settings=settings, out=tmp_path / "run", quiet=True)
    assert run.evaluation["tasks"]["pair"]["baseline_name"] == "the mean"
    model = rebus.load(run)
    assert len(model.predict({"note": "a number 3"})[0].value) == 2
    found = model.explain(text="a number 3", target="high", method="saliency")
    assert found.target == "output 'high' of pair"
    assert any(token.score for token in found.tokens)
    with pytest.raises(rebus.RebusError, match="did you mean 'high'"):
        model.explain(text="a number 3", target="hihg", method="saliency")


@pytest.mark.usefixtures("plugin")
def test_a_missing_column_is_named_by_its_role(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("note,low\n" + "".join(f"some words {i},{i}.5\n" for i in range(9)))
    found = rebus.check(table, task="pair")
    assert any("high" in str(error) for error in found.errors)
