"""Bad settings and bad recipes through the real command: one paragraph, status 2, nothing written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rebus.cli.app import app


def rebus(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "words.csv"
    rows = [f"a good one number {i},yes" if i % 2 else f"a bad one number {i},no" for i in range(60)]
    path.write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    return path


def refused(done: Any, hint: str, folder: Path) -> None:
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.output
    for part in ("expected", "found", "What to do:", hint):
        assert part in done.stderr, done.stderr
    assert not (folder / "out").exists()


BAD_SETTINGS = [
    (["--set", "train.lrr=1"], "lr"),
    (["--set", "lr=1"], "train.lr"),
    (["--set", "train.lr"], "key=value"),
    (["--set", "train.lr=fast"], "number"),
    (["--set", "train.lr=-1"], "greater than 0"),
    (["--set", "train.optimizer=adam"], "adamw"),
    (["--set", "train.batch_size=0"], "greater than or equal to 1"),
    (["--set", "image.size=4"], "greater than or equal to 8"),
    (["--set", "data.kinds.label=word"], "category"),
    (["--set", "tasks.3.weight=2"], "a task that is named"),
    (["--set", "seed=[1"], "YAML"),
    (["--seed", "-1"], "greater than or equal to 0"),
    (["--time-limit", "0"], "greater than 0"),
    (["--kind", "label"], "COLUMN=KIND"),
    (["--kind", "label=word"], "category"),
    (["--kind", "lable=text"], "label"),
    (["--fusion", "jiont"], "joint"),
    (["--image", "convnte"], "convnet"),
    (["--image", "encoder"], "a tower that reads an image"),
    (["--text", "decodre"], "decoder"),
    (["--text", "vit"], "a tower that reads a text"),
    (["--text", "none"], "a tower that reads the text"),
    (["--tune", "loar"], "'full', 'lora' or 'head'"),
    (["--tune", "lora"], "--from"),
    (["--task", "caption"], "image"),
    (["--task", "regress"], "numbers"),
    (["--set", "text.tokenizer=nowhere"], "nowhere"),
    (["--task", "clasify"], "classify"),
    (["--split-column", "fold"], "label"),
    (["--group-column", "lable"], "label"),
    (["--set", "model.text.heads=5"], "heads"),
    (["--set", "model.text.weights=nowhere"], "nowhere"),
    (["--from", "nowhere"], "nowhere"),
    (["--recipe", "nowhere.yaml"], "no such file"),
]


@pytest.mark.parametrize(("words", "hint"), BAD_SETTINGS, ids=[" ".join(words) for words, _ in BAD_SETTINGS])
def test_a_bad_setting_is_refused_at_the_door(table: Path, words: list[str], hint: str) -> None:
    refused(rebus("train", table.name, "--out", "out", "--quiet", *words), hint, table.parent)


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("", "mapping"),
        ("train: [", "YAML"),
        ("trian: {lr: 1}", "train"),
        ("train: {learning_rate: 1}", "lr"),
        ("seed: !!python/object/apply:os.getcwd []", "YAML"),
        ("tasks: [{name: classify}, {name: classify}]", "once"),
        ("tasks: [{name: classify, columns: {lable: label}}]", "label"),
        ("tasks: [{name: classify, columns: {label: lable}}]", "lable"),
    ],
)
def test_a_bad_recipe_is_refused_at_the_door(table: Path, content: str, hint: str) -> None:
    (table.parent / "recipe.yaml").write_text(content, encoding="utf-8")
    refused(rebus("train", table.name, "--out", "out", "--quiet", "--recipe", "recipe.yaml"), hint, table.parent)


BAD_RUNS = [
    ["predict", "nowhere", "words.csv", "--out", "out"],
    ["evaluate", "nowhere", "words.csv"],
    ["ask", "nowhere", "what?"],
    ["chat", "nowhere"],
    ["report", "nowhere"],
    ["train", "--resume", "nowhere"],
]


@pytest.mark.parametrize("words", BAD_RUNS, ids=[words[0] for words in BAD_RUNS])
def test_a_run_that_is_not_there_is_refused(table: Path, words: list[str]) -> None:
    refused(rebus(*words), "no such folder", table.parent)


@pytest.mark.parametrize("words", BAD_RUNS, ids=[words[0] for words in BAD_RUNS])
def test_a_folder_that_is_no_run_is_refused(table: Path, words: list[str]) -> None:
    (table.parent / "empty").mkdir()
    refused(rebus(*("empty" if word == "nowhere" else word for word in words)), "Run", table.parent)


@pytest.mark.parametrize(
    "words", [["train", "none.csv"], ["data", "check", "none.csv"], ["train", "none.csv", "--dry-run"]]
)
def test_a_table_that_is_not_there_is_refused(table: Path, words: list[str]) -> None:
    refused(rebus(*words), "no such file", table.parent)
