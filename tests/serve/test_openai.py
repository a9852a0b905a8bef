"""The package ``openai``, which others wrote, against a real server: what it asks for is what it gets."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from pydantic import BaseModel

from rebus.generation.sampling import Sampling
from rebus.inference.generate import Writing
from rebus.inference.predictor import Predictor
from tiny_server import COLOURS, Running, as_url, running, shown, square

openai = pytest.importorskip("openai")
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "What is left of the red car?"}]}


@pytest.fixture(scope="module")
def client(seeing: Running) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{seeing.url}/v1", api_key="none", max_retries=0, timeout=30) as made:
        yield made


@pytest.fixture(scope="module")
def offline(seer: Path) -> Predictor:
    """The same model, asked in this process without a server."""
    return Predictor.open(seer)


def test_a_chat_says_what_the_model_says_offline(client: Any, offline: Predictor) -> None:
    told = client.chat.completions.create(model="seer", max_tokens=12, **ASK)
    writing = Writing(offline.model, offline.tasks, offline.processor)
    expected = writing.write([writing.turns(ASK["messages"])], Sampling(12))[0]
    assert told.choices[0].message.content == expected.text.strip()
    assert told.choices[0].message.role == "assistant"
    assert told.choices[0].finish_reason == "length"
    assert (told.object, told.model) == ("chat.completion", "seer")
    assert told.usage.completion_tokens == len(expected.tokens) == 12
    assert told.usage.prompt_tokens == len(writing.turns(ASK["messages"]))
    assert told.usage.total_tokens == told.usage.prompt_tokens + 12


def test_a_seed_gives_the_texts_that_it_gives_offline(client: Any, offline: Predictor) -> None:
    writing = Writing(offline.model, offline.tasks, offline.processor)
    sampling = Sampling(8, temperature=0.9, top_p=0.95, seed=5, n=3, frequency_penalty=0.3)
    expected = [text.text.strip() for text in writing.write([writing.turns(ASK["messages"])], sampling)]
    how: dict[str, Any] = {"temperature": 0.9, "top_p": 0.95, "seed": 5, "n": 3, "frequency_penalty": 0.3}
    told = client.chat.completions.create(model="seer", max_completion_tokens=8, **ASK, **how)
    assert [choice.message.content for choice in told.choices] == expected
    assert [choice.index for choice in told.choices] == [0, 1, 2]
    assert len(set(expected)) == 3
    other = client.chat.completions.create(model="seer", max_completion_tokens=8, **ASK, **{**how, "seed": 6})
    assert [choice.message.content for choice in other.choices] != expected


def test_a_stream_has_a_role_the_same_text_an_end_and_the_usage(client: Any) -> None:
    how: dict[str, Any] = {"model": "seer", "max_tokens": 10, "seed": 3, "temperature": 0.8, "n": 2, **ASK}
    whole = client.chat.completions.create(**how)
    chunks = list(client.chat.completions.create(**how, stream=True, stream_options={"include_usage": True}))
    assert [chunk.choices[0].delta.role for chunk in chunks[:2]] == ["assistant", "assistant"]
    for index in range(2):
        of = [one.choices[0] for one in chunks if one.choices and one.choices[0].index == index]
        assert "".join(one.delta.content or "" for one in of) == whole.choices[index].message.content
        assert [one.finish_reason for one in of if one.finish_reason] == [whole.choices[index].finish_reason]
        assert of[-1].finish_reason
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens == 20
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1
    without = list(client.chat.completions.create(**how, stream=True))
    assert all(chunk.choices for chunk in without)


def test_a_stream_ends_with_done(seeing: Running) -> None:
    with seeing.http.stream(
        "POST", "/v1/chat/completions", json={"model": "seer", "stream": True, "max_tokens": 2, **ASK}
    ) as told:
        lines = [line for line in told.iter_lines() if line]
        assert told.headers["content-type"].startswith("text/event-stream")
    assert lines[-1] == "data: [DONE]"
    assert all(line.startswith("data: {") for line in lines[:-1])


def test_the_async_client_gets_many_streams_at_once_and_none_is_crossed(seeing: Running, offline: Predictor) -> None:
    writing = Writing(offline.model, offline.tasks, offline.processor)
    questions = [f"What is number {number}?" for number in range(12)]
    asked = [[{"role": "user", "content": question}] for question in questions]
    expected = [
        writing.write([writing.turns(one)], Sampling(7, temperature=0.7, seed=seed))[0].text.strip()
        for seed, one in enumerate(asked)
    ]

    async def ask_all() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{seeing.url}/v1", api_key="none", max_retries=0) as client:

            async def ask(seed: int, messages: Any) -> str:
                how = {"max_tokens": 7, "temperature": 0.7, "seed": seed, "stream": True}
                stream = await client.chat.completions.create(model="seer", messages=messages, **how)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            return await asyncio.gather(*(ask(seed, one) for seed, one in enumerate(asked)))

    assert asyncio.run(ask_all()) == expected


def test_images_change_the_answer_as_they_do_offline(client: Any, seeing: Running, offline: Predictor) -> None:
    told = []
    for colour in ("red", "blue"):
        messages = [shown("What is it?", as_url(square(colour)))]
        answer = client.chat.completions.create(model="seer", messages=messages, max_tokens=8, logprobs=True)
        parts = [{"type": "image", "path": square(colour)}, {"type": "text", "text": "What is it?"}]
        expected = offline.answer([{"role": "user", "content": parts}], sampling=Sampling(8)).value
        assert answer.choices[0].message.content == expected
        told.append([token.logprob for token in answer.choices[0].logprobs.content])
    assert told[0] != told[1]


def test_several_questions_on_one_image_encode_it_once(client: Any, seeing: Running) -> None:
    before, url, calls = seeing.writer.stats(), as_url(square("green")), []
    tower = seeing.served.predictor.model.image  # type: ignore[union-attr]
    hook = tower.register_forward_hook(lambda *given: calls.append(1))
    try:
        for question in ("What is it?", "What colour?", "Where is it?", "What is it?"):
            client.chat.completions.create(model="seer", messages=[shown(question, url)], max_tokens=3)
    finally:
        hook.remove()
    assert len(calls) == 1
    after = seeing.writer.stats()
    assert (after.images_made - before.images_made, after.images_reused - before.images_reused) == (1, 3)


def test_logprobs_are_the_models_own(client: Any, offline: Predictor) -> None:
    told = client.chat.completions.create(model="seer", max_tokens=5, logprobs=True, top_logprobs=3, **ASK)
    writing = Writing(offline.model, offline.tasks, offline.processor)
    expected = writing.write([writing.turns(ASK["messages"])], Sampling(5, alternatives=3))[0]
    found = told.choices[0].logprobs.content
    np.testing.assert_allclose([one.logprob for one in found], [one.logprob for one in expected.tokens], atol=1e-4)
    assert [one.token for one in found] == [offline.processor.tokenizer.piece(one.id) for one in expected.tokens]
    for one, token in zip(found, expected.tokens, strict=True):
        assert len(one.top_logprobs) == 3
        assert one.top_logprobs[0].logprob == pytest.approx(one.logprob, abs=1e-4)  # greedy: the likeliest
        assert [other.token for other in one.top_logprobs] == [
            offline.processor.tokenizer.piece(other) for other, _ in token.alternatives
        ]
        assert bytes(one.bytes).decode("utf-8", "replace") == one.token


def test_a_text_ends_before_a_stop_string(client: Any) -> None:
    whole = client.chat.completions.create(model="seer", max_tokens=16, **ASK).choices[0].message.content
    stop = whole[4:6]
    told = client.chat.completions.create(model="seer", max_tokens=16, stop=[stop, "never said"], **ASK).choices[0]
    assert told.message.content == whole[: whole.index(stop)].rstrip()
    assert told.finish_reason == "stop"
    streamed = client.chat.completions.create(model="seer", max_tokens=16, stop=stop, stream=True, **ASK)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == told.message.content


class Car(BaseModel):
    """What the answer is to be."""

    colour: Literal["red", "blue"]
    new: bool


def test_structured_output_is_what_was_asked_for(client: Any) -> None:
    pytest.importorskip("llguidance")
    told = client.chat.completions.parse(model="seer", response_format=Car, max_tokens=60, **ASK).choices[0]
    assert isinstance(told.message.parsed, Car)
    free = client.chat.completions.create(
        model="seer", response_format={"type": "json_object"}, max_tokens=200, temperature=1.0, seed=4, **ASK
    ).choices[0]
    if free.finish_reason == "stop":  # a model that knows nothing may go on for long
        assert isinstance(json.loads(free.message.content), dict)
    assert free.message.content.startswith("{")


def test_completions_go_on_from_prompts(client: Any, offline: Predictor) -> None:
    writing = Writing(offline.model, offline.tasks, offline.processor)
    prompts = ["What is", "The blue"]
    expected = writing.write([writing.prompt(one) for one in prompts], Sampling(6))
    told = client.completions.create(model="seer", prompt=prompts, max_tokens=6, temperature=0)
    assert [choice.text for choice in told.choices] == [one.text for one in expected]
    ids = client.completions.create(model="seer", prompt=writing.prompt(prompts[0]), max_tokens=6)
    assert ids.choices[0].text == expected[0].text
    echoed = client.completions.create(model="seer", prompt=prompts[0], max_tokens=6, echo=True)
    assert echoed.choices[0].text == prompts[0] + expected[0].text
    chunks = list(client.completions.create(model="seer", prompt=prompts, max_tokens=6, stream=True))
    for index in range(2):
        text = "".join(one.choices[0].text for one in chunks if one.choices[0].index == index)
        assert text == expected[index].text
    scored = client.completions.create(model="seer", prompt=prompts[0], max_tokens=4, logprobs=2).choices[0].logprobs
    assert scored.token_logprobs == pytest.approx([one.logprob for one in expected[0].tokens[:4]], abs=1e-4)
    assert scored.text_offset[0] == 0
    assert len(client.completions.create(model="seer", prompt="a", max_tokens=1, n=2).choices) == 2


def test_embeddings_of_texts_and_images_share_a_space(matched: Path) -> None:
    predictor = Predictor.open(matched)
    with running(matched) as made:
        client = openai.OpenAI(base_url=f"{made.url}/v1", api_key="none", max_retries=0)
        texts = [f"a {colour} square" for colour in COLOURS]
        told = client.embeddings.create(model="run", input=texts)  # base64, as the client asks for
        vectors = np.array([one.embedding for one in told.data])
        np.testing.assert_allclose(vectors, predictor.embed(texts), atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        plain = client.embeddings.create(model="run", input=texts[0], encoding_format="float").data[0].embedding
        np.testing.assert_allclose(plain, vectors[0], atol=1e-6)
        parts: Any = [{"type": "image_url", "image_url": {"url": as_url(square(one))}} for one in ("red", "blue")]
        mixed = client.embeddings.create(model="run", input=[*parts, texts[0]])
        expected = [*predictor.embed_images([square("red"), square("blue")]), vectors[0]]
        np.testing.assert_allclose([one.embedding for one in mixed.data], expected, atol=1e-5)
        assert told.usage.prompt_tokens == sum(len(predictor.processor.read(text)) for text in texts)
        ids = predictor.processor.tokenizer.encode(texts[0])
        np.testing.assert_allclose(client.embeddings.create(model="run", input=ids).data[0].embedding, plain, atol=1e-5)
        with pytest.raises(openai.BadRequestError, match="dimensions"):
            client.embeddings.create(model="run", input="a", dimensions=3)
        raw = made.http.post("/v1/embeddings", json={"model": "run", "input": "a", "encoding_format": "base64"}).json()
        assert np.frombuffer(base64.b64decode(raw["data"][0]["embedding"]), "<f4").shape == (vectors.shape[1],)


def test_models_are_listed(client: Any) -> None:
    assert [one.id for one in client.models.list()] == ["seer"]
    assert client.models.retrieve("seer").owned_by == "rebus"


@pytest.mark.parametrize(
    ("error", "change"),
    [
        ("NotFoundError", {"model": "gpt-4"}),
        ("BadRequestError", {"messages": []}),
        ("BadRequestError", {"temperature": 3.0}),
        ("BadRequestError", {"n": 99}),
        ("BadRequestError", {"max_tokens": 10**9}),
        ("BadRequestError", {"top_logprobs": 3}),
        ("BadRequestError", {"messages": [{"role": "tool", "content": "x"}]}),
        ("BadRequestError", {"messages": [{"role": "user", "content": None}]}),
        ("BadRequestError", {"messages": [{"role": "user", "content": "word " * 5000}]}),
        ("BadRequestError", {"tools": [{"type": "function", "function": {"name": "f"}}]}),
        ("BadRequestError", {"logit_bias": {"5": 10.0}}),
        ("BadRequestError", {"extra_body": {"temprature": 1.0}}),
    ],
)
def test_errors_are_those_that_the_client_knows(client: Any, error: str, change: dict[str, Any]) -> None:
    with pytest.raises(getattr(openai, error)) as caught:
        client.chat.completions.create(**{"model": "seer", "max_tokens": 2, **ASK, **change})
    body = caught.value.body
    assert set(body) == {"message", "type", "param", "code"}
    assert body["message"]


def test_a_short_text_is_not_cut_by_long_limits_and_unsaid_options_may_be_null(client: Any) -> None:
    told = client.chat.completions.create(
        model="seer", max_tokens=1, stop=None, seed=None, user="me", metadata={"a": "b"}, store=False, tools=[], **ASK
    )
    again = [*ASK["messages"], told.choices[0].message.model_dump(), {"role": "user", "content": "And?"}]
    assert client.chat.completions.create(model="seer", max_tokens=1, messages=again).usage.completion_tokens == 1
