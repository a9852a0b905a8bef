"""The verbs that need no model: help, version, recipe, doctor."""

from __future__ import annotations

import getpass
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import rebus as package
from rebus.cli import completion
from rebus.cli.app import app
from rebus.cli.shared import given, kind_settings, setting
from rebus.errors import RecipeError
from rebus.recipe import Recipe, describe, override, recipe_from

VERBS = sorted(package.VERBS)


def rebus(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_and_option_explains_itself(verb: str) -> None:
    done = rebus(*verb.split(), "--help")
    assert done.exit_code == 0
    assert "Usage" in done.stdout
    assert f"Example: rebus {verb}" in done.stdout
    for type_name in ("<bool>", "<int>", "<float>", "<str>"):
        assert type_name not in done.stdout


def test_verbs_stand_in_groups() -> None:
    shown = rebus("--help").stdout
    places = [shown.index(f"─ {group} ─") for group in ("Train", "Ask", "Judge", "Share", "Help", "Data")]
    assert places == sorted(places)
    assert "<bool>" not in shown


def test_what_a_shell_completes_is_what_is_registered() -> None:
    from rebus.models.fusion import FUSIONS
    from rebus.models.towers import TOWERS
    from rebus.tasks import TASKS

    assert list(completion.TASKS) == TASKS.names()
    assert list(completion.FUSIONS) == FUSIONS.names()
    ours = {kind for kind in TOWERS.names() if TOWERS.get(kind).__module__.startswith("rebus.")}
    ours = {kind for kind in ours if TOWERS.get(kind).modality in ("image", "text")}
    assert {*completion.IMAGE_TOWERS, *completion.TEXT_TOWERS} == {*ours, "none"}


def test_a_shell_completes_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert completion.among("caption", "choose", "tag")("c") == ["caption", "choose"]
    assert completion.complete_kinds("age=nu") == ["age=number"]
    assert completion.complete_kinds("age") == []
    assert "train.lr=" in completion.complete_settings("train.l")
    (tmp_path / "runs/pets-1").mkdir(parents=True)
    (tmp_path / "runs/pets-1/recipe.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert completion.complete_runs("ru") == ["runs/pets-1"]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("train.learning_rate=1", "train.lr"),
        ("learning_rate=1", "train.lr"),
        ("train.image_size=64", "image.size"),
        ("train.batch=8", "train.batch_size"),
        ("num_epochs=3", "train.epochs"),
    ],
)
def test_names_of_other_libraries_lead_to_the_setting(said: str, meant: str) -> None:
    done = rebus("train", "x.csv", "--set", said)
    assert done.exit_code == 2
    assert f"did you mean '{meant}'?" in done.stderr


def test_version() -> None:
    assert rebus("--version").stdout == f"{package.__version__}\n"


@pytest.mark.parametrize("words", [["tarin"], ["train", "--rate", "1"], ["predict", "run", "x.csv"], ["ask", "run"]])
def test_a_wrong_command_line_is_status_2(words: list[str]) -> None:
    done = rebus(*words)
    assert done.exit_code == 2
    assert "Traceback" not in done.output


def test_recipe_lists_every_setting() -> None:
    lines = rebus("recipe").stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == [name for name, *_ in describe()]


def test_recipe_shows_one_branch() -> None:
    names = [line.split("\t")[0] for line in rebus("recipe", "model.fusion").stdout.splitlines()]
    assert names[0] == "model.fusion.kind"
    assert all(name.startswith("model.fusion.") for name in names)


def test_recipe_refuses_an_unknown_branch_with_the_nearest() -> None:
    done = rebus("recipe", "trian")
    assert done.exit_code == 2
    assert "look at train" in done.stderr


def test_recipe_yaml_is_a_recipe() -> None:
    assert recipe_from(yaml.safe_load(rebus("recipe", "--yaml").stdout)) == Recipe()


def test_doctor_tells_the_machine_and_not_its_owner() -> None:
    done = rebus("doctor")
    assert done.exit_code == 0, done.output
    for word in ("torch: 2", "threads:", "free disk here:", "jieba", "python: 3"):
        assert word in done.stdout
    assert str(Path.home()) not in done.stdout
    assert str(Path.cwd()) not in done.stdout
    assert platform.node() not in done.stdout.split()
    assert getpass.getuser() not in done.stdout.split()


def test_settings_keep_words_that_yaml_would_turn_into_something_else() -> None:
    recipe = override(Recipe(), [setting("data.split.column", "yes"), setting("data.path", Path("a: b"))])
    assert (recipe.data.split.column, recipe.data.path) == ("yes", "a: b")
    assert given(seed=1, train__time_limit=None) == ["seed=1"]


@pytest.mark.parametrize("word", ["age", "=number", "age="])
def test_a_kind_without_its_two_halves_is_refused(word: str) -> None:
    with pytest.raises(RecipeError, match="COLUMN=KIND"):
        kind_settings([word])


@pytest.mark.parametrize("delay", [0.05, 0.5, 1.2])
def test_an_interrupt_while_it_is_imported_shows_no_traceback(delay: float, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, threading\n"
        "from rebus.cli import main\n"
        f"timer = threading.Timer({delay}, os.kill, (os.getpid(), signal.SIGINT))\n"
        "timer.daemon = True\n"
        "timer.start()\n"
        "sys.argv = ['rebus', 'train', 'nowhere.csv']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode in (130, 2), done.stderr  # 2: it was faster than the signal, and found no such table
    assert "Traceback" not in done.stderr
