"""The modality and the tower of columns: what cells become, what a model makes of them, what is saved."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rebus.models.modalities.tabular import FEATURES, MISSING, UNSEEN, TabularModality
from rebus.models.towers import TOWERS
from rebus.recipe import Data, OtherTower, Recipe

KINDS = {"age": "number", "site": "category", "seen": "date"}
ROWS: dict[str, list[Any]] = {
    "age": [float(i) for i in range(100)],
    "site": ["north", "south", "west", None] * 25,
    "seen": [f"2024-{1 + i % 12:02d}-{1 + i % 28:02d} {i % 24:02d}:30" for i in range(100)],
}


@pytest.fixture
def modality() -> TabularModality:
    made = TabularModality(Recipe(data=Data(kinds=KINDS)), list(KINDS))
    made.fit(ROWS, range(80))
    return made


def item(modality: TabularModality, **cells: Any) -> dict[str, Any]:
    made = modality.item(cells, Path(), "row 1")
    assert made is not None
    return made


def test_statistics_are_of_training_rows_and_are_kept(modality: TabularModality) -> None:
    assert modality.statistics["age"].mean == pytest.approx(39.5)
    other = TabularModality(Recipe(data=Data(kinds=KINDS)), list(KINDS))
    other.restore(json.loads(json.dumps(modality.state())))
    cells = {name: values[85] for name, values in ROWS.items()}
    for name, array in item(modality, **cells).items():
        np.testing.assert_array_equal(array, item(other, **cells)[name])
    assert other.context() == modality.context() == {"measured": 2, "features": FEATURES, "categories": (5,)}


def test_piecewise_linear_parts_rise_with_the_number_and_stop_at_its_ends(modality: TabularModality) -> None:
    parts = [item(modality, age=age)["values"][0, 1:] for age in (-1e9, 5, 40, 60, 1e9)]
    assert parts[0].sum() == 0
    assert all(a.sum() < b.sum() for a, b in itertools.pairwise(parts))
    assert np.isfinite(item(modality, age=float("inf"))["values"]).all()


def test_missing_and_unseen_values(modality: TabularModality) -> None:
    row = item(modality, age="no number", site="east", seen="2030-01-01")
    assert row["known"].tolist() == [False, True]
    assert row["codes"].tolist() == [UNSEEN]
    assert item(modality, age=1)["codes"].tolist() == [MISSING]
    assert modality.item({"age": None}, Path(), "row 1") is None


def test_parts_of_a_date_turn(modality: TabularModality) -> None:
    december, january = (item(modality, seen=f"{day} 00:00")["values"][1] for day in ("2024-12-31", "2025-01-01"))
    june = item(modality, seen="2024-06-15 12:00")["values"][1]
    month = slice(2, 4)
    assert np.abs(december[month] - january[month]).sum() < np.abs(december[month] - june[month]).sum()
    assert december[6:8].tolist() == january[6:8].tolist() != june[6:8].tolist()


def test_training_hides_some_values_by_the_key_alone(modality: TabularModality) -> None:
    row = item(modality, age=3.0, site="north", seen="2024-01-01")
    shown = [modality.augment(row, (0, 0, index)) for index in range(600)]
    hidden = sum(not made["known"].all() for made in shown)
    assert 5 < hidden < 60
    assert {int(made["codes"][0]) for made in shown} == {MISSING, UNSEEN, int(row["codes"][0])}
    again = modality.augment(row, (0, 0, 7))
    assert all((again[name] == shown[7][name]).all() for name in row)


def test_tower_has_a_token_a_column_and_every_parameter_learns(modality: TabularModality) -> None:
    tower = TOWERS.get("tabular")(OtherTower(kind="tabular", width=16, depth=1), **modality.context())
    rows = [item(modality, **{name: values[i] for name, values in ROWS.items()}) for i in range(8)]
    rows.append(item(modality, age=3.0))
    features = tower.encode(**modality.collate(rows))
    assert features.tokens.shape == (9, len(modality.tokens), 16)
    assert features.mask.all()
    (features.tokens.sum() + features.pooled.square().sum()).backward()
    assert all(parameter.grad is not None and torch.isfinite(parameter.grad).all() for parameter in tower.parameters())
