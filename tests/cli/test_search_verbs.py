"""``rebus index``, ``rebus find`` and the frozen judgements of ``rebus evaluate``: parsed, handed on, printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, create_autospec

import pytest
from typer.testing import CliRunner

from rebus import api
from rebus.cli.app import app
from rebus.cli.evaluate import split_names
from rebus.errors import RunError
from rebus.retrieval.build_index import IndexSummary
from rebus.retrieval.search import Hit


def rebus(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


@pytest.fixture
def spies(monkeypatch: pytest.MonkeyPatch) -> dict[str, MagicMock]:
    made = {name: create_autospec(getattr(api, name)) for name in ("index", "find", "evaluate")}
    for name, spy in made.items():
        monkeypatch.setattr(api, name, spy)
    made["index"].return_value = IndexSummary(Path("r/index"), 1200, 3, 10, 1193, 2, 4, "each compared, by FAISS", 1.5)
    made["find"].return_value = [
        Hit(0.912, "image", "buses/1.png", "t.csv, row 1", "a red bus", Path("/d/buses/1.png")),
        Hit(0.5, "image", "buses/2.png", "t.csv, row 2", "", Path("/d/buses/2.png"), there=False),
    ]
    return made


def test_index_says_what_it_did(spies: dict[str, MagicMock]) -> None:
    done = rebus("index", "r", "images", "--out", "i", "--kind", "photo=image")
    assert done.exit_code == 0, done.output
    assert spies["index"].call_args.kwargs == {"out": Path("i"), "kinds": {"photo": "image"}}
    assert done.stdout == (
        "1,200 images and 3 texts in r/index: 10 embedded now, 1,193 known from before, 2 gone, "
        "4 could not be read (index.json lists them); each compared, by FAISS; 1.5 s\n"
    )


def test_find_prints_a_line_a_hit(spies: dict[str, MagicMock]) -> None:
    done = rebus("find", "r", "a red bus", "--k", "2", "--what", "image", "--rerank")
    assert done.stdout == "0.912\tbuses/1.png\ta red bus\n0.500\tbuses/2.png (gone)\t\n"
    assert spies["find"].call_args.args == ("r", "a red bus")
    assert spies["find"].call_args.kwargs == {"k": 2, "index": None, "what": "image", "rerank": True}


def test_find_prints_json_and_draws(spies: dict[str, MagicMock], tmp_path: Path) -> None:
    done = rebus("find", "r", "一辆红色的公交车", "--json", "--sheet", str(tmp_path / "s.png"))
    assert done.exit_code == 0, done.output
    hits = json.loads(done.stdout)
    assert [hit["there"] for hit in hits] == [True, False]
    assert hits[0]["path"] == "/d/buses/1.png"
    assert (tmp_path / "s.png").exists()
    assert "not shown" in done.stderr


def test_a_mistake_is_one_paragraph(spies: dict[str, MagicMock]) -> None:
    spies["find"].side_effect = RunError("r/index", "an index", "none", "make one: rebus index r FOLDER")
    done = rebus("find", "r", "a red bus")
    assert done.exit_code == 2
    assert "What to do: make one: rebus index r FOLDER" in done.stderr


def test_evaluate_hands_frozen_judgements_on(spies: dict[str, MagicMock]) -> None:
    words = "evaluate r t.csv --zero-shot --lang zh --labels"
    assert rebus(*words.split(), "猫， 狗,鸟,").exit_code == 0
    said = spies["evaluate"].call_args.kwargs
    assert (said["zero_shot"], said["labels"], said["lang"], said["probe"]) == (True, ["猫", "狗", "鸟"], "zh", None)
    assert rebus("evaluate", "r", "t.csv", "--probe", "knn").exit_code == 0
    assert spies["evaluate"].call_args.kwargs["probe"] == "knn"
    assert rebus("evaluate", "r", "t.csv", "--probe", "tree").exit_code == 2
    assert split_names(None) is None
