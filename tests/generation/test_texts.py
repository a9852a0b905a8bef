"""Stop strings and streaming: the same text however it is cut into pieces."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rebus.errors import RecipeError
from rebus.generation.decoders.packed import PackedDecoder
from rebus.generation.engine import Engine
from rebus.generation.sampling import Sampling
from rebus.generation.texts import StopStrings, TextWriter
from rebus.models.towers.decoder import Decoder
from rebus.text.tokenizer import Tokenizer

Make = Callable[..., Decoder]
WORDS = ["the cat sat on the mat. 猫坐在垫子上。 1 2 3\n", 'a dog ran 狗跑了 "x": [1, 2]']


def cut(text: str, stops: list[str]) -> str:
    """Up to the stop string that is whole first, and of several that are, the longest."""
    for end in range(len(text) + 1):
        met = [len(stop) for stop in stops if text[:end].endswith(stop)]
        if met:
            return text[: end - max(met)]
    return text


@given(
    st.lists(st.text("ab猫", max_size=4), max_size=12),
    st.lists(st.text("ab猫", min_size=1, max_size=4), max_size=3),
)
def test_stop_strings_cut_where_the_whole_text_would_be_cut(pieces: list[str], stops: list[str]) -> None:
    held = StopStrings(stops)
    said, met = "", False
    for piece in pieces:
        fresh, met = held.push(piece)
        said += fresh
        if met:
            break
    if not met:
        said += held.finish()
    assert said == cut("".join(pieces), stops)


def test_only_what_may_begin_a_stop_string_is_held_back() -> None:
    held = StopStrings(["\nUser:", "###"])
    assert held.push("Hello") == ("Hello", False)
    assert held.push(" there\n") == (" there", False)
    assert held.push("Us") == ("", False)
    assert held.push("ual #") == ("\nUsual ", False)
    assert held.push("##x") == ("", True)


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer.train(WORDS * 3, 300)


@pytest.fixture
def writer(tokenizer: Tokenizer, decoder_of: Make) -> TextWriter:
    engine = Engine(PackedDecoder(decoder_of(vocab=tokenizer.vocab_size)), tokenizer.eos_ids)
    return TextWriter(engine, tokenizer.stream)


def test_streamed_pieces_are_the_whole_text(tokenizer: Tokenizer, writer: TextWriter) -> None:
    prompts = [tokenizer.encode("the cat"), tokenizer.encode("狗")]
    sampling = Sampling(40, temperature=2.0, n=2, seed=3)
    written = writer.engine.write(prompts, sampling)
    told = [""] * 4
    ends: dict[int, str] = {}
    for piece in writer.pieces(prompts, sampling):
        told[piece.number] += piece.text
        if piece.end is not None:
            ends[piece.number] = piece.end
    assert told == [tokenizer.decode(text.ids) for text in written]
    assert [ends[number] for number in range(4)] == [text.end for text in written]
    whole = writer.write(prompts, sampling)
    assert [text.text for text in whole] == told
    assert [[token.id for token in text.tokens] for text in whole] == [text.ids for text in written]


def test_no_half_character_is_ever_told(tokenizer: Tokenizer) -> None:
    """A model that says one Chinese sentence, whose characters are several tokens each."""
    said = "猫坐在 mat 鱼🐟!"
    ids = tokenizer.encode(said)
    assert len(ids) > len(said)
    decoder = tokenizer.stream()
    pieces = [decoder.push(one) for one in ids]
    pieces.append(decoder.finish())
    assert "".join(pieces) == tokenizer.decode(ids)
    assert all("\ufffd" not in piece for piece in pieces)


def test_stop_strings_end_each_text_by_itself(tokenizer: Tokenizer, writer: TextWriter) -> None:
    prompts = [tokenizer.encode(text) for text in ("the", "cat 1", "狗跑")]
    sampling = Sampling(30, temperature=3.0, seed=1)
    free = [text.text for text in writer.write(prompts, sampling)]
    stops = [free[0][4:6], free[1][9:12]]
    stopped = writer.write(prompts, sampling, stop=stops)
    for text, whole in zip(stopped, free, strict=True):
        assert text.text == cut(whole, stops)
        assert text.end == ("stop" if cut(whole, stops) != whole else "length")
    assert "stop" in {text.end for text in stopped}


def test_beams_are_cut_at_stop_strings_too(tokenizer: Tokenizer, writer: TextWriter) -> None:
    prompts, sampling = [tokenizer.encode("the")], Sampling(12, beams=3)
    free = writer.write(prompts, sampling)[0].text
    told = writer.write(prompts, sampling, stop=[free[3:5]])[0]
    assert (told.text, told.end) == (cut(free, [free[3:5]]), "stop")


def test_an_empty_stop_string_is_refused(writer: TextWriter) -> None:
    with pytest.raises(RecipeError, match="stop"):
        writer.write([[4]], Sampling(2), stop=[""])


def test_a_stream_that_is_left_ends_quietly(tokenizer: Tokenizer, writer: TextWriter) -> None:
    pieces = writer.pieces([tokenizer.encode("the")], Sampling(1000))
    next(pieces)
    pieces.close()
    assert torch.is_inference_mode_enabled() is False
