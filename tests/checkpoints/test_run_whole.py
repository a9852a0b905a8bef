"""A Run has one writer at a time, is held to the data it was begun with, comes to its end and keeps its files whole."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from rebus import api
from rebus.checkpoints import digests
from rebus.checkpoints.run_folder import Run
from rebus.checkpoints.save_load import load_model
from rebus.cli.app import app
from rebus.comparison import compare
from rebus.demo import run_demo
from rebus.errors import RebusError, RunError
from rebus.loop import checkpoint
from rebus.loop.lines import locked
from rebus.recipe import Recipe
from rebus.retrieval.build_index import index_run
from rebus.training.train import learn

SMALL = {
    "model.text.width": 16,
    "model.text.depth": 1,
    "model.text.heads": 2,
    "text.vocab_size": 300,
    "train.steps": 6,
    "train.save_every": 3,
    "train.batch_size": 4,
    "report.explained": 0,
}


def texts(path: Path, rows: int = 24, flip: bool = False) -> Path:
    labels = ["good" if (number % 2) ^ flip else "bad" for number in range(rows)]
    lines = [f"film number {number} was {label},{label}" for number, label in enumerate(labels)]
    path.write_text("text,label\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def recipe(data: Path, **more: Any) -> Recipe:
    return api.make_recipe(data, None, None, SMALL | more)


def bits(run: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(run.glob("*.safetensors")))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished Run; beside it table.csv."""
    folder = tmp_path_factory.mktemp("whole")
    return api.train(texts(folder / "table.csv"), out=folder / "run", settings=SMALL, quiet=True).folder


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """``write_outputs`` without the plots, which take long."""

    def write(run: Run, **_more: Any) -> Path:
        run.report_path.write_text("report", encoding="utf-8")
        (run.folder / "README.md").write_text("card", encoding="utf-8")
        return run.report_path

    return write


def copied(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "run")


