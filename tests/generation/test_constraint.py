"""Whatever a model with random weights writes, it is of the schema or matches the expression."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from rebus.errors import MissingPackageError, RecipeError
from rebus.generation.constraint import Guide
from rebus.generation.decoders.packed import PackedDecoder
from rebus.generation.engine import Engine
from rebus.generation.sampling import Sampling
from rebus.generation.texts import TextWriter
from rebus.models.towers.decoder import Decoder
from rebus.text.tokenizer import Tokenizer

Make = Callable[..., Decoder]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"enum": ["cat", "狗", 'a "bird"']},
        "legs": {"type": "integer", "minimum": 0, "maximum": 8},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    },
    "required": ["name", "legs", "tags"],
    "additionalProperties": False,
}
PROMPTS = [[5, 9, 33], [6], [11, 30, 4, 22]]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(['{"name": "cat", "legs": 4, "tags": [true, false]} 狗有四条腿 abc-123'] * 3, 330)


@pytest.fixture(scope="module")
def guide(tokenizer: Tokenizer) -> Guide:
    return Guide(tokenizer.to_json(), tokenizer.eos_ids, tokenizer.vocab_size)


@pytest.fixture
def writer(tokenizer: Tokenizer, decoder_of: Make) -> TextWriter:
    made = decoder_of(vocab=tokenizer.vocab_size + 7)  # more rows than ids
    return TextWriter(Engine(PackedDecoder(made), tokenizer.eos_ids, vocab_size=tokenizer.vocab_size), tokenizer.stream)


@pytest.mark.parametrize("temperature", [0.0, 1.0, 5.0])
def test_json_is_always_of_the_schema(writer: TextWriter, guide: Guide, temperature: float) -> None:
    sampling = Sampling(80, temperature=temperature, n=4, seed=1)
    for text in writer.write(PROMPTS, sampling, constraint=guide.json_schema(SCHEMA)):
        assert text.end == "eos"
        found = json.loads(text.text)
        assert list(found) == ["name", "legs", "tags"]
        assert found["name"] in SCHEMA["properties"]["name"]["enum"]
        assert isinstance(found["legs"], int)
        assert 0 <= found["legs"] <= 8
        assert all(isinstance(tag, bool) for tag in found["tags"])
        assert len(found["tags"]) <= 3


@pytest.mark.parametrize("pattern", [r"[a-c]{2}-[0-9]{3}", r"(猫|狗){1,3}有[0-9]条腿", r"yes|no"])
def test_texts_match_the_expression(writer: TextWriter, guide: Guide, pattern: str) -> None:
    said = {
        text.text for text in writer.write(PROMPTS, Sampling(60, temperature=2.0, n=4), constraint=guide.regex(pattern))
    }
    assert all(re.fullmatch(pattern, text) for text in said)
    assert len(said) > 1


def test_a_constraint_may_be_used_again(writer: TextWriter, guide: Guide) -> None:
    constraint = guide.regex("(ab|ba)+")
    first, second = (writer.write(PROMPTS, Sampling(9), constraint=constraint) for _ in range(2))
    assert [text.text for text in first] == [text.text for text in second]


@pytest.mark.parametrize("wrong", ['{"type": "objekt"}', '{"type": ', "[1]", '{"$ref": "#/nowhere"}'])
def test_wrong_schemas_are_told(guide: Guide, wrong: str) -> None:
    with pytest.raises(RecipeError, match="JSON schema"):
        guide.json_schema(wrong)


def test_wrong_expressions_are_told(guide: Guide) -> None:
    with pytest.raises(RecipeError, match="regular expression"):
        guide.regex("(ab")


def test_a_missing_library_is_told(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(MissingPackageError, match=r"rebus-vlm\[guided\]"):
        Guide(tokenizer.to_json(), tokenizer.eos_ids, tokenizer.vocab_size)
