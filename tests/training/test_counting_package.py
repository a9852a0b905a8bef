"""examples/rebus-counting, a task with a head of its own in another package, through every verb."""

from __future__ import annotations

import csv
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rebus
from rebus.doctor import plugin_states
from rebus.models.heads import HEADS
from rebus.tasks import TASKS
from tiny_server import as_url, running

PACKAGE = Path(__file__).parents[2] / "examples" / "rebus-counting"
TINY = {
    "train.steps": 6,
    "text.vocab_size": 300,
    "image.size": 32,
    "report.explained": 1,
    "model.image.kind": "convnet",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The package as pip would leave it: its module on the path, its entry points in metadata."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    site = tmp_path_factory.mktemp("site")
    info = site / f"rebus_counting-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = (
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in project["entry-points"].items()
    )
    (info / "entry_points.txt").write_text("\n".join(groups))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PACKAGE))
        patch.syspath_prepend(str(site))
        for registry in (TASKS, HEADS):
            patch.setattr(registry, "_items", dict(registry._items))
            patch.setattr(registry, "_loaded_plugins", False)
        yield
    sys.modules.pop("rebus_counting", None)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of none to three white squares, with a text that does not say how many."""
    folder = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(24):
        array = np.full((32, 32, 3), 60, dtype=np.uint8)
        for place in rng.permutation(4)[: number % 4]:
            top, left = 4 + 14 * (place // 2), 4 + 14 * (place % 2)
            array[top : top + 8, left : left + 8] = 240
        array[0, 0] = number
        Image.fromarray(array).save(folder / f"{number}.png")
        rows.append(f"{number}.png,squares on a card of paper {number},{number % 4}")
    (folder / "t.csv").write_text("image,note,count\n" + "\n".join(rows), encoding="utf-8")
    return folder / "t.csv"


@pytest.fixture(scope="module")
def run(installed: None, table: Path, tmp_path_factory: pytest.TempPathFactory) -> rebus.Run:
    return rebus.train(table, task="count", settings=TINY, out=tmp_path_factory.mktemp("counting") / "run", quiet=True)


def test_it_is_short() -> None:
    files = [PACKAGE / "pyproject.toml", *PACKAGE.glob("*.py")]
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files) < 120


def test_the_check_finds_its_columns_and_wrong_cells(installed: None, table: Path, tmp_path: Path) -> None:
    assert rebus.check(table, task="count").tasks == {"count": {"image": "image", "text": "note", "count": "count"}}
    wrong = tmp_path / "wrong.csv"
    cells = [f"some words {row},{row % 6}" for row in range(40)]
    wrong.write_text("\n".join(["note,count", *cells, "other words,many"]))
    (error,) = rebus.check(wrong, task="count").bad_rows.values()
    assert "a finite number; found 'many'" in str(error)


def test_training_reports_its_figures_beside_the_mean(run: rebus.Run) -> None:
    score = run.evaluation["tasks"]["count"]
    assert set(score["metrics"]) == {"mae", "within_1"}
    assert score["baseline_name"] == "mean of the training rows"
    assert score["baseline"]["mae"] > 0
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "mean of the training rows" in page
    assert (run.folder / "plots" / "count-scatter.png").is_file()


def test_it_is_evaluated_and_predicts_tables_and_rows(run: rebus.Run, table: Path, tmp_path: Path) -> None:
    assert set(rebus.evaluate(run, table, quiet=True).tasks["count"].metrics) == {"mae", "within_1"}
    rebus.predict(run, table, tmp_path / "out.csv", quiet=True)
    rows = list(csv.DictReader((tmp_path / "out.csv").open(encoding="utf-8")))
    assert "count_confidence" not in rows[0]
    assert all(int(row["count_predicted"]) >= 0 for row in rows)
    (told,) = rebus.load(run).predict({"image": str(table.parent / "3.png"), "note": "squares"})
    assert told.confidence is None
    assert told.value == round(told.extra["rate"]) >= 0


def test_it_is_explained(run: rebus.Run, table: Path) -> None:
    model = rebus.load(run)
    found = model.explain(table.parent / "3.png", "squares on a card", method="occlusion")
    assert "count" in str(found.target)
    assert found.image is not None
    with pytest.raises(rebus.RebusError, match="an output of task 'count'"):
        model.explain(table.parent / "3.png", "squares", target="size", method="occlusion")
    flow = rebus.flow(run, image=table.parent / "3.png", text="squares")
    assert flow.stations[-1].kind == "outputs"


def test_it_is_served(run: rebus.Run, table: Path) -> None:
    row = {"image": as_url((table.parent / "2.png").read_bytes()), "note": "squares"}
    with running(run.folder) as served:
        (one,) = served.http.post("/v1/predict", json={"rows": [row], "explain": True}).json()["data"]
    assert one["confidence"] is None
    assert one["value"] >= 0
    assert "count" in str(one["explanation"]["target"])


def test_its_images_are_indexed_and_it_is_compared(run: rebus.Run, table: Path, tmp_path: Path) -> None:
    assert rebus.index(run, table, out=tmp_path / "index", quiet=True).images == 24
    only = ["text", "image"]
    compared = rebus.compare(
        table, task="count", settings=TINY, only=only, repeats=1, out=tmp_path / "compared", quiet=True
    )
    assert {arm.name for arm in compared.arms} >= set(only)


def test_the_doctor_lists_both_parts(installed: None) -> None:
    states = plugin_states()
    assert states["rebus.tasks"]["count"] == "rebus-counting 0.1.0, rebus_counting:Count: works"
    assert states["rebus.heads"]["poisson"].endswith("works")
