"""The command on a real, tiny table: train, look at what it left, and put it to every use."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from rebus import api
from rebus.catalogue import from_json
from rebus.cli.app import app

SMALL = [
    "--set",
    "model.text.width=24",
    "--set",
    "model.text.heads=2",
    "--set",
    "model.text.depth=1",
    "--set",
    "text.vocab_size=300",
]
SMALL += [
    "--set",
    "train.precision=fp32",
    "--set",
    "train.steps=12",
    "--set",
    "train.batch_size=8",
    "--set",
    "model.fusion.heads=2",
]


def rebus(*words: str, typed: str | None = None) -> Any:
    return CliRunner().invoke(app, list(words), input=typed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    rows = [("the day was good", "yes") if i % 2 else ("the day was bad", "no") for i in range(80)]
    with open(folder / "words.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [("text", "label"), *((f"{text} {i}", label) for i, (text, label) in enumerate(rows))]
        )
    done = rebus("train", str(folder / "words.csv"), "--out", str(folder / "run"), "--seed", "5", *SMALL)
    assert done.exit_code == 0, done.output
    assert str(folder / "run") in done.stdout
    return folder


def test_it_leaves_a_whole_run(folder: Path) -> None:
    there = {path.name for path in (folder / "run").iterdir()}
    wanted = {"recipe.yaml", "config.json", "model.safetensors", "tokenizer.json", "metrics.jsonl", "evaluation.json"}
    assert wanted | {"report.html", "README.md", "check.json", "checkpoints"} <= there
    assert [name for name in there if name.endswith(".tmp")] == []
    recipe = yaml.safe_load((folder / "run" / "recipe.yaml").read_text(encoding="utf-8"))
    assert (recipe["seed"], recipe["tasks"][0]["name"], recipe["train"]["steps"]) == (5, "classify", 12)


def test_its_recipe_alone_repeats_it(folder: Path) -> None:
    recipe = str(folder / "run" / "recipe.yaml")
    done = rebus("train", str(folder / "words.csv"), "--recipe", recipe, "--out", str(folder / "again"), "--quiet")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{folder / 'again'}\n"
    first, again = ((folder / name / "model.safetensors").read_bytes() for name in ("run", "again"))
    assert first == again


def test_a_run_is_never_overwritten(folder: Path) -> None:
    before = (folder / "run" / "model.safetensors").read_bytes()
    done = rebus("train", str(folder / "words.csv"), "--out", str(folder / "run"), *SMALL)
    assert done.exit_code == 2
    assert "What to do:" in done.stderr
    assert (folder / "run" / "model.safetensors").read_bytes() == before


def test_resuming_a_finished_run_changes_nothing(folder: Path) -> None:
    before = (folder / "run" / "model.safetensors").read_bytes()
    assert rebus("train", "--resume", str(folder / "run")).exit_code == 0
    assert (folder / "run" / "model.safetensors").read_bytes() == before


@pytest.mark.slow
def test_ctrl_c_stops_with_a_checkpoint_and_resume_ends_as_if_nothing_was(folder: Path) -> None:
    words = [sys.executable, "-m", "rebus", "train", str(folder / "words.csv"), *SMALL, "--set", "train.steps=400"]
    words += ["--set", "train.save_every=20", "--set", "train.validate_every=400"]
    whole = subprocess.run([*words, "--out", str(folder / "whole")], capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    process = subprocess.Popen([*words, "--out", str(folder / "cut")], stderr=subprocess.PIPE, text=True)
    while not list((folder / "cut").glob("checkpoints/step-*")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=100)
    assert process.returncode == 130, told
    assert f"rebus train --resume {folder / 'cut'}" in told
    assert "Traceback" not in told
    refused = rebus("evaluate", str(folder / "cut"))
    assert refused.exit_code == 2
    assert "--resume" in refused.stderr
    assert rebus("train", "--resume", str(folder / "cut"), "--quiet").exit_code == 0
    cut, uncut = ((folder / name / "model.safetensors").read_bytes() for name in ("cut", "whole"))
    assert cut == uncut


def test_a_run_starts_from_another(folder: Path) -> None:
    words = ["train", str(folder / "words.csv"), "--from", str(folder / "run"), "--out", str(folder / "on"), *SMALL]
    done = rebus(*words)
    assert done.exit_code == 0, done.output
    assert "started from" in done.stderr


def test_predict_keeps_rows_and_adds_columns(folder: Path) -> None:
    for suffix in ("csv", "jsonl", "parquet"):
        out = folder / f"told.{suffix}"
        done = rebus("predict", str(folder / "run"), str(folder / "words.csv"), "--out", str(out))
        assert done.exit_code == 0, done.output
    with open(folder / "told.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 80
    assert {row["classify"] for row in rows} <= {"yes", "no"}
    assert rows[0]["text"] == "the day was bad 0"
    lines = (folder / "told.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["classify"] for line in lines] == [row["classify"] for row in rows]


def test_predict_refuses_a_suffix_it_does_not_write(folder: Path) -> None:
    done = rebus("predict", str(folder / "run"), str(folder / "words.csv"), "--out", str(folder / "told.xlsx"))
    assert done.exit_code == 2
    assert ".parquet" in done.stderr


def test_evaluate_prints_and_writes_the_same(folder: Path) -> None:
    out = folder / "figures.json"
    done = rebus("evaluate", str(folder / "run"), "--split", "all", "--by", "label", "--out", str(out))
    assert done.exit_code == 0, done.output
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert figures["rows"] == {"classify": 80}
    assert f"{figures['tasks']['classify']['metrics']['accuracy']:.3f}" in done.stdout
    assert sorted(figures["by"]["classify"]) == ["no", "yes"]


@pytest.mark.parametrize(
    ("words", "hint"), [(["--split", "tset"], "test"), (["--by", "lable"], "label"), (["none.csv"], "no such file")]
)
def test_evaluate_refuses_what_is_not_there(folder: Path, words: list[str], hint: str) -> None:
    done = rebus("evaluate", str(folder / "run"), *words)
    assert done.exit_code == 2
    assert hint in done.stderr


def test_report_in_both_languages(folder: Path) -> None:
    path = folder / "run" / "report.html"
    for lang, word in (("zh", "基线"), ("en", "aseline")):
        done = rebus("report", str(folder / "run"), "--lang", lang)
        assert done.stdout.strip() == str(path)
        assert word in path.read_text(encoding="utf-8")
    assert rebus("report", str(folder / "run"), "--lang", "fr").exit_code == 2


def test_dry_run_tells_size_and_writes_nothing(folder: Path) -> None:
    out = folder / "dry"
    done = rebus("train", str(folder / "words.csv"), "--dry-run", "--out", str(out), *SMALL)
    assert done.exit_code == 0, done.output
    assert not out.exists()
    recipe, _, estimate = done.stdout.rpartition("parameters")
    assert yaml.safe_load(recipe)["model"]["text"]["kind"] == "encoder"
    assert "MiB" in estimate
    assert re.search(r"steps\s+\d[\d,]*, \S+ passes over the training rows", estimate)


def test_dry_run_tells_what_a_time_limit_is_enough_for(folder: Path) -> None:
    small = [word for word in SMALL if word != "--set"]
    short, long = (
        api.dry_run(folder / "words.csv", settings=[*small, f"train.time_limit={limit}"]) for limit in (1, 100)
    )
    assert (short.seconds, long.seconds) == (60.0, 6000.0)
    assert short.steps > 1
    assert 10 < long.steps / short.steps < 1000
    assert long.epochs / long.steps == pytest.approx(short.epochs / short.steps)


def test_data_check_json_is_what_training_keeps(folder: Path) -> None:
    out = folder / "check.json"
    done = rebus("data", "check", str(folder / "words.csv"), "--json", str(out))
    assert done.exit_code == 0, done.output
    kept = json.loads((folder / "run" / "check.json").read_text(encoding="utf-8"))
    assert json.loads(out.read_text(encoding="utf-8")) == from_json(kept)  # there notes are keys


def test_a_model_that_classifies_text_is_not_asked_about_images(folder: Path) -> None:
    done = rebus("ask", str(folder / "run"), "nowhere.png", "the day was good")
    assert done.exit_code in (0, 2)
    assert "Traceback" not in done.output


def test_damaged_weights_are_told(folder: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(folder / "run", tmp_path / "run")
    weights = tmp_path / "run" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    done = rebus("evaluate", str(tmp_path / "run"))
    assert done.exit_code == 2
    assert "model.safetensors" in done.stderr
