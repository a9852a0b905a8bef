"""``rebus data shard`` and ``rebus data clean``, from the command line to the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rebus.cli.app import app
from rebus.data.corpus import PackedRows, Shards
from rebus.text.tokenizer import MASK, Tokenizer

ENGLISH = "It is a truth universally acknowledged, that a single man must be in want of a wife. {}"
CHINESE = "床前明月光，疑是地上霜。举头望明月，低头思故乡！{}"


def rebus(*words: str | Path) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "both.jsonl"
    lines = [text.format(number * 7919 % 10007) for number in range(150) for text in (ENGLISH, CHINESE)]
    path.write_text("".join(json.dumps({"text": line}) + "\n" for line in [*lines, lines[0], ""]))
    return path


def test_shards_from_a_command(corpus: Path, tmp_path: Path) -> None:
    words = (
        "data",
        "shard",
        corpus,
        tmp_path / "out",
        "--set",
        "text.vocab_size=500",
        "--set",
        "corpus.block=64",
    )
    done = rebus(*words, "--json", tmp_path / "report.json")
    assert done.exit_code == 0, done.output
    train, valid, *packed = done.stdout.splitlines()
    assert train.startswith("train\t")
    assert valid.startswith("valid\t")
    assert packed[0].startswith("bestfit rows of 64: ")
    assert packed[0].endswith("(corpus.packing)")
    assert "left out, same: 1" in done.stderr
    assert "left out, empty: 1" in done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    tokenizer = Tokenizer.load(tmp_path / "out")
    shards = Shards.open(tmp_path / "out", tokenizer_hash=tokenizer.fingerprint, vocab_size=tokenizer.vocab_size)
    assert report["splits"]["train"]["tokens"] == shards.documents("train").tokens
    assert report["splits"]["train"]["documents"] + report["splits"]["valid"]["documents"] == 300
    texts = {tokenizer.decode(ids) for ids in (shards.documents("train")[0], shards.documents("train")[1])}
    assert texts == {ENGLISH.format(0), CHINESE.format(0)}  # to the last sign: no comma has become another
    row, _ = PackedRows(shards, "train", 64).row(0, 0)
    assert row[0] == tokenizer.eos_id
    again = rebus(*words)
    assert again.exit_code == 0
    assert "used again" in again.stderr
    other = rebus(*words, "--set", "corpus.clean.exact=false")
    assert other.exit_code == 2
    assert "corpus.clean.exact was True, is False" in other.stderr
    assert rebus(*words, "--set", "corpus.clean.exact=false", "--rebuild").exit_code == 0


def test_shards_for_masked_models(corpus: Path, tmp_path: Path) -> None:
    done = rebus("data", "shard", corpus, tmp_path / "out", "--words", "--set", "text.vocab_size=500")
    assert done.exit_code == 0, done.output
    tokenizer = Tokenizer.load(tmp_path / "out")
    assert tokenizer.piece(tokenizer.mask_id or 0) == MASK
    rows = PackedRows(Shards.open(tmp_path / "out"), "train", 64)
    ids, starts, _ = rows.row_words(0, 0)
    assert len(ids) == len(starts)
    assert 0.1 < starts.mean() < 1
    plain = rebus("data", "shard", corpus, tmp_path / "plain", "--set", "text.vocab_size=500")
    assert plain.exit_code == 0
    refused = rebus("data", "shard", corpus, tmp_path / "x", "--words", "--tokenizer", tmp_path / "plain")
    assert refused.exit_code == 2
    assert MASK in refused.stderr


def test_cleaning_from_a_command(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "clean.jsonl.gz"
    done = rebus("data", "clean", corpus, "--out", out, "--set", "corpus.clean.languages=[zh]", "--workers", "2")
    assert done.exit_code == 0, done.output
    assert "302 documents" in done.stdout
    assert "150 kept" in done.stdout
    assert "left out, language: 151" in done.stdout
    assert "both.jsonl, line 1: It is a truth" in done.stdout
    again = rebus("data", "clean", out, "--json", tmp_path / "report.json")
    assert "150 kept" in again.stdout
    assert json.loads((tmp_path / "report.json").read_text())["kept"] == 150


def test_mistakes_are_told_in_a_paragraph(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("first,second\nsome text,more text\n")
    for words, told in (
        (("data", "clean", tmp_path / "none.txt"), "nothing there"),
        (("data", "clean", tmp_path / "a.csv"), "--set corpus.column=NAME"),
        (("data", "clean", tmp_path / "a.csv", "--column", "third"), "corpus.column"),
        (("data", "shard", tmp_path / "a.csv", tmp_path / "o", "--column", "first", "--tokenizer", "x"), "x"),
        (("data", "clean", tmp_path / "a.csv", "--set", "corpus.clean.nkfc=true"), "did you mean 'nfkc'"),
    ):
        done = rebus(*words)
        assert done.exit_code == 2, done.output
        assert told in done.stderr
        assert "Traceback" not in done.output
