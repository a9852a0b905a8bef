"""The whole road on small tables: what is trained is right, a killed comparison goes on, mistakes are told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import rebus
from rebus.cli.app import app
from rebus.comparison import compare
from rebus.comparison.setup import set_up
from rebus.comparison.strategies import arms_of
from rebus.comparison.trial import Trial, run_trial
from rebus.errors import DataError, RebusError, RecipeError, RunError
from rebus.recipe import TaskSettings
from rebus.tasks import TASKS
from rebus.training.train import learn

from .conftest import COLUMNS, small_recipe, write_table

Tables = Callable[[str], Path]
NONE: Callable[[str], None] = lambda _: None  # noqa: E731


def test_exclusive_or_needs_both_and_the_folder_tells_it(tables: Tables, tmp_path: Path) -> None:
    told: list[str] = []
    found = compare(
        small_recipe(tables("both")), tmp_path, repeats=1, only=["text", "image", "unified"], log=told.append
    )
    assert found.arm("unified").figure.value > 0.9
    assert max(arm.figure.value for arm in found.singles) < 0.75
    assert found.verdict.startswith("Images add") or found.verdict.startswith("Text adds")
    assert found.arm("unified").without["image"].value < 0.75 < found.arm("unified").without["complete"].value
    assert found.arm("unified").parameters > found.arm("text").parameters > 0
    written = json.loads((tmp_path / "compare.json").read_text(encoding="utf-8"))
    assert written["verdict"] == found.verdict
    assert found.verdict in (tmp_path / "compare.md").read_text(encoding="utf-8")
    html = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert "data:image/png" in html
    assert 'src="http' not in html
    assert (tmp_path / "compare.png").stat().st_size > 5000
    assert not (tmp_path / "work").exists()
    assert any("unified, split 1" in line for line in told)

    again: list[str] = []  # everything is done: nothing is trained, the verdict may be in the other language
    chinese = compare(
        small_recipe(tables("both")),
        tmp_path,
        repeats=1,
        only=["text", "image", "unified"],
        language="zh",
        log=again.append,
    )
    assert "图片" in chinese.verdict
    assert not any(line.startswith("[") for line in again)
    assert chinese.arm("unified").figure == found.arm("unified").figure

    with pytest.raises(RunError, match=r"with train\.steps 50.*train\.steps 51.*another --out"):
        compare(small_recipe(tables("both"), steps=51), tmp_path, repeats=1, log=NONE)


DRIVER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from comparison.conftest import small_recipe
from rebus.comparison import compare
compare(small_recipe(Path(sys.argv[2]), steps=12), Path(sys.argv[3]), folds=2, only=["text", "cross"], log=print)
"""


