"""Columns that are inputs by themselves: which they are, how their cells are read, which give the target away."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pytest

from rebus.data.kinds import infer
from rebus.data.splits import assign_splits
from rebus.data.table import Table
from rebus.data.tabular import TabularColumns, given_away, tabular_columns
from rebus.data.tabular_cells import CellReading, as_date, reading_of, unit_of
from rebus.errors import DataError
from rebus.recipe import Data, Split, TaskSettings

TASK = TaskSettings(name="classify", columns={"label": "label"})


def columns_of(rows: list[dict[str, Any]], **data: Any) -> TabularColumns:
    table, settings = Table.from_rows(rows), Data(**data)
    return tabular_columns(table, infer(table, settings.kinds, ["classify"]).kinds, [TASK], settings)


def patients(count: int = 120) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {
            "patient_id": f"P{i:04d}",
            "number": 20_000 + 3 * i,
            "age": int(rng.integers(20, 80)),
            "weight": f"{rng.uniform(40, 90):.1f} kg",
            "share": f"{rng.uniform(0, 100):.0f}%",
            "cost": f"1,{rng.integers(100, 999)}.50",
            "smoker": bool(rng.integers(2)),
            "site": "abc"[rng.integers(3)],
            "zip": f"0{rng.integers(1, 9)}123",
            "seen": f"{rng.integers(13, 28)}/{rng.integers(1, 12)}/2024",
            "type": ("mono", "poly")[rng.integers(2)],
            "hospital": "A",
            "remark": f"words about row {i} that never come back",
            "photo_path": f"photos/{i}",
            "split": "train",
            "label": ("sick", "well")[i % 2],
        }
        for i in range(count)
    ]


def test_ids_paths_splits_and_constants_are_left_out_with_the_reason() -> None:
    chosen = columns_of(patients())
    assert {name: reading.kind for name, reading in chosen.readings.items()} == {
        "age": "number",
        "weight": "number",
        "share": "number",
        "cost": "number",
        "smoker": "category",
        "site": "category",
        "zip": "category",
        "seen": "date",
        "type": "category",
    }
    assert chosen.left_out == {
        "patient_id": "its name says that it tells rows apart",
        "number": "all different",
        "hospital": "every row holds the same",
        "remark": "free text",
        "photo_path": "its name says that it tells rows apart",
        "split": "it deals the rows",
    }
    assert "weight (number, kg)" in chosen.notes[0]
    assert "number (all different)" in chosen.notes[1]


def test_ignored_and_named_columns() -> None:
    chosen = columns_of(patients(), ignore=["age", "site"])
    assert "age" not in chosen.readings
    assert chosen.left_out["site"] == "as you said"
    named = columns_of(patients(), inputs={"tabular": ["number", "age"]})
    assert list(named.readings) == ["number", "age"]
    with pytest.raises(DataError, match="'agge'"):
        columns_of(patients(), ignore=["agge"])
    with pytest.raises(DataError, match="columns that no task reads"):
        columns_of(patients(), inputs={"tabular": ["label"]})


@pytest.mark.parametrize(
    ("cell", "order", "date"),
    [
        ("2024-12-31", "ymd", datetime(2024, 12, 31)),
        ("31.12.2024 23:59", "dmy", datetime(2024, 12, 31, 23, 59)),
        ("1/2/2024", "dmy", datetime(2024, 2, 1)),
        ("1/2/2024", "mdy", datetime(2024, 1, 2)),
        ("12/31/24, 5:06 PM", "mdy", datetime(2024, 12, 31, 17, 6)),
        ("2024年5月1日", "ymd", datetime(2024, 5, 1)),
        ("Dec 31, 2024", "ymd", datetime(2024, 12, 31)),
        ("31-Dec-2024", "ymd", datetime(2024, 12, 31)),
        ("2024-12-31T10:00:00Z", "ymd", datetime(2024, 12, 31, 10)),
        ("2024-13-41", "ymd", None),
        ("Foo 31, 2024", "ymd", None),
    ],
)
def test_dates(cell: str, order: Any, date: datetime | None) -> None:
    assert as_date(cell, order) == date


def test_a_cell_settles_the_order_of_days_and_months() -> None:
    assert reading_of(["1/2/2024", "13/4/2024"], "date").order == "dmy"
    assert reading_of(["1/2/2024", "4/13/2024"], "date").order == "mdy"
    assert not reading_of(["1/2/2024", "3/4/2024"], "date").sure
    rows = [{"day": f"{1 + i % 9}/{1 + i % 7}/2024", "label": "ab"[i % 2]} for i in range(63)]
    assert "begins with the day or the month" in columns_of(rows).warnings[0]


def test_units_and_decimal_marks() -> None:
    assert (unit_of(["12 kg", "13.5 kg"]), unit_of(["5cm", "6cm"]), unit_of(["12", "13"])) == ("kg", "cm", None)
    reading = reading_of(["1.200,5 kg", "13,5 kg"], "number")
    assert (reading.read("1.200,5 kg"), reading.read("7,5"), reading.read("NA")) == (1200.5, 7.5, None)
    assert CellReading("number").read("true") == 1.0


def test_a_copy_a_recoding_and_a_threshold_give_the_target_away() -> None:
    rng = np.random.default_rng(1)
    rows = [
        {
            "score": float(score),
            "code": int(score > 0.5) + 7,
            "noise": float(rng.random()),
            "site": "abc"[i % 3],
            "label": "ny"[int(score > 0.5)],
        }
        for i, score in enumerate(rng.random(100))
    ]
    table, chosen = Table.from_rows(rows), columns_of(rows)
    warned = [line.split("'")[1] for line in given_away(table, chosen, [TASK])]
    assert warned == ["score", "code"]
    number = TaskSettings(name="regress", columns={"target": "goal"})
    rows = [
        {"celsius": float(x), "fahrenheit": 1.8 * x + 32, "other": float(y), "goal": float(x)}
        for x, y in rng.random((60, 2))
    ]
    table = Table.from_rows(rows)
    chosen = tabular_columns(table, infer(table).kinds, [number], Data())
    assert [line.split("'")[1] for line in given_away(table, chosen, [number])] == ["celsius", "fahrenheit"]


def test_rows_that_share_a_class_alone_are_dealt_apart() -> None:
    rows = [{"a": float(i), "b": float(i * i), "species": "xyz"[i % 3]} for i in range(300)]
    names = assign_splits(Table.from_rows(rows), Split(), [])
    assert {row["species"] for row, name in zip(rows, names, strict=True) if name == "train"} == set("xyz")
    assert 10 <= names.count("test") <= 60
