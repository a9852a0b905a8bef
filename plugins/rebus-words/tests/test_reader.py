"""Words and their ids."""

from __future__ import annotations

from pathlib import Path

import pytest

from rebus.errors import RunError
from rebus_words.reader import WordTokenizer


def test_the_most_frequent_words_get_ids_and_ties_go_by_alphabet() -> None:
    tokenizer = WordTokenizer.train(["b a c", "b a", "b d"], 5, "none")
    assert tokenizer.words == ["<|pad|>", "<|unknown|>", "b", "a", "c"]
    assert tokenizer.encode("A, d! b") == [3, 1, 2]
    assert tokenizer.decode([3, 1, 2, 0]) == "a <|unknown|> b"
    assert tokenizer.encode("?!") == []
    assert tokenizer.vocab_size == 5


def test_save_and_load(tmp_path: Path) -> None:
    tokenizer = WordTokenizer.train(["一只猫", "a cat"], 50, "none")
    tokenizer.save(tmp_path)
    again = WordTokenizer.load(tmp_path)
    assert again.words == tokenizer.words
    assert again.segment == "none"


@pytest.mark.parametrize(
    "content", [None, "", "[]", "{}", '{"words": [1], "segment": "none"}', '{"words": ["a"], "segment": "x"}']
)
def test_a_broken_file_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "words.json").write_text(content)
    with pytest.raises(RunError, match=r"words\.json"):
        WordTokenizer.load(tmp_path)


def shown(text: str, offsets: list[tuple[int, int]]) -> list[str]:
    return [text[start:end] for start, end in offsets]


@pytest.mark.parametrize("segment", ["none", "jieba"])
def test_words_point_at_themselves(segment: str) -> None:
    text = "Two CATS, 两只猫 ﬁne cafe\u0301!"
    reader = WordTokenizer.train([text], 50, segment)  # type: ignore[arg-type]
    ids, offsets = reader.encode_with_offsets(text)
    assert ids == reader.encode(text)
    han = ["两", "只", "猫"] if segment == "none" else ["两只", "猫"]
    assert shown(text, offsets) == ["Two", "CATS", *han, "ﬁne", "cafe\u0301"]


def test_a_capital_that_becomes_two_letters_moves_no_offset() -> None:
    text = "İ x cats"
    reader = WordTokenizer.train([text], 50)
    ids, offsets = reader.encode_with_offsets(text)
    assert ids == reader.encode(text)
    assert shown(text, offsets)[-1] == "cats"
