"""Columns as inputs, from a table to a Run and back: alone, and beside images and texts in every fusion."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import rebus
from rebus import api
from rebus.errors import DataError
from rebus.recipe import Recipe
from rebus.training.losses import summed_loss
from rebus.training.train import assemble

SMALL: dict[str, Any] = {
    "image.size": 32,
    "text.vocab_size": 300,
    "model.image.width": 24,
    "model.image.depth": 1,
    "model.image.heads": 2,
    "model.image.patch": 8,
    "model.text.width": 24,
    "model.text.depth": 1,
    "model.text.heads": 2,
    "train.batch_size": 16,
}


def rows(count: int = 160) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        age, smoker = int(rng.integers(20, 80)), bool(rng.integers(2))
        sick = age + 15 * smoker > 58
        made.append(
            {
                "patient_id": f"P{number:04d}",
                "age": age,
                "smoker": "yes" if smoker else "no",
                "weight": f"{rng.uniform(45, 95):.1f} kg",
                "seen": f"2024-{rng.integers(1, 13):02d}-{rng.integers(1, 29):02d}",
                "label": "sick" if sick else "well",
            }
        )
    return made


def write(path: Path, table: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("columns")
    return api.train(
        write(folder / "patients.csv", rows()), out=folder / "run", settings={"train.epochs": 25}, quiet=True
    )


def test_columns_alone_are_learned_and_kept_with_the_run(run: Any) -> None:
    assert run.recipe.data.inputs == {"tabular": ["age", "smoker", "weight", "seen"]}
    metrics = run.evaluation["tasks"]["classify"]["metrics"]
    assert metrics["auroc"] > 0.85
    added = run.evaluation["columns"]["classify"]["losses"]
    assert next(iter(added)) == "age"
    assert "What each column adds" in run.report_path.read_text(encoding="utf-8")


def test_predictions_need_no_target_and_take_missing_columns(run: Any, tmp_path: Path) -> None:
    model = rebus.load(run.folder)
    old, young = ({"age": age, "smoker": "yes", "weight": "60 kg"} for age in (78, 21))
    assert [model.predict(row)[0].value for row in (old, young)] == ["sick", "well"]
    assert model.predict({**young, "smoker": "now and then", "age": "unknown"})[0].value in ("sick", "well")
    with pytest.raises(DataError, match="columns that the model was trained on: age"):
        model.predict({"colour": "red"})
    table = write(tmp_path / "t.csv", [{"age": row["age"], "smoker": row["smoker"]} for row in rows(20)])
    assert api.predict(run, table, tmp_path / "out.csv", quiet=True).absent == ("weight", "seen")


def test_explanations_give_each_column_its_share(run: Any) -> None:
    explanation = rebus.load(run.folder).explain(columns={"age": 79, "smoker": "yes", "weight": "60 kg"})
    assert explanation.columns[0].column == "age"
    assert explanation.columns[0].score > 0
    assert sum(column.share for column in explanation.columns) == pytest.approx(1)
    assert {column.column: column.text for column in explanation.columns}["seen"] == ""
    assert "columns" in explanation.to_json()


@pytest.mark.parametrize(
    ("fusion", "how"), [("joint", "weighted"), ("joint", "concat"), ("unified", "concat"), ("cross", "concat")]
)
@pytest.mark.parametrize("beside", [("image",), ("text",), ("image", "text")])
def test_columns_beside_images_and_texts(tmp_path: Path, fusion: str, how: str, beside: tuple[str, ...]) -> None:
    table = rows(40)
    for number, row in enumerate(table):
        Image.fromarray(np.full((32, 32, 3), number * 5, dtype=np.uint8)).save(tmp_path / f"{number}.png")
        more = {"image": f"{number}.png", "text": f"a note on patient {number}, who is {row['label'][0]}"}
        row.update({name: more[name] for name in beside})
    path = write(tmp_path / "t.csv", table)
    settings = {"data.path": str(path), "model.fusion.kind": fusion, "model.fusion.how": how, "model.fusion.depth": 1}
    ready = assemble(Recipe().replace({**SMALL, **settings}), lambda _: None)
    assert set(ready.model.modalities) == {"tabular", *beside} - (
        {"text"} if "text" not in ready.model.modalities else set()
    )
    batch = ready.builder.parts_at(0, 0.0)[0]
    loss, _ = summed_loss(ready.tasks, ready.model(batch), batch)
    loss.backward()
    assert float(ready.model.tabular.weight.grad.abs().sum()) > 0


def test_ignored_columns_are_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", rows(60))
    report = api.check(path, settings={"data.ignore": ["age", "seen"]})
    assert "age (as you said)" in " ".join(report.notes)
    with pytest.raises(DataError, match="did you mean 'age'"):
        api.check(path, settings={"data.ignore": ["agee"]})
