"""``rebus data check`` and training decide alike on every table: by the same code, stopped before the first step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rebus.cli.app import app
from rebus.errors import RebusError
from rebus.recipe import Data, Recipe
from rebus.training.train import make_ready
from tiny_tables import write_images

Maker = Callable[[Path], Path]


def csv(header: str, line: str, rows: int = 40, **last: str) -> Maker:
    def make(folder: Path) -> Path:
        lines = [line.replace("#", str(i)).replace("@", "ab"[i % 2]) for i in range(rows)]
        path = folder / "table.csv"
        path.write_text("\n".join([header, *lines, *last.values()]) + "\n")
        return path

    return make


def records(row: dict[str, Any], images: bool = False, ending: str = "jsonl") -> Maker:
    def make(folder: Path) -> Path:
        rows = [json.loads(json.dumps(row).replace("#", str(i)).replace("@", "ab"[i % 2])) for i in range(24)]
        if images:
            write_images(folder, *(f"{i}.png" for i in range(24)))
        path = folder / f"rows.{ending}"
        path.write_text("\n".join(map(json.dumps, rows)))
        return path

    return make


def folder_of(*names: str) -> Maker:
    def make(folder: Path) -> Path:
        write_images(folder, *(name.replace("#", str(i)) for name in names for i in range(4)))
        return folder

    return make


TABLES: dict[str, tuple[Maker, int]] = {  # and the exit status of the check
    "classes of texts": (csv("text,label", "a film number #,@"), 0),
    "an empty label": (csv("text,label", "a film number #,@", last="a film,"), 2),
    "a class alone": (csv("text,label", "a film number #,x"), 2),
    "labels and nothing to read": (csv("code,label", "x#,@"), 2),
    "text alone": (csv("text", "a film number #"), 0),
    "text and a language": (csv("text,language", "a film number #,@"), 2),
    "a target that is no number": (csv("text,price", "a film number #,1.#", last="a film,dear"), 2),
    "one row": (csv("text,label", "a film number #,@", rows=1), 2),
    "no row": (csv("text,label", "", rows=0), 2),
    "images that are not there": (csv("image,label", "#.png,@"), 2),
    "images": (records({"image": "#.png", "label": "@"}, images=True), 0),
    "an image in a list": (records({"query": "what?", "response": "@", "images": ["#.png"]}, images=True), 0),
    "two images a row": (records({"query": "what?", "response": "@", "images": ["#.png", "0.png"]}, images=True), 0),
    "pairs of answers": (records({"prompt": "say #", "chosen": "a", "rejected": "b"}), 2),
    "answers rated": (records({"prompt": "say #", "completion": "a", "label": True}), 2),
    "a history": (records({"query": "say #", "response": "@", "history": [["q", "a"]]}), 0),
    "a broken history": (records({"query": "say #", "response": "@", "history": [["q"]]}), 2),
    "turns": (records({"messages": [{"role": "user", "content": "#"}, {"role": "assistant", "content": "@"}]}), 0),
    "turns without an answer": (records({"messages": [{"role": "user", "content": "say #"}]}), 2),
    "tags": (records({"tokens": ["in", "Rome#"], "ner_tags": ["O", "B-LOC"]}), 0),
    "tags that do not fit": (records({"tokens": ["in", "Rome#"], "ner_tags": ["O"]}), 2),
    "splits and strays": (folder_of("train/a/#.png", "train/b/#.png", "test/a/#.png", "test/b/#.png", "new/#.png"), 0),
    "splits or classes": (folder_of("train/#.png", "test/#.png", "cat/#.png", "dog/#.png", "cow/#.png"), 2),
    "nothing": (lambda folder: folder, 2),
}


def refusal(data: Data, folder: Path) -> RebusError | None:
    """What training says before its first step; None: it would begin."""
    try:
        make_ready(Recipe(data=data), lambda _: None, folder)
    except RebusError as error:
        return error
    return None


@pytest.mark.parametrize("name", TABLES)
def test_the_check_and_training_decide_alike(tmp_path: Path, name: str) -> None:
    make, status = TABLES[name]
    (tmp_path / "data").mkdir()
    path = make(tmp_path / "data")
    told = CliRunner().invoke(app, ["data", "check", str(path)])
    assert isinstance(told.exception, SystemExit | RebusError | None)
    code = told.exit_code if not isinstance(told.exception, RebusError) else told.exception.exit_code
    assert code == status
    assert (refusal(Data(path=str(path)), tmp_path / "shards") is not None) == (code == 2)


@pytest.mark.parametrize("name", ["an empty label", "a target that is no number", "a broken history"])
def test_where_bad_rows_are_left_out_the_check_lists_them_and_training_begins(tmp_path: Path, name: str) -> None:
    path = TABLES[name][0](tmp_path)
    if name == "a broken history":  # of which one row is whole
        lines = path.read_text().split("\n")
        whole = [line.replace('[["q"]]', '[["q", "a"]]') for line in lines[:20]]
        path.write_text("\n".join(whole + lines[20:]))
    told = CliRunner().invoke(app, ["data", "check", str(path), "--set", "data.on_bad=skip"])
    assert told.exit_code == 1
    assert "bad row" in told.output
    assert refusal(Data(path=str(path), on_bad="skip"), tmp_path / "shards") is None
