"""What a model loses without its images or its text: known for models whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batches import image_inputs
from rebus.errors import DataError
from rebus.evaluation.ablation import ablate
from rebus.models.modalities.rows import RowInputs
from rebus.recipe import TaskSettings
from rebus.report.ablation import ablation_tables, ablation_verdicts
from rebus.tasks import TASKS, Prediction, Task
from rebus.tasks.cells import missing

COUNT = 60
DICE = np.random.default_rng(0)
RED, SUN = DICE.integers(0, 2, COUNT), DICE.integers(0, 2, COUNT)


class Knower:
    """Says ``yes`` where what it looks at is red, or what it reads is sun."""

    def __init__(self, looks: bool) -> None:
        self.looks = looks

    def run_task(self, task: Task, values: Any, rows: Sequence[int], inputs: RowInputs) -> list[Prediction]:
        told = []
        for row in rows:
            items = inputs.items("image", row) if "image" in inputs.modalities else []
            if self.looks:
                yes = bool(items) and int(items[0]["pixels"][0, 0, 0]) > 180
            else:
                yes = not missing(values["text"][row]) and "sun" in values["text"][row]
            told.append(Prediction("yes" if yes else "no", 0.9, {"yes": float(yes), "no": float(not yes)}))
        return told


def setting(truth: np.ndarray) -> tuple[Task, dict[str, Any], Any]:
    values = {
        "image": [f"{row}.png" for row in range(COUNT)],
        "text": [f"{'sun' if SUN[row] else 'moon'} {row}" for row in range(COUNT)],
        "label": ["yes" if one else "no" for one in truth],
    }
    task = TASKS.get("classify")(TaskSettings(name="classify", columns={k: k for k in values}))
    task.fit(values, range(COUNT))
    return task, values, image_inputs(lambda row: np.full((4, 4, 3), 220 if RED[row] else 30, dtype=np.uint8))


def lost(looks: bool, sees: bool = True) -> Any:
    task, values, image = setting(RED if looks else SUN)
    image = image if sees else image.only(())
    model: Any = Knower(looks)
    told = model.run_task(task, values, range(COUNT), image)
    return ablate(model, task, values, range(COUNT), told, image)


def test_a_model_that_looks_loses_by_its_images_and_not_by_its_text() -> None:
    found = lost(looks=True)
    assert set(found.losses) == {
        "images_shuffled",
        "images_blank",
        "images_absent",
        "text_shuffled",
        "text_masked",
    }
    assert found.value == 1.0
    assert found.losses["images_shuffled"]["low"] > 0.2
    assert found.losses["images_absent"]["lost"] == pytest.approx(float(RED.mean()))
    assert found.losses["text_shuffled"] == {"value": 1.0, "lost": 0.0, "low": 0.0, "high": 0.0}
    looks, deaf = ablation_verdicts(found.as_dict(), "en")
    assert looks.startswith("it looks at its images: shuffling them costs")
    assert deaf == "it does not read its text: shuffling it costs 0.0 points (0.0 to 0.0)"
    assert ablation_verdicts(found.as_dict(), "zh")[1].startswith("它不读文字")


def test_a_model_that_reads_does_not_look() -> None:
    found = lost(looks=False)
    blind, reads = ablation_verdicts(found.as_dict(), "en")
    assert blind.startswith("it does not look at its images: shuffling them costs 0.0 points")
    assert reads.startswith("it reads its text: shuffling it costs")
    assert found.losses["text_masked"]["lost"] == pytest.approx(float(SUN.mean()))
    table = ablation_tables({"classify": found.as_dict()}, "en")[0]
    assert [len(row) for row in table.rows] == [4] * 6
    assert table.note.startswith("It does not look at its images")


def test_a_model_without_a_image_tower_is_asked_about_its_text_alone() -> None:
    assert set(lost(looks=False, sees=False).losses) == {"text_shuffled", "text_masked"}


def test_rows_that_are_all_alike_cannot_be_shuffled() -> None:
    task, values, image = setting(RED)
    values = {**values, "text": [None] * COUNT}
    image, model = image.only(()), Knower(True)
    with pytest.raises(DataError, match="--ablate"):
        ablate(model, task, values, range(COUNT), model.run_task(task, values, range(COUNT), image), image)


def test_it_is_kept_in_the_run_its_report_and_its_card(tmp_path: Path) -> None:
    import json

    from PIL import Image
    from typer.testing import CliRunner

    from rebus import api
    from rebus.cli.app import app
    from rebus.recipe import Fusion, Recipe, Tower

    lines = []
    for row in range(40):
        Image.fromarray(np.full((16, 16, 3), 220 if RED[row] else 30, dtype=np.uint8) + row).save(
            tmp_path / f"{row}.png"
        )
        lines.append(json.dumps({"image": f"{row}.png", "words": f"{row} a", "label": "yes" if RED[row] else "no"}))
    (tmp_path / "t.jsonl").write_text("\n".join(lines), encoding="utf-8")
    recipe = Recipe().replace(
        {
            "image.size": 16,
            "text.vocab_size": 300,
            "model.image": Tower(width=24, depth=1, heads=2, patch=8),
            "model.text": Tower(width=24, depth=1, heads=2),
            "model.fusion": Fusion(depth=1),
            "data.kinds": {"words": "text"},
            "data.split.test": 0.4,
            "train.steps": 2,
            "train.precision": "fp32",
        }
    )
    run = api.train(tmp_path / "t.jsonl", task="classify", recipe=recipe, out=tmp_path / "run", quiet=True)
    assert "ablation" not in run.evaluation
    done = CliRunner().invoke(app, ["evaluate", str(run.folder), "--ablate"])
    assert done.exit_code == 0, done.output
    assert "its images: shuffling them costs" in done.stdout
    kept = run.evaluation["ablation"]["classify"]
    assert kept["verdict"][0] in (run.folder / "report.html").read_text(encoding="utf-8").replace("It ", "it ")
    assert "what it loses without" in (run.folder / "README.md").read_text(encoding="utf-8")
    assert run.evaluation["tasks"]["classify"]["metrics"]  # what was there stays
    found = api.evaluate(run.folder, ablate=True, lang="zh")
    assert "图片" in found.ablation["classify"].verdict[0]
    assert 'lang="zh' in (run.folder / "report.html").read_text(encoding="utf-8")[:200]
    with pytest.raises(api.RebusError if hasattr(api, "RebusError") else ValueError, match="--ablate"):
        api.evaluate(run.folder, ablate=True, zero_shot=True)