def test_a_killed_comparison_goes_on_where_it_was(tables: Tables, tmp_path: Path) -> None:
    """Killed between runs and in a run; what comes out is what comes out of one that was not."""
    whole = compare(
        small_recipe(tables("both"), steps=12), tmp_path / "whole", folds=2, only=["text", "cross"], log=NONE
    )
    out, tests = tmp_path / "killed", Path(__file__).parents[1]
    words = [sys.executable, "-c", DRIVER, str(tests), str(tables("both")), str(out)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(1200):
            if (out / "trials" / "text-0.json").exists() or process.poll() is not None:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    finally:
        process.wait()
    done = sorted((out / "trials").glob("*.json"))
    assert done, "nothing was done before the kill"
    stamps = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in done}
    on = compare(small_recipe(tables("both"), steps=12), out, folds=2, only=["text", "cross"], log=NONE)
    for path in done:  # finished runs are not repeated
        assert (path.stat().st_mtime_ns, path.read_bytes()) == stamps[path.name]
    assert [arm.figure for arm in on.arms] == [arm.figure for arm in whole.arms]
    assert [arm.by_split for arm in on.arms] == [arm.by_split for arm in whole.arms]
    assert Trial.load(out / "trials" / "cross-1.json").steps == 12
    (out / "trials" / "cross-1.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match=r"cross-1.*delete the file"):
        compare(small_recipe(tables("both"), steps=12), out, folds=2, only=["text", "cross"], log=NONE)


def test_a_run_stopped_by_a_signal_goes_on_from_its_checkpoint(tables: Tables, tmp_path: Path) -> None:
    recipe = small_recipe(tables("both"), steps=8)
    recipe = recipe.replace({"train.save_every": 2})
    setup = set_up(recipe, NONE, repeats=1, only=["cross"])
    whole = run_trial(setup, setup.arms[0], 0, tmp_path / "whole")
    steps = 0

    def stop_at_the_fourth(*_: object) -> dict[str, object]:
        nonlocal steps
        steps += 1
        if steps == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return {}

    from rebus.tasks import batch_builder as builder

    plain = builder.BatchBuilder.parts_at
    try:
        builder.BatchBuilder.parts_at = lambda self, *at: (stop_at_the_fourth(), plain(self, *at))[1]  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            run_trial(setup, setup.arms[0], 0, tmp_path / "cut")
    finally:
        builder.BatchBuilder.parts_at = plain  # type: ignore[method-assign]
    assert list((tmp_path / "cut" / "checkpoints").iterdir())
    on = run_trial(setup, setup.arms[0], 0, tmp_path / "cut")
    assert on.told == whole.told
    assert on.steps == 8


def test_one_run_is_what_its_recipe_trains(tables: Tables, tmp_path: Path) -> None:
    """`rebus train --recipe trials/cross-0.yaml` gives the model that was compared."""
    setup = set_up(small_recipe(tables("both"), steps=6), NONE, folds=2, only=["cross"])
    trial = run_trial(setup, setup.arms[0], 0, tmp_path / "work")
    run = learn(setup.recipe(setup.arms[0], 0), tmp_path / "run", log=NONE, quiet=True)
    figure = setup.task.quick_score(setup.values, trial.rows, trial.told)
    for name, value in run.evaluation["tasks"]["classify"]["metrics"].items():
        assert figure[name] == pytest.approx(value)


@pytest.mark.parametrize(
    ("task", "columns"),
    [
        ("tag", {"image": "image", "text": "words", "labels": "tags"}),
        ("regress", {"image": "image", "text": "words", "target": "size"}),
        ("answer", {"image": "image", "question": "question", "answer": "label"}),
        ("caption", {"image": "image", "caption": "words"}),
    ],
)
def test_every_task_of_both_modalities_can_be_compared(
    tables: Tables, tmp_path: Path, task: str, columns: dict[str, str]
) -> None:
    recipe = small_recipe(tables("both"), task, columns, steps=1)
    recipe = recipe.replace({"data.kinds": {"tags": "labels", "size": "number"}})
    only = ["text", "joint-sum", "cross"] + ([] if task == "caption" else ["image"])
    found = compare(recipe, tmp_path, repeats=1, only=only, log=NONE)
    assert {arm.name for arm in found.arms} == set(only)
    assert found.metric == TASKS.get(task).watch
    assert found.verdict
    if task == "answer":
        assert set(found.arm("cross").without) == {"complete", "image"}  # without a question nothing is asked
    if task == "caption":
        assert found.arm("cross").without == {}


def test_rows_that_lack_a_modality_are_figures_of_their_own(tables: Tables, tmp_path: Path) -> None:
    recipe = small_recipe(tables("both-gaps"), steps=2)
    recipe = recipe.replace({"model.fusion.modality_dropout": 0.3})
    found = compare(recipe, tmp_path, folds=2, only=["text", "joint-mean", "unified", "cross"], log=NONE)
    assert found.rows == 130
    for arm in found.fused:
        assert set(arm.without) == {"complete", "image", "text", "lacking_image", "lacking_text"}
    assert "rows without an image" in (tmp_path / "compare.md").read_text(encoding="utf-8")
    assert "modality_dropout=0.3" in (tmp_path / "compare.md").read_text(encoding="utf-8")


def test_what_cannot_be_compared_is_told(tables: Tables, tmp_path: Path) -> None:
    def refused(kind: type[RebusError], match: str, recipe: rebus.Recipe, **how: object) -> None:
        with pytest.raises(kind, match=match):
            compare(recipe, tmp_path / "x", log=NONE, **how)  # type: ignore[arg-type]

    table = tables("both")
    single = {"text": "words", "label": "label"}
    made = small_recipe(table, columns=single)
    made = made.replace({"data.kinds": {"image": "ignore"}})
    refused(DataError, "expected an image column; found only text 'words'", made)
    single = {"image": "image", "label": "label"}
    made = small_recipe(table, columns=single)
    made = made.replace({"data.kinds": {"words": "ignore", "question": "ignore"}})
    refused(DataError, "expected a text column beside the image", made)
    assert not (tmp_path / "x").exists()  # refused before any work
    refused(RecipeError, "did you mean 'unified'", small_recipe(table), only=["unifid"])
    refused(RecipeError, "one of the two", small_recipe(table), folds=2, repeats=2)
    refused(RecipeError, "at least 2", small_recipe(table), folds=1)
    refused(RecipeError, "at least 1", small_recipe(table), repeats=0)
    made = small_recipe(table)
    made = made.replace({"model.image.kind": "none"})
    refused(RecipeError, r"model\.image\.kind", made)
    made = small_recipe(table)
    made = made.replace({"base": "somewhere"})
    refused(RecipeError, "towers that every strategy shares", made)
    made = small_recipe(table)
    added = TaskSettings(name="tag", columns={"image": "image", "labels": "tags"})
    made = made.replace(tasks=[*made.tasks, added])
    refused(RecipeError, "one task", made)
    refused(DataError, "reads raw text alone", small_recipe(table, "lm", {"text": "words"}))
    pair = {"anchor": "words", "positive": "question"}
    refused(
        DataError, "a task that reads an image and a text: .*answer.*classify", small_recipe(table, "similar", pair)
    )
    refused(DataError, "rows to train on", small_recipe(write_table(tmp_path / "few", "both", 40)), folds=60)
    assert not (tmp_path / "x" / "trials").exists()  # nothing was trained before it was refused
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("x", encoding="utf-8")
    with pytest.raises(RunError, match="other files"):
        compare(small_recipe(table), tmp_path / "other", log=NONE)


def test_strategies_of_a_task() -> None:
    from rebus import Recipe

    names = [
        arm.name for arm in arms_of(TASKS.get("classify")(TaskSettings(name="classify", columns=COLUMNS)), Recipe())
    ]
    joint = ["joint-concat", "joint-mean", "joint-weighted", "joint-sum"]
    assert names == ["text", "image", *joint, "unified", "cross"]
    caption = TASKS.get("caption")(TaskSettings(name="caption", columns={"image": "image", "caption": "words"}))
    assert [arm.name for arm in arms_of(caption, Recipe())] == ["text", *joint, "unified", "cross"]
    assert [arm.name for arm in arms_of(caption, Recipe(), ["joint", "text"])] == ["text", *joint]


def test_from_the_command_line(tables: Tables, tmp_path: Path) -> None:
    small = "image.size=16 text.vocab_size=300 model.text.width=24 model.text.depth=1 model.text.heads=2 "
    small += "model.image.width=24 model.image.depth=1 model.image.heads=2 model.image.patch=8 "
    small += "train.precision=fp32 tasks.0.columns.text=words tasks.0.columns.label=label"
    words = ["compare", str(tables("both")), "--task", "classify", "--repeats", "1", "--steps", "2", "--lang", "zh"]
    words += ["--only", "text", "--only", "cross", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*words, *(part for word in small.split() for part in ("--set", word))])
    assert done.exit_code == 0, done.output
    assert "compare.html" in done.stdout
    assert (tmp_path / "out" / "compare.json").exists()
    wrong = CliRunner().invoke(app, ["compare", str(tables("both")), "--folds", "3", "--repeats", "2"])
    assert wrong.exit_code == 2
    assert rebus.Comparison.__name__ == "Comparison"
    assert callable(rebus.compare)
