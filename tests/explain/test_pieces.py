"""Ids become pieces that people can read, at their places in the text."""

from __future__ import annotations

import pytest

from rebus.tasks.pieces import located, units_of_text, written_places
from rebus.text.tokenizer import Tokenizer

TEXTS = ["Where is the red bus?", "红色的公共汽车在哪里？", "don't", "naïve 公车 bus", "🚌 and 🚗"]


@pytest.fixture(scope="module")
def letters() -> Tokenizer:
    """A tokenizer that learned nothing: every byte is a piece."""
    return Tokenizer.train([], 264)


@pytest.mark.parametrize("text", TEXTS)
def test_bytes_are_joined_to_words_and_characters(letters: Tokenizer, text: str) -> None:
    ids, offsets = letters.encode_with_offsets(text)
    assert len(ids) >= len(text.replace(" ", ""))
    units = units_of_text(text, {"ids": list(offsets)})
    shown = [text[one.start : one.end] for one in units]
    assert "".join(shown) == text.replace(" ", "")  # nothing is lost and nothing is told twice
    held = [place for one in units for place in one.members["ids"]]
    assert len(held) == len(set(held))
    if text.isascii():
        assert shown == text.replace("?", " ?").split()
    if text.startswith("红"):
        assert shown == list(text)  # each character of several bytes is one piece


def test_two_ways_to_cut_a_text_meet_in_one_piece() -> None:
    text = "红色公共汽车"
    units = units_of_text(text, {"text_ids": [(0, 2), (2, 6)], "input_ids": [(0, 3), (3, 6)]})
    assert [(one.start, one.end) for one in units] == [(0, 6)]  # the pieces overlap throughout
    apart = units_of_text(text, {"text_ids": [(0, 2), (2, 6)], "input_ids": [None, (0, 2), (2, 4), (4, 6)]})
    assert [text[one.start : one.end] for one in apart] == ["红色", "公共汽车"]
    assert apart[1].members == {"text_ids": (1,), "input_ids": (2, 3)}


def test_a_text_is_found_in_a_prompt_that_cuts_it() -> None:
    wanted, offsets = [5, 6, 7, 8], [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert located([1, 5, 6, 7, 8, 2], wanted, offsets, 10) == [None, (10, 11), (11, 12), (12, 13), (13, 14), None]
    assert located([1, 7, 8, 2], wanted, offsets) == [None, (2, 3), (3, 4), None]
    assert located([1, 2], wanted, offsets) == [None, None]


def test_written_ids_have_places_in_what_they_say(letters: Tokenizer) -> None:
    ids = letters.encode("a 猫 cat")
    text, places = written_places(letters, ids)
    assert text == "a 猫 cat"
    assert len(places) == len(ids)
    cat = [place for place, (start, end) in enumerate(places) if text[start:end] == "猫"]
    assert len(cat) == 3  # its bytes share its place
    assert [text[one.start : one.end] for one in units_of_text(text, {"answer": list(places)})] == ["a", "猫", "cat"]


def test_half_a_character_at_the_end_is_told_as_such(letters: Tokenizer) -> None:
    text, places = written_places(letters, letters.encode("a猫")[:-1])
    assert text == "a\ufffd"
    assert len(places) == 3
