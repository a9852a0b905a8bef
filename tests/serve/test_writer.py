"""Text as it is told: space, lines and stop strings, in whatever pieces it comes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rebus.generation.requests import Step, Token
from rebus.generation.texts import TextDecoder
from rebus.serve.bodies import read_json
from rebus.serve.settings import Limits
from rebus.serve.writer import Tidy, _Text
from rebus.text.stream import StreamDecoder

LETTERS = "ab \n。"


def told(text: str, tidy: Tidy, stop: tuple[str, ...] = ()) -> tuple[str, Any]:
    """The text written one character a step, as it is told, and why it ended."""
    made = _Text(TextDecoder(StreamDecoder(lambda ids: "".join(map(chr, ids))), stop), tidy)
    said = ""
    for number, letter in enumerate(text):
        last = number == len(text) - 1
        piece, end = made.take(Step(0, (Token(ord(letter), -1.0),), "length" if last else None, -1.0))
        said += piece
        if end is not None:
            assert made.ended
            return said, end
    return said, None


@given(st.text(LETTERS, min_size=1, max_size=20))
def test_a_text_told_in_pieces_is_the_whole_one_without_space_around_it(text: str) -> None:
    assert told(text, "whole") == (text, "length")
    assert told(text, "strip") == (text.strip(), "length")
    line, end = told(text, "line")
    assert line == text.strip().split("\n", 1)[0].strip()
    assert end == ("stop" if "\n" in text.lstrip() else "length")


@given(st.text(LETTERS, min_size=1, max_size=20), st.text(LETTERS, min_size=1, max_size=3))
def test_nothing_after_a_stop_string_is_told(text: str, stop: str) -> None:
    said, end = told(text, "whole", (stop,))
    assert said == text.split(stop, 1)[0]
    assert end == ("stop" if stop in text else "length")


@given(
    st.recursive(
        st.none() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
        lambda part: st.lists(part) | st.dictionaries(st.text(), part),
        max_leaves=20,
    )
)
def test_json_that_is_within_the_limits_passes(value: Any) -> None:
    import json

    for ascii_only in (True, False):
        text = json.dumps(value, ensure_ascii=ascii_only)
        try:
            text.encode()
        except UnicodeEncodeError:
            continue
        if any(0xD800 <= ord(one) < 0xE000 for one in str(value)):
            continue
        read_json(text.encode(), Limits())


@pytest.mark.parametrize("text", ['{"a": "\\ud800"}', '["\\udc00\\ud800"]', '["\\ud83d \\ude00"]'])
def test_half_characters_are_refused(text: str) -> None:
    with pytest.raises(Exception, match="half a character"):
        read_json(text.encode(), Limits())


@pytest.mark.parametrize("text", ['["\\ud83d\\ude00"]', '["\\\\ud800"]', '["\\\\\\\\udc00"]'])
def test_whole_characters_and_words_about_halves_pass(text: str) -> None:
    read_json(text.encode(), Limits())
