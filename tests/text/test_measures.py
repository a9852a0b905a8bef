"""How dense a tokenizer makes texts, and how large a vocabulary is worth its room."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rebus.checkpoints.tokenizers import inspect_tokenizer, train_tokenizer
from rebus.cli.app import app
from rebus.errors import DataError, RecipeError, RunError
from rebus.text.measures import cut, longest, measure, search_size, shortened
from rebus.text.tokenizer import Tokenizer
from tiny_tokenizers import TEXTS, bert, llama2

ENGLISH = ["The red car is left of the house.\n\n12\n", "It is a cat, isn't it?"]
CHINESE = ["图片里有一只猫。\n一共有12只动物。\n"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS, 400, pattern="qwen2")


def test_counts_are_those_of_the_texts(tokenizer: Tokenizer) -> None:
    found = {one.language: one for one in measure(tokenizer, [*ENGLISH, *CHINESE, "Ελληνικά"])}
    assert found.keys() == {"English", "Chinese", "other"}
    assert found["English"].bytes == sum(len(text.encode()) for text in ENGLISH)
    assert found["English"].tokens == sum(len(tokenizer.encode(text)) for text in ENGLISH)
    chinese = tokenizer.normalise(CHINESE[0])
    assert (found["Chinese"].characters, found["Chinese"].bytes) == (len(chinese), len(chinese.encode()))
    assert found["Chinese"].characters_per_token == len(chinese) / len(tokenizer.encode(chinese))
    assert found["other"].tokens == found["other"].single_bytes == found["other"].parts == 16  # two bytes a letter


def test_lines_of_two_languages_are_told_apart(tokenizer: Tokenizer) -> None:
    found = {one.language: one for one in measure(tokenizer, ["A cat and a dog.\n一只猫\nand so on\n12\n"])}
    assert found["Chinese"].characters == 4
    assert found["English"].characters == len("A cat and a dog.\nand so on\n12\n")


def test_unknown_words_are_counted_where_there_are_any(tmp_path: Path) -> None:
    assert measure(Tokenizer.load(bert(tmp_path)), ["zebra ☃ ☃"])[0].unknown >= 2
    found = measure(Tokenizer.load(llama2(tmp_path / "l")), ["cat 猫 鹦"])[0]
    assert found.unknown == 0
    assert found.single_bytes >= 3  # a character it has not seen, in bytes


def test_the_longest_pieces_and_a_cut(tokenizer: Tokenizer) -> None:
    pieces = longest(tokenizer, 5)
    assert len(pieces) == 5
    assert [len(piece) for piece in pieces] == sorted((len(piece) for piece in pieces), reverse=True)
    assert not any(piece.startswith("<|") for piece in pieces)
    assert "".join(cut(tokenizer, "A red car.")) == "A red car."


@pytest.mark.parametrize("pattern", ["qwen2", "rebus"])
def test_a_shortened_tokenizer_is_one_that_was_trained_shorter(pattern: str) -> None:
    whole, short = Tokenizer.train(TEXTS, 400, pattern=pattern), Tokenizer.train(TEXTS, 320, pattern=pattern)
    assert shortened(whole, 320).fingerprint == short.fingerprint
    assert shortened(whole, 400) is whole


def words(count: int) -> list[str]:
    """Lines of made-up words, the first ones far more often than the last."""
    draw = random.Random(0)
    known = ["".join(draw.choice("bdfgklmnprst") + draw.choice("aeiou") for _ in range(4)) for _ in range(800)]
    return [" ".join(known[min(int(draw.paretovariate(0.6)), 799)] for _ in range(40)) for _ in range(count)]


def test_the_size_is_the_first_whose_doubling_gains_little() -> None:
    lines = words(700)
    trained = Tokenizer.train(lines[:600], 65536, pattern="qwen2")
    found = search_size(trained, lines[600:], 0.1)
    gains = {step.size: step.gain for step in found.steps}
    assert sorted(gains) == list(gains)
    assert (gains[found.size] or 0) < 0.1
    assert all((gain or 0) >= 0.1 for size, gain in gains.items() if size < found.size)
    assert search_size(trained, lines[600:], 0.9).size <= found.size <= search_size(trained, lines[600:], 0.0).size
    rates = {step.size: step.bytes_per_token for step in found.steps}
    total = sum(len(line.encode()) for line in lines[600:])
    small = Tokenizer.train(lines[:600], 1024, pattern="qwen2")
    assert rates[1024] == pytest.approx(total / sum(map(len, small.encode_many(lines[600:]))))


def test_training_on_files_and_looking_at_it(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    for number, line in enumerate(words(60)):
        (tmp_path / f"text/{number}.txt").write_text(line + "\n一只猫在图片里。")
    found = train_tokenizer(tmp_path / "text", tmp_path / "tok", vocab_size="auto", mask=True)
    assert found.search is not None
    assert found.vocab_size == found.search.size
    assert found.pattern == "qwen2"
    saved = Tokenizer.load(tmp_path / "tok")
    assert saved.fingerprint == found.fingerprint
    assert saved.mask_id == 7
    assert {one.language for one in found.figures} == {"English", "Chinese"}
    seen = inspect_tokenizer(tmp_path / "tok", str(tmp_path / "text"))
    assert sum(one.tokens for one in seen.figures) > sum(one.tokens for one in found.figures)
    assert "".join(inspect_tokenizer(tmp_path / "tok", "a cat").cuts[0]) == "a cat"
    assert len(inspect_tokenizer(tmp_path / "tok/tokenizer.json").cuts) == 2


def test_the_commands(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(words(50)))
    run = CliRunner()
    out = ["--out", str(tmp_path / "tok"), "--json", str(tmp_path / "f.json")]
    told = run.invoke(app, ["tokenizer", "train", str(tmp_path / "a.txt"), "--vocab-size", "500", *out])
    assert told.exit_code == 0, told.output
    assert "500 pieces, cut as 'qwen2'" in told.output
    assert json.loads((tmp_path / "f.json").read_text())["vocab_size"] == 500
    told = run.invoke(app, ["tokenizer", "train", str(tmp_path / "a.txt"), *out])
    assert "doubling gains less than 10%" in told.output
    told = run.invoke(app, ["tokenizer", "inspect", str(tmp_path / "tok"), "bada bodo"])
    assert told.exit_code == 0, told.output
    assert "English\t9\t" in told.output


@pytest.mark.parametrize(
    ("words_", "said"),
    [
        (["train", "{here}/a.txt", "--vocab-size", "many", "--out", "{here}/x"], "a whole number or auto"),
        (["train", "{here}/a.txt", "--vocab-size", "12", "--out", "{here}/x"], "at least 263"),
        (["train", "{here}/empty.txt", "--out", "{here}/x"], "text to train a tokenizer on"),
        (["train", "{here}/none.txt", "--out", "{here}/x"], "none.txt"),
        (["inspect", "{here}/none"], "tokenizer.json"),
        (["inspect", "{here}/a.gguf"], "a GGUF file"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, words_: list[str], said: str) -> None:
    (tmp_path / "a.txt").write_text("a text")
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "a.gguf").write_bytes(b"nothing of the kind")
    told = CliRunner().invoke(app, ["tokenizer", *(word.format(here=tmp_path) for word in words_)])
    assert told.exit_code == 2, told.output
    assert said in told.output
    assert "What to do" in told.output


def test_errors_are_of_their_kinds(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(RecipeError):
        train_tokenizer(tmp_path / "a.txt", tmp_path / "x", vocab_size=12)
    with pytest.raises(DataError):
        train_tokenizer(tmp_path / "none.txt", tmp_path / "x")
    with pytest.raises(RunError):
        inspect_tokenizer(tmp_path / "x")
