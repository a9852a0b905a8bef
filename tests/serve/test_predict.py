"""``/v1/predict`` and what chats do with models that answer or caption: the same as in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rebus.data.table import Table
from rebus.generation.sampling import Sampling
from rebus.inference.predict_table import predict_portion
from rebus.inference.predictor import Predictor
from tiny_checkpoints import write_bert, write_checkpoint
from tiny_server import COLOURS, Running, as_url, running, shown, square, write_run


@pytest.fixture(scope="module")
def offline(asked: Path) -> Predictor:
    return Predictor.open(asked)


def test_a_predicted_number_has_no_confidence(offline: Predictor) -> None:
    rows = Table.from_rows([{"image": square(colour), "question": "What colour?"} for colour in COLOURS])
    told, _ = predict_portion(offline, [offline.tasks["classify"], offline.tasks["regress"]], rows)
    assert list(told) == ["classify", "classify_confidence", "regress", "error"]
    assert all(0 <= sure <= 1 for sure in told["classify_confidence"])


@pytest.mark.parametrize("task", ["answer", "caption", "classify", "regress"])
def test_every_task_says_of_rows_what_it_says_offline(answering: Running, offline: Predictor, task: str) -> None:
    rows = [{"image": square(colour), "question": "What colour is the square?"} for colour in COLOURS]
    rows.append({"image": None, "question": "方块是什么颜色？"})
    expected = offline.predict(rows, task=task)
    sent = [{**row, "image": row["image"] and as_url(row["image"])} for row in rows]  # type: ignore[arg-type]
    told = answering.http.post("/v1/predict", json={"rows": sent, "task": task}).json()
    assert (told["object"], told["model"], told["task"]) == ("list", "run", task)
    assert [one["index"] for one in told["data"]] == list(range(len(rows)))
    for one, known in zip(told["data"], expected, strict=True):
        assert one["value"] == (pytest.approx(known.value, rel=1e-4) if task == "regress" else known.value)
        assert one["confidence"] == (None if task == "regress" else pytest.approx(known.confidence, rel=1e-4))
        assert one["scores"] == pytest.approx(known.scores, rel=1e-4)
        assert one["explanation"] is None


def test_a_task_that_nobody_named_is_the_first(answering: Running) -> None:
    told = answering.http.post("/v1/predict", json={"rows": [{"image": as_url(square()), "question": "What?"}]})
    assert told.json()["task"] == "answer"


@pytest.mark.parametrize(
    "body",
    [
        {"rows": [{"question": "What?"}], "task": "answers"},
        {"rows": [{"image": None}], "task": "answer"},
        {"rows": []},
        {"rows": "x"},
        {"rows": [{"question": "What?", "image": None}], "model": "other"},
        {"rows": [{"question": "What?", "image": None}], "target": "red"},
        {"rows": [{"question": "What?", "image": None}], "method": "occlusion"},
        {"rows": [{"question": "W" * 300_000, "image": None}]},
        {"rows": [{"question": ["a", {"b": None}], "image": None}], "task": "classify", "x": 1},
    ],
)
def test_rows_that_cannot_be_predicted_are_told(answering: Running, body: dict[str, Any]) -> None:
    told = answering.http.post("/v1/predict", json=body)
    assert told.status_code in (400, 404)
    assert told.json()["error"]["message"]


def test_cells_of_odd_kinds_are_no_defect_of_the_server(answering: Running) -> None:
    for cell in (7, 1.5, True, None, [1], {"a": 1}, ""):
        for task in ("answer", "classify"):
            body = {"rows": [{"question": cell, "image": None}], "task": task}
            assert answering.http.post("/v1/predict", json=body).status_code in (200, 400)


def test_an_explanation_says_what_mattered(answering: Running) -> None:
    row = {"image": as_url(square()), "question": "What colour?"}
    body = {"rows": [row], "task": "classify", "explain": True, "method": "occlusion"}
    told = answering.http.post("/v1/predict", json=body)
    assert told.status_code == 200, told.text
    why = told.json()["data"][0]["explanation"]
    assert why["method"] == "occlusion"
    assert len(why["image"]) == len(why["image"][0])
    assert [one["text"] for one in why["tokens"]]
    wrong = answering.http.post("/v1/predict", json={**body, "method": "guessing"})
    assert wrong.status_code == 400


@pytest.mark.parametrize("fusion", ["joint", "unified", "cross"])
def test_a_chat_with_a_model_that_answers_is_a_question(tmp_path: Path, fusion: str) -> None:
    run = write_run(tmp_path, "answer", fusion=fusion)
    offline = Predictor.open(run)
    with running(run) as made:
        for colour in ("red", "white"):
            for sampling in (Sampling(5), Sampling(5, temperature=1.0, seed=4)):
                expected = offline.ask(square(colour), "What colour is the square?", sampling=sampling).value
                how = {"max_tokens": 5, "temperature": sampling.temperature, "seed": sampling.seed}
                told = made.chat("What colour is the square?", as_url(square(colour)), **how).json()
                assert told["choices"][0]["message"]["content"] == expected
        blind = offline.ask(None, "What colour is the square?").value
        assert made.chat("What colour is the square?").json()["choices"][0]["message"]["content"] == blind


def test_the_last_text_counts_and_the_one_image_wherever_it_stands(answering: Running, offline: Predictor) -> None:
    messages = [
        {"role": "system", "content": "Be short."},
        shown("Something else.", as_url(square("blue"))),
        {"role": "assistant", "content": "red"},
        {"role": "user", "content": "What colour is the square?"},
    ]
    sent = answering.http.post("/v1/chat/completions", json={"model": "run", "messages": messages})
    told = sent.json()
    expected = offline.ask(square("blue"), "What colour is the square?").value
    assert told["choices"][0]["message"]["content"] == expected
    assert sent.headers["X-Rebus-Unread-Messages"] == "3"
    streamed = answering.chat("What colour is the square?", stream=True)
    assert "X-Rebus-Unread-Messages" not in streamed.headers
    body = {"model": "run", "messages": messages, "stream": True}
    assert answering.http.post("/v1/chat/completions", json=body).headers["X-Rebus-Unread-Messages"] == "3"


@pytest.mark.parametrize("together", [True, False])
def test_two_images_are_refused_in_either_order(answering: Running, together: bool) -> None:
    """No answer that depends on one of them alone: it would change when they are swapped, and nobody would know why."""
    urls = [as_url(square("red")), as_url(square("blue"))]
    for pair in (urls, urls[::-1]):
        messages = [shown("Which?", *pair)] if together else [shown("One.", pair[0]), shown("Which?", pair[1])]
        told = answering.http.post("/v1/chat/completions", json={"model": "run", "messages": messages})
        error = told.json()["error"]
        assert (told.status_code, error["code"]) == (400, "too_many_images")
        assert error["param"] == (
            "messages[0].content[1].image_url" if together else "messages[1].content[0].image_url"
        )
        assert "2 were sent" in error["message"]


def test_a_image_alone_is_captioned(answering: Running, offline: Predictor) -> None:
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": as_url(square())}}]}]
    told = answering.http.post("/v1/chat/completions", json={"model": "run", "messages": messages}).json()
    assert told["choices"][0]["message"]["content"] == offline.ask(square()).value


def test_models_that_do_not_do_a_thing_say_what_they_do(tmp_path: Path, matched: Path) -> None:
    write_checkpoint(tmp_path / "lm", "gpt2")
    with running(tmp_path / "lm") as made:
        told = made.chat("Hello")
        assert told.status_code == 400
        assert "/v1/completions" in told.json()["error"]["message"]
        body = {"model": "lm", "prompt": "the cat", "max_tokens": 3}
        assert made.http.post("/v1/completions", json=body).status_code == 200
        image = {"model": "lm", "input": [{"type": "image_url", "image_url": {"url": as_url(square())}}]}
        assert made.http.post("/v1/embeddings", json=image).status_code == 400
    write_bert(tmp_path / "bert")
    for source in (matched, tmp_path / "bert"):
        with running(source) as made:
            for path, body in (
                ("chat/completions", {"messages": [{"role": "user", "content": "a"}]}),
                ("completions", {"prompt": "a"}),
            ):
                told = made.http.post(f"/v1/{path}", json={"model": made.name, **body})
                assert told.status_code == 400
                assert told.json()["error"]["code"] == "no_text"
    write_checkpoint(tmp_path / "talker", chat=True)
    with running(tmp_path / "talker") as made:
        assert made.chat("the cat").status_code == 200
        told = made.chat("the cat", as_url(square()))
        assert told.json()["error"]["code"] == "no_images"
        schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
        assert made.chat("the cat", response_format=schema).status_code in (400, 501)  # words cannot spell JSON


def test_the_list_of_models_tells_tasks_and_columns(answering: Running) -> None:
    card = answering.http.get("/v1/models").json()["data"][0]
    assert card["sees_images"] is True
    assert {one["name"]: one["columns"] for one in card["tasks"]}["answer"]["question"] == "question"