def figures(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = Run(run).evaluation["tasks"]["classify"]["metrics"]
    return found


def holds(folder: Path, pid: int) -> bool:
    """Whether a process has taken the lock."""
    return (folder / ".lock").exists() and (folder / ".lock").read_text(encoding="ascii") == f"{pid}\n"


# ---- one writer


def test_the_second_start_in_a_folder_leaves_the_first_ones_files(tmp_path: Path) -> None:
    first, second, run = texts(tmp_path / "a.csv"), texts(tmp_path / "b.csv", 60), tmp_path / "run"
    go_read, go = os.pipe()
    pid = os.fork()
    if pid == 0:  # it waits before it has read its table: long before its first step
        code = 1
        try:
            os.close(go)

            def wait(_: str) -> None:
                os.read(go_read, 1)

            first_time = iter([wait])
            log = lambda text: next(first_time, lambda _: None)(text)  # noqa: E731
            learn(recipe(first), run, log=log, quiet=True, evaluate=False)
            code = 0
        finally:
            os._exit(code)
    os.close(go_read)
    deadline = time.monotonic() + 30
    while not holds(run, pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(RunError, match=f"process {pid}"):
        api.train(second, out=run, settings=SMALL, quiet=True)
    assert os.listdir(run) == [".lock"]
    os.close(go)
    assert os.waitpid(pid, 0)[1] == 0
    assert json.loads((run / "check.json").read_text(encoding="utf-8"))["rows"] == 24
    assert Run(run).recipe.data.path == str(first.resolve())
    with pytest.raises(RunError, match="found a Run"):
        api.train(second, out=run, settings=SMALL, quiet=True)


def test_a_lock_is_not_inherited_and_ends_with_its_process(tmp_path: Path) -> None:
    with locked(tmp_path) as outermost, locked(tmp_path) as again:
        assert (outermost, again) == (True, False)
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
    try:
        with locked(tmp_path):  # although a process that was forked meanwhile still lives
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    holder = os.fork()
    if holder == 0:
        with locked(tmp_path):
            time.sleep(60)
        os._exit(0)
    while not holds(tmp_path, holder):
        time.sleep(0.01)
    with pytest.raises(RunError, match=f"process {holder}"), locked(tmp_path, wait=0.1):
        pass
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    with locked(tmp_path):
        pass


STARTS: dict[str, Callable[[Path], object]] = {
    "index": lambda folder: index_run("nowhere", "nowhere", out=folder),
    "compare": lambda folder: compare(Recipe(), folder),
    "demo": run_demo,
    "train": lambda folder: api.train([{"text": "a", "label": "b"}], out=folder, quiet=True),
}


@pytest.mark.parametrize("verb", list(STARTS))
def test_nothing_else_is_begun_in_a_folder_that_is_written(tmp_path: Path, verb: str) -> None:
    out = tmp_path / "out"
    with locked(out), ThreadPoolExecutor(1) as pool, pytest.raises(RunError, match=f"process {os.getpid()}"):
        pool.submit(STARTS[verb], out).result()
    assert not list(tmp_path.iterdir())  # not even a table beside it


def test_a_start_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RebusError):
        api.train(tmp_path / "nowhere.csv", out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_leftovers_of_killed_processes_are_swept(whole: Path, tmp_path: Path) -> None:
    run = copied(whole, tmp_path)
    dead = os.fork()
    if dead == 0:
        os._exit(0)
    os.waitpid(dead, 0)
    left = [run / f".model.safetensors.{dead}.tmp", run / "plots" / f".curves.png.{dead}.tmp"]
    living = run / f".evaluation.json.{os.getppid()}.tmp"
    for path in [*left, living]:
        path.write_bytes(b"half")
    with Run(run).writing():
        assert not any(path.exists() for path in left)
        assert living.exists()


# ---- the data and the recipe that a run was begun with


def begun(table: Path, run: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
    """A run that was killed after its first checkpoint."""

    class Killed(BaseException):
        pass

    save = checkpoint.save

    def killed(*arguments: Any) -> Path:
        save(*arguments)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", killed)
        with pytest.raises(Killed):
            learn(recipe(table, **more), run, log=lambda _: None, quiet=True)


def swap(text: str) -> str:
    head, first, second, *rest = text.splitlines()
    return "\n".join([head, second, first, *rest]) + "\n"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text.replace("film number 7 was good,good\n", ""), "rows: 24, now 23"),
        (lambda text: text.replace("was good,good", "was good,bad", 1), "column label"),
        (lambda text: text.replace("film number 3", "film number three"), "column text"),
        (swap, "column label"),
        (lambda text: text + "film number 24 was good,good\n", "rows: 24, now 25"),
    ],
    ids=["row removed", "label changed", "word changed", "rows swapped", "row added"],
)
def test_a_resume_refuses_data_that_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[str], str], told: str
) -> None:
    table, run = texts(tmp_path / "table.csv"), tmp_path / "run"
    begun(table, run, monkeypatch)
    before = table.read_text(encoding="utf-8")
    table.write_text(change(before), encoding="utf-8")
    with pytest.raises(RunError, match=told) as refused:
        api.resume(run, quiet=True)
    assert "--accept-changes" in refused.value.do
    table.write_text(before, encoding="utf-8")  # put back: other times, the same content
    learn(Run(run).recipe, run, resume=True, log=lambda _: None, quiet=True, evaluate=False)
    assert Run(run).saved


def test_data_that_lies_elsewhere_passes_and_changes_can_be_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, light: Any
) -> None:
    monkeypatch.setattr(api, "write_outputs", light)
    table, run = texts(tmp_path / "table.csv"), tmp_path / "run"
    begun(table, run, monkeypatch)
    (tmp_path / "deep").mkdir()
    moved = table.rename(tmp_path / "deep" / "renamed.csv")
    aside = shutil.copytree(run, tmp_path / "aside")
    assert api.resume(run, data=moved, quiet=True).closed
    assert Run(run).recipe.data.path == str(moved)
    texts(moved, 24, flip=True)
    with pytest.raises(RunError, match="column"):
        api.resume(aside, data=moved, quiet=True)
    done = CliRunner().invoke(app, ["train", str(moved), "--resume", str(aside), "--accept-changes", "--quiet"])
    assert done.exit_code == 0, done.output
    assert digests.verify_files(aside).whole


