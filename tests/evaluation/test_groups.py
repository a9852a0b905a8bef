"""Figures for groups of rows: which columns make groups, and that each figure is that of the group's own rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rebus.data.readers import read_table
from rebus.data.table import Table
from rebus.errors import DataError
from rebus.evaluation.subgroups import FEW, LANGUAGE, group_columns, group_figures
from rebus.recipe import Data, Recipe, TaskSettings
from rebus.tasks import TASKS, Prediction, Task


def made(tmp_path: Path) -> tuple[Recipe, Task, Table, list[Prediction]]:
    rows = []
    for number in range(40):
        rows.append(
            {
                "question": "多少？" if number % 4 == 0 else "How many?",
                "answer": str(number % 2),
                "place": ["north", "south"][number < 10],
                "id": f"code {number}",
                "always": "x",
                "split": "test",
            }
        )
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    recipe = Recipe().replace(
        {
            "data": Data(path=str(path)),
            "tasks": [TaskSettings(name="answer", columns={"question": "question", "answer": "answer"})],
        }
    )
    task = TASKS.get("answer")(recipe.tasks[0])
    return recipe, task, read_table(recipe.data), [Prediction("0", 0.9) for _ in rows]


def test_each_figure_is_that_of_the_groups_rows(tmp_path: Path) -> None:
    recipe, task, table, told = made(tmp_path)
    values = task.values({name: table.column(name) for name in table.columns})
    found = group_figures(recipe, task, values, range(40), told, table)
    assert set(found) == {"place", LANGUAGE}
    for column, groups in found.items():
        assert sum(one["count"] for one in groups.values()) == 40
        for one in groups.values():
            assert one["low"] <= one["value"] <= one["high"], column
    assert found["place"]["south"]["count"] == 10
    assert found["place"]["south"]["value"] == pytest.approx(0.5)
    assert found[LANGUAGE]["zh"] == {"count": 10.0, "value": 1.0, "low": 1.0, "high": 1.0}
    assert found[LANGUAGE]["en"]["value"] == pytest.approx(1 / 3)


def test_columns_of_few_values_that_are_not_learned_from_make_groups(tmp_path: Path) -> None:
    recipe, _, table, _ = made(tmp_path)
    assert group_columns(recipe, table, range(40)) == ["place"]  # not codes, not the same for all, not the split
    assert group_columns(recipe, table, range(5)) == ["id"]
    assert FEW < 40
    recipe = recipe.replace({"report.groups": ["split", "id"]})
    assert group_columns(recipe, table, range(40)) == ["split", "id"]
    recipe = recipe.replace({"report.groups": ["plaice"]})
    with pytest.raises(DataError, match="place"):
        group_columns(recipe, table, range(40))


def test_a_column_that_says_the_language_is_not_told_twice(tmp_path: Path) -> None:
    recipe, task, _, told = made(tmp_path)
    path = tmp_path / "spoken.jsonl"
    rows = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text(encoding="utf-8").splitlines()]
    path.write_text(
        "\n".join(json.dumps(row | {"language": "zh" if "多" in row["question"] else "en"}) for row in rows), "utf-8"
    )
    table = read_table(Data(path=str(path)))
    values = task.values({name: table.column(name) for name in table.columns})
    assert set(group_figures(recipe, task, values, range(40), told, table)) == {"place", "language"}
