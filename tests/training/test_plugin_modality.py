"""A modality of another package goes through every verb: spectra, a cell of numbers between spaces."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import rebus
from rebus import api
from rebus.errors import DataError
from rebus.models.features import Features
from rebus.models.modalities import MODALITIES, Item, Modality
from rebus.models.towers import TOWERS, Tower
from rebus.models.towers.base import all_real
from rebus.recipe import OtherTower, kinds

FUSIONS = [
    ("joint", "concat"),
    ("joint", "mean"),
    ("joint", "weighted"),
    ("joint", "sum"),
    ("unified", ""),
    ("cross", ""),
]
SMALL = {
    "image.size": 16,
    "text.vocab_size": 300,
    "model.image.kind": "convnet",
    "model.image.width": 16,
    "model.image.depth": 1,
    "model.image.patch": 8,
    "model.image.heads": 2,
    "model.text.width": 16,
    "model.text.depth": 1,
    "model.text.heads": 2,
    "model.fusion.depth": 1,
    "model.fusion.heads": 2,
    "model.towers.spectrum.width": 16,
    "model.towers.spectrum.bands": 4,
    "train.steps": 40,
    "train.batch_size": 8,
    "train.lr": 0.01,
    "train.precision": "fp32",
}


class Spectrum(Modality):
    """Numbers at even distances, brought to the mean and spread of the training rows."""

    name = "spectrum"
    kinds = ("spectrum",)
    towers = ("bands",)
    files = False
    mean, spread, points = 0.0, 1.0, 0

    @classmethod
    def recognise(cls, name: str, cells: Sequence[Any]) -> float:
        return sum(isinstance(cell, str) and len(_numbers(cell)) > 4 for cell in cells) / max(len(cells), 1)

    def fit(self, values: Mapping[str, Sequence[Any]], rows: Sequence[int]) -> None:
        known = [_numbers(cell) for row in rows if (cell := values[self.columns[0]][row])]
        self.mean, self.spread = float(np.mean(known)), float(np.std(known))
        self.points = len(known[0])

    def state(self) -> dict[str, Any]:
        return {"mean": self.mean, "spread": self.spread, "points": self.points}

    def restore(self, state: dict[str, Any]) -> None:
        self.mean, self.spread, self.points = state["mean"], state["spread"], state["points"]

    def context(self) -> dict[str, Any]:
        return {"points": self.points}

    def item(self, cells: Mapping[str, Any], root: Path, where: str) -> Item | None:
        numbers = _numbers(cells[self.columns[0]])
        if len(numbers) != self.points:
            raise DataError(where, f"{self.points} numbers", f"{len(numbers)}", "write them all")
        return {"levels": ((np.asarray(numbers) - self.mean) / self.spread).astype(np.float32)}


class BandsSettings(OtherTower):
    bands: int = 2


class Bands(Tower):
    """Neighbouring numbers as tokens."""

    modality = "spectrum"
    own_settings = BandsSettings

    def __init__(self, settings: Any, *, points: int, **context: Any) -> None:
        super().__init__(settings)
        self.num_tokens = int(settings.bands)
        self.enter = nn.Linear(points // self.num_tokens, self.width)
        self.place = nn.Parameter(torch.randn(self.num_tokens, self.width) * 0.3)

    def forward(self, levels: Tensor) -> Features:
        tokens = self.enter(levels.view(len(levels), self.num_tokens, -1)) + self.place
        return all_real(torch.nn.functional.gelu(tokens))


def _numbers(cell: Any) -> list[float]:
    try:
        return [float(word) for word in str(cell).split()]
    except ValueError:
        return []


@pytest.fixture(scope="module", autouse=True)
def plugin() -> Iterator[None]:
    MODALITIES.register("spectrum")(Spectrum)
    TOWERS.register("bands")(Bands)
    yield
    del MODALITIES._items["spectrum"], TOWERS._items["bands"], kinds._modalities["spectrum"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Spectra whose peak says the class; images and texts that say nothing. Two rows have no spectrum."""
    place = tmp_path_factory.mktemp("spectra")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(48):
        right = number % 2
        levels = rng.normal(0.0, 0.1, 16)
        levels[10 if right else 3] += 3.0
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(place / f"{number}.png")
        spectrum = " ".join(f"{level:.3f}" for level in levels)
        rows.append(
            {
                "spectrum": None if number in (4, 9) else spectrum,
                "image": f"{number}.png",
                "text": f"sample {rng.integers(100)} of the day",
                "label": "late" if right else "early",
                "split": "test" if number >= 40 else "train",
            }
        )
    for name, columns in (("alone", ("spectrum", "label", "split")), ("all", tuple(rows[0]))):
        lines = [json.dumps({column: row[column] for column in columns}) for row in rows]
        (place / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return place


def test_alone_it_is_found_learned_saved_and_read_back(folder: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "train.steps": 150}
    run = rebus.train(folder / "alone.jsonl", out=tmp_path / "run", settings=settings, quiet=True)
    assert run.recipe.data.inputs == {"spectrum": ["spectrum"]}
    assert run.recipe.data.kinds["spectrum"] == "spectrum"
    assert run.recipe.tasks[0].name == "classify"
    assert run.evaluation["tasks"]["classify"]["metrics"]["accuracy"] == 1.0
    model = rebus.load(tmp_path / "run")
    levels = np.zeros(16)
    levels[10] = 3.0
    rows = [{"spectrum": " ".join(map(str, levels))}, {"spectrum": None}]
    told = model.predict(rows)
    assert told[0].value == "late"
    assert told[0].confidence is not None
    assert told[1].confidence is not None
    assert told[0].confidence > told[1].confidence
    again = api.evaluate(tmp_path / "run", folder / "alone.jsonl", split="test")
    assert again.tasks["classify"].metrics["accuracy"] == 1.0
    api.predict(tmp_path / "run", folder / "alone.jsonl", tmp_path / "told.jsonl", split="test", quiet=True)
    written = [json.loads(line) for line in (tmp_path / "told.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(written) == 8
    assert all(row["classify"] == row["label"] for row in written)
    with pytest.raises(DataError, match="16 numbers"):
        model.predict([{"spectrum": "1 2 3 4 5 6"}])


@pytest.mark.parametrize(("fusion", "how"), FUSIONS, ids=lambda one: one or "-")
def test_beside_image_and_text_every_fusion_joins_it(folder: Path, tmp_path: Path, fusion: str, how: str) -> None:
    settings = {**SMALL, "model.fusion.kind": fusion, "model.fusion.modality_dropout": 0.2}
    if how:
        settings["model.fusion.how"] = how
    run = rebus.train(folder / "all.jsonl", out=tmp_path / "run", settings=settings, quiet=True)
    assert run.recipe.data.inputs == {"spectrum": ["spectrum"]}
    model = rebus.load(tmp_path / "run")
    rows = [json.loads(line) for line in (folder / "all.jsonl").read_text(encoding="utf-8").splitlines()]
    told = model.predict(rows[40:], root=folder)
    assert sum(one.value == row["label"] for one, row in zip(told, rows[40:], strict=True)) >= 6
    without = model.predict([{**row, "spectrum": None} for row in rows[40:42]], root=folder)
    assert [one.scores for one in without] != [one.scores for one in told[:2]]


def test_a_spectrum_is_seen_by_what_writes(folder: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "tasks": [{"name": "caption", "columns": {"image": "image", "caption": "label"}}]}
    run = rebus.train(folder / "all.jsonl", out=tmp_path / "run", settings=settings, quiet=True)
    assert run.recipe.data.inputs["spectrum"] == ["spectrum"]
    assert torch.isfinite(torch.tensor(run.evaluation["tasks"]["caption"]["metrics"]["exact_match"]))