def test_a_resume_refuses_images_that_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(12):
        Image.fromarray(np.full((16, 16, 3), 20 * number, dtype=np.uint8)).save(tmp_path / f"{number}.png")
    lines = [f"{number}.png,{'dark' if number < 6 else 'light'}" for number in range(12)]
    table, run = tmp_path / "table.csv", tmp_path / "run"
    table.write_text("image,label\n" + "\n".join(lines), encoding="utf-8")
    tower = {"image.size": 16, "model.image.width": 8, "model.image.depth": 1, "model.image.heads": 2}
    begun(table, run, monkeypatch, **tower)
    Image.fromarray(np.full((16, 16, 3), 255, dtype=np.uint8)).save(tmp_path / "3.png")
    with pytest.raises(RunError, match="images in image"):
        learn(Run(run).recipe, run, resume=True, log=lambda _: None, quiet=True)


def test_a_resume_refuses_another_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    begun(texts(tmp_path / "table.csv"), run, monkeypatch)
    path = run / "recipe.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("steps: 6", "steps: 9").replace("keep: 2", "keep: 3"), encoding="utf-8")
    with pytest.raises(RunError, match=r"train.steps: 6, now 9$|train.steps: 6, now 9\."):
        api.resume(run, quiet=True)
    path.write_text(text[: text.index("train:")], encoding="utf-8")  # cut short: what is missing would be defaults
    with pytest.raises(RunError, match=r"train\."):
        api.resume(run, quiet=True)


# ---- the end is one


def test_what_a_kill_left_undone_is_done(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, light: Any
) -> None:
    monkeypatch.setattr(api, "write_outputs", light)
    undone = {
        "before config.json": ["config.json", "evaluation.json", "report.html", "README.md", "digests.json"],
        "before it is judged": ["evaluation.json", "report.html", "README.md", "digests.json"],
        "between report and card": ["README.md", "digests.json"],
        "before the digests": ["digests.json"],
    }
    for instant, names in undone.items():
        run = copied(whole, tmp_path / instant.replace(" ", "-"))
        for name in names:
            (run / name).unlink()
        assert api.resume(run, quiet=True).closed, instant
        assert bits(run) == bits(whole), instant
        assert (
            Run(run).evaluation["tasks"]["classify"]["metrics"] == Run(whole).evaluation["tasks"]["classify"]["metrics"]
        )
        assert digests.verify_files(run).whole, instant


def test_a_saved_model_is_judged_though_its_checkpoints_are_gone(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, light: Any
) -> None:
    monkeypatch.setattr(api, "write_outputs", light)
    run = copied(whole, tmp_path)
    shutil.rmtree(run / "checkpoints")
    for name in ("evaluation.json", "report.html", "README.md", "digests.json"):
        (run / name).unlink()
    assert api.resume(run, quiet=True).closed
    assert bits(run) == bits(whole)
    training = Run(run).evaluation["training"]
    assert training["steps"] == 6
    assert figures(run) == figures(whole)


def test_base_weights_are_taken_over_again_where_no_checkpoint_is_whole(whole: Path, tmp_path: Path) -> None:
    table = texts(tmp_path / "table.csv", 24)
    calm, run, told = tmp_path / "calm", tmp_path / "run", []
    settings = api.make_recipe(table, None, None, {"train.steps": 6, "train.save_every": 3, "train.batch_size": 4})
    base = shutil.copytree(whole, tmp_path / "base", ignore=shutil.ignore_patterns("checkpoints", "digests.json"))
    settings = settings.replace({"base": str(base)})
    learn(settings, calm, log=lambda _: None, quiet=True, evaluate=False)
    shutil.copytree(calm, run)
    for name in ("config.json", "model.safetensors", "heads.safetensors"):
        (run / name).unlink()
    for folder in (run / "checkpoints").iterdir():
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
    weights = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(RunError, match="file of base"):
        learn(Run(run).recipe, run, resume=True, log=told.append, quiet=True, evaluate=False)
    (base / "model.safetensors").write_bytes(weights)
    learn(Run(run).recipe, run, resume=True, log=told.append, quiet=True, evaluate=False)
    assert any("taken over again" in line for line in told)
    assert bits(run) == bits(calm)


