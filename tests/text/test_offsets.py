from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rebus.text.normalise import normalise
from rebus.text.offsets import lower_aligned, normalise_aligned
from rebus.text.tokenizer import Tokenizer

TEXTS = ["New York is big, résumé and naïve.", "北京市在中国。我在北京。", "cafe\u0301 ﬁne １２３ 👩\u200d👩\u200d👧"]
TOKENIZER = Tokenizer.train(TEXTS * 3, 420)


def shown(text: str, offsets: list[tuple[int, int]]) -> list[str]:
    return [text[start:end] for start, end in offsets]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  New  York ", ["New", " York"]),
        ("ﬁne", ["ﬁ", "ne"]),
        ("cafe\u0301 is", ["cafe\u0301", " is"]),
        ("１２３", ["１", "２", "３"]),
    ],
)
def test_offsets_are_in_the_text_as_it_was_given(text: str, expected: list[str]) -> None:
    ids, offsets = TOKENIZER.encode_with_offsets(text)
    assert ids == TOKENIZER.encode(text)
    assert len(offsets) == len(ids)
    assert [part.strip() for part in shown(text, offsets)][: len(expected)] == [part.strip() for part in expected]


def test_the_bytes_of_an_emoji_all_stand_at_the_emoji() -> None:
    text = "a 🦊"
    ids, offsets = TOKENIZER.encode_with_offsets(text)
    assert len(ids) > 3  # the fox was never seen: bytes
    assert set(shown(text, offsets)[1:]) <= {" ", "🦊", " 🦊"}


def test_a_broken_half_of_a_character_moves_no_offset() -> None:
    text = "a\ud83d New"
    ids, offsets = TOKENIZER.encode_with_offsets(text)
    assert ids == TOKENIZER.encode(text)
    assert shown(text, offsets)[-1].strip() == "New"


@given(st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_text_gives_the_same_ids_and_offsets_inside_it(text: str) -> None:
    ids, offsets = TOKENIZER.encode_with_offsets(text)
    assert ids == TOKENIZER.encode(text)
    assert all(0 <= start <= end <= len(text) for start, end in offsets)
    plain, places = normalise_aligned(text)
    assert plain == normalise(text)
    assert len(plain) == len(places)
    lowered, moved = lower_aligned(plain, places)
    assert (lowered, len(lowered)) == (plain.lower(), len(moved))


@given(st.text(alphabet="ab éI\u0301北京ﬁ１ \n", max_size=30))
@settings(max_examples=100, deadline=None)
def test_what_a_piece_points_at_is_what_it_says(text: str) -> None:
    """No letter of the text is skipped: every one that is not white space is pointed at by some piece."""
    _, offsets = TOKENIZER.encode_with_offsets(text)
    seen = {place for start, end in offsets for place in range(start, end)}
    silent = [c for i, c in enumerate(text) if i not in seen and not c.isspace() and unicodedata.category(c) != "Mn"]
    assert silent == []
