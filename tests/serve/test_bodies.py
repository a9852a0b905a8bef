"""A request's body: measured before it is parsed, validated up to the first error, refused in one plain sentence."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rebus.serve.bodies import PORTION, measure_json, read_body, read_json
from rebus.serve.errors import ApiError
from rebus.serve.schemas import Body, ChatRequest, CompletionRequest, EmbeddingRequest, PredictRequest
from rebus.serve.settings import Limits

MIB = 2**20
IMAGE = "data:image/png;base64,AAAA"


def refused(body: Any, model: type[Body] = ChatRequest) -> ApiError:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(ApiError) as caught:
        read_body(content, model, Limits())
    assert caught.value.status == 400
    return caught.value


def asked(content: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content}]}


@pytest.mark.parametrize(
    ("body", "place", "words"),
    [
        (asked([]), "messages[0].content", "at least one entry"),
        (asked({}), "messages[0].content", "expected a string or a list, received an empty object"),
        (asked(5), "messages[0].content", "received the number 5"),
        (asked(["x"]), "messages[0].content[0]", "expected an object, received a string"),
        (asked([{"text": "x"}]), "messages[0].content[0]", "'type'"),
        (asked([{"type": "text"}]), "messages[0].content[0].text", "is missing"),
        (asked([{"type": "txt", "text": "x"}]), "messages[0].content[0]", "did you mean 'text'?"),
        (asked([{"type": "input_image", "image_url": IMAGE}]), "messages[0].content[0]", '{"type": "image_url"'),
        (asked([{"type": "input_text", "text": "x"}]), "messages[0].content[0]", '{"type": "text"'),
        (asked([{"type": "image_url", "image_url": 5}]), "messages[0].content[0].image_url", "an object or a string"),
        (asked([{"type": "image_url", "image_url": {"uri": "x"}}]), "messages[0].content[0].image_url.url", "missing"),
        ({"model": "m"}, "messages", "is missing"),
        ({**asked("a"), "messages": []}, "messages", "at least one entry"),
        ({**asked("a"), "messages": [{"rol": "user", "content": "a"}]}, "messages[0].role", "is missing"),
        ({**asked("a"), "temperature": "0.5"}, "temperature", "expected a number, received a string"),
        ({**asked("a"), "n": 1.5}, "n", "expected a whole number, received the number 1.5"),
        ({**asked("a"), "stream": "yes"}, "stream", "expected true or false, received a string"),
        ({**asked("a"), "temprature": 1}, "temprature", "no such field"),
        ({**asked("a"), "logit_bias": {"5": 1.0}}, "logit_bias", "not supported"),
        ([], None, "expected an object, received an empty list"),
        (None, None, "expected an object, received null"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(body: Any, place: str | None, words: str) -> None:
    error = refused(body)
    assert error.param == place
    assert error.message.startswith(f"{place or 'the body'}: ")
    assert words in error.message
    for term in ("union", "discriminator", "pydantic", "Input should", "dict", "str:"):
        assert term not in error.message


def test_an_address_may_stand_in_the_place_of_its_object() -> None:
    for given_as in (IMAGE, {"url": IMAGE}):
        part = {"type": "image_url", "image_url": given_as}
        body = read_body(json.dumps(asked([part])).encode(), ChatRequest, Limits())
        assert body.messages[0].content[0].url == IMAGE  # type: ignore[index, union-attr]


NULLS = [None] * 190_000
COSTLY: list[tuple[str, type[Body], Any]] = [
    ("nulls for messages", ChatRequest, {"model": "m", "messages": NULLS}),
    ("empty messages", ChatRequest, {"model": "m", "messages": [{}] * 19_000}),
    ("unknown fields", ChatRequest, {**asked("a"), **{f"x{number}": 1 for number in range(90_000)}}),
    ("fewer unknown fields", ChatRequest, {**asked("a"), **{f"x{number}": 1 for number in range(49_000)}}),
    ("unknown fields of messages", ChatRequest, {"model": "m", "messages": [{f"x{i}": 1 for i in range(20)}] * 4000}),
    ("a map of biases", ChatRequest, {**asked("a"), "logit_bias": {f"{number}": "x" for number in range(90_000)}}),
    ("metadata", ChatRequest, {**asked("a"), "metadata": {f"{number}": 1 for number in range(90_000)}}),
    ("stops that are numbers", ChatRequest, {**asked("a"), "stop": [1] * 190_000}),
    ("parts that are none", ChatRequest, asked(NULLS)),
    ("nulls for prompts", CompletionRequest, {"model": "m", "prompt": NULLS}),
    ("a word behind many ids", CompletionRequest, {"model": "m", "prompt": [1] * 190_000 + ["a"]}),
    ("nulls for inputs", EmbeddingRequest, {"model": "m", "input": NULLS}),
    ("empty inputs", EmbeddingRequest, {"model": "m", "input": [[]] * 90_000}),
    ("nulls for rows", PredictRequest, {"rows": NULLS}),
    ("quotes", ChatRequest, b'"' * (31 * MIB)),
    ("escapes", ChatRequest, b'{"model":"' + b'\\"' * (15 * MIB) + b'"}'),
    ("backslashes", ChatRequest, b"\\" * (31 * MIB)),
    ("blanks", ChatRequest, b" " * (31 * MIB)),
    ("digits", ChatRequest, b'{"n":' + b"9" * (3 * MIB) + b"}"),
    ("brackets", ChatRequest, b"[" * (31 * MIB)),
    ("pairs of brackets", ChatRequest, b"[" + b"[]," * MIB + b"1]"),
    ("objects", PredictRequest, b'{"rows":[{"a":[' + b"{}," * 60_000 + b"1]}]}"),
    ("keys", PredictRequest, b'{"rows":[{' + b",".join(b'"%d":1' % number for number in range(150_000)) + b"}]}"),
]


@pytest.mark.parametrize(
    ("model", "body"), [(model, body) for _, model, body in COSTLY], ids=[one[0] for one in COSTLY]
)
def test_costly_bodies_cost_little(model: type[Body], body: Any) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    start = time.thread_time()
    refused(content, model)
    assert time.thread_time() - start < 2.5  # it was 11 to 22 s


def test_a_long_string_that_is_no_image_is_refused_before_it_is_parsed() -> None:
    for text in ("a" * (5 * MIB), "https://" + "a" * (5 * MIB)):
        for content in (asked(text), {"rows": [{"question": "a"}, {"question": text}]}):
            assert "text of more than 200,000 characters" in refused(content).message
    texts = {"rows": [{"a": "x" * 199_999, "b": "你" * 199_999, "c": IMAGE + "A" * (5 * MIB), "d": "y" * 199_999}]}
    for ascii_only in (True, False):
        content = json.dumps(texts, ensure_ascii=ascii_only).encode()
        assert read_body(content, PredictRequest, Limits()).rows == texts["rows"]


def test_a_long_string_is_read_nearly_for_nothing() -> None:
    content = json.dumps(asked([{"type": "image_url", "image_url": IMAGE + "A" * (24 * MIB)}])).encode()
    start = time.thread_time()
    read_body(content, ChatRequest, Limits())
    assert time.thread_time() - start < 1


texts = st.text(st.sampled_from('ab"\\/[]{},:\n é你😀'), max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def depth_of(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth_of, inner), default=0)


@settings(max_examples=150, deadline=None)
@given(values, st.booleans(), st.integers(0, 40))
def test_any_value_is_measured_as_it_is_and_read_back(value: Any, ascii_only: bool, spaces: int) -> None:
    """Strings, escapes and portions that end anywhere change neither the depth nor the value."""
    content = b" " * (PORTION - spaces) + json.dumps(value, ensure_ascii=ascii_only).encode()
    assert read_json(content, Limits()) == value
    depth = depth_of(value)
    if depth:
        measure_json(content, Limits(json_depth=depth))
    if depth > 1:
        with pytest.raises(ApiError, match="deeper"):
            measure_json(content, Limits(json_depth=depth - 1))