# ---- nothing is left to a measurement


def test_the_saved_recipe_names_what_was_chosen_and_repeats_the_run(whole: Path, tmp_path: Path) -> None:
    assert Run(whole).recipe.train.precision in ("fp32", "bf16")
    again = api.make_recipe(whole.parent / "table.csv", None, whole / "recipe.yaml", None)
    learn(again, tmp_path / "again", log=lambda _: None, quiet=True, evaluate=False)
    assert bits(tmp_path / "again") == bits(whole)


# ---- whole files


MODEL = ["model.safetensors", "heads.safetensors", "tokenizer.json", "config.json", "recipe.yaml"]


@pytest.mark.parametrize("name", MODEL)
@pytest.mark.parametrize("harm", ["flip", "cut", "gone"])
def test_a_changed_file_of_the_model_is_refused(whole: Path, tmp_path: Path, name: str, harm: str) -> None:
    run = copied(whole, tmp_path)
    path = run / name
    Run.open(run)  # looked at once: the change must be seen all the same
    content = bytearray(path.read_bytes())
    if harm == "flip":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif harm == "cut":
        path.write_bytes(content[: 2 * len(content) // 3])
    else:
        path.unlink()
    unknown = (harm, name) == ("gone", "recipe.yaml")
    with pytest.raises(RunError, match=name):
        load_model(Run.open(run))
    done = CliRunner().invoke(app, ["verify", str(run)])
    assert done.exit_code == (2 if unknown else 1)
    assert name in done.output


def test_what_people_may_edit_is_only_mentioned_and_results_are_compared(whole: Path, tmp_path: Path) -> None:
    run = copied(whole, tmp_path)
    with open(run / "README.md", "a", encoding="utf-8") as card:
        card.write("My notes.\n")
    (run / "notes.txt").write_text("mine", encoding="utf-8")
    assert [one.name for one in api.verify(run).differences] == ["README.md"]
    assert CliRunner().invoke(app, ["verify", str(run)]).exit_code == 0
    path = run / "evaluation.json"
    path.write_text(path.read_text(encoding="utf-8").replace("1", "2", 1), encoding="utf-8")
    assert CliRunner().invoke(app, ["verify", str(run)]).exit_code == 1
    with Run(run).writing():  # whoever writes another result does not bless what was changed before
        (run / "explain.json").write_text("{}", encoding="utf-8")
    assert {one.name for one in api.verify(run).differences} == {"README.md", "evaluation.json"}
    Run.open(run)
    listed = run / "digests.json"
    listed.write_text(listed.read_text(encoding="utf-8").replace('"bytes": 2', '"bytes": 3', 1), encoding="utf-8")
    with pytest.raises(RunError, match=r"digests\.json"):
        Run.open(run)


def test_a_run_without_digests_opens_and_says_so(whole: Path, tmp_path: Path) -> None:
    run = copied(whole, tmp_path)
    (run / "digests.json").unlink()
    assert Run.open(run).finished
    assert not Run(run).closed
    with pytest.raises(RunError, match="earlier versions"):
        api.verify(run)


def test_a_checkpoint_inside_a_run_says_what_to_name(whole: Path) -> None:
    inside = next((whole / "checkpoints").iterdir())
    with pytest.raises(RunError, match="name the Run itself"):
        Run.open(inside)
    assert load_file(inside / "model.safetensors")
