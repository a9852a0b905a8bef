"""Text as it comes is the text that comes of all ids at once, without half characters."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rebus.text.tokenizer import MASK, SMALLEST, Tokenizer
from tiny_tokenizers import MAKERS, TEXTS


@pytest.fixture(scope="module")
def all_kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    found = {name: Tokenizer.load(make(tmp_path_factory.mktemp(name))) for name, make in MAKERS.items()}
    return found | {"own": Tokenizer.train(TEXTS, 400)}


@given(text=st.text(max_size=40), size=st.integers(1, 4))
@pytest.mark.parametrize("name", ["own", "chatml", "llama2", "bert"])
def test_pieces_make_the_whole(all_kinds: dict[str, Tokenizer], name: str, text: str, size: int) -> None:
    t = all_kinds[name]
    ids = t.encode(text)
    stream = t.stream()
    pieces = [stream.push(ids[at : at + size]) for at in range(0, len(ids), size)]
    assert "".join(pieces) + stream.finish() == t.decode(ids)


@given(ids=st.lists(st.integers(7, 299), max_size=40))
@pytest.mark.parametrize("name", ["own", "chatml"])  # others decode a run of bytes as a whole: what came may change
def test_bytes_that_are_no_text_do_not_stop_it(all_kinds: dict[str, Tokenizer], name: str, ids: list[int]) -> None:
    t = all_kinds[name]
    stream = t.stream()
    assert "".join(stream.push(one) for one in ids) + stream.finish() == t.decode(ids)


def test_no_half_characters_and_no_waiting(all_kinds: dict[str, Tokenizer]) -> None:
    t = all_kinds["own"]
    text = "ab 🐈 猫 cd" * 30
    stream = t.stream()
    shown = ""
    for one in t.encode(text):
        piece = stream.push(one)
        assert "\ufffd" not in piece
        shown += piece
        assert text.startswith(shown)
    assert shown == text
    assert len(stream._ids) < 64  # a long text is not decoded again and again


@given(text=st.text(max_size=60))
@pytest.mark.parametrize("pattern", ["qwen2", "gpt-2", "smollm", "llama-bpe"])
def test_other_patterns_give_every_text_back(patterned: dict[str, Tokenizer], pattern: str, text: str) -> None:
    t = patterned[pattern]
    ids = t.encode(text)
    assert t.decode(ids) == text
    assert not set(ids) & set(range(8))
    assert t.pattern == pattern
    assert not t.is_foreign


@pytest.fixture(scope="module")
def patterned() -> dict[str, Tokenizer]:
    names = ("qwen2", "gpt-2", "smollm", "llama-bpe")
    return {name: Tokenizer.train(TEXTS, 500, pattern=name, nfkc=False, specials=[MASK]) for name in names}


def test_nfkc_is_kept_in_the_tokenizer(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    t = Tokenizer.train(TEXTS, 400, pattern="qwen2")
    assert t.decode(t.encode("ＡＢ ﬁ  \n\n\n x")) == "AB fi  \n\n\n x"
    t.save(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)("ＡＢ ﬁ").input_ids == t.encode("AB fi")


def test_a_mask_is_there_when_asked_for(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    t = Tokenizer.train(TEXTS, SMALLEST + 1, specials=[MASK])
    assert t.mask_id == 7
    assert t.encode(MASK, allow_special=True) == [7]
    assert 7 not in t.encode(MASK)
    t.save(tmp_path)
    assert Tokenizer.load(tmp_path).mask_id == 7
    assert AutoTokenizer.from_pretrained(tmp_path).mask_token_id == 7
    assert Tokenizer.train(TEXTS, 400).mask_id is None


def test_fingerprints_tell_tokenizers_apart(tmp_path: Path) -> None:
    one, same, other = Tokenizer.train(TEXTS, 400), Tokenizer.train(TEXTS, 400), Tokenizer.train(TEXTS, 300)
    assert one.fingerprint == same.fingerprint != other.fingerprint
    one.save(tmp_path)
    assert Tokenizer.load(tmp_path).fingerprint == one.fingerprint
    assert len(one.fingerprint) == 64
