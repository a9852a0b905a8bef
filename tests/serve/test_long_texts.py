"""A text with more tokens than the model reads is refused by every route, never cut; rows may lack what tables may."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rebus.inference.predictor import Predictor
from tiny_server import Running, as_url, running, shown, square, write_run

LONG = "A sentence about nothing. " * 30 + "How many things are there?"
MOST = 32  # tokens of a text of the Run


@pytest.mark.parametrize(
    ("route", "body", "place"),
    [
        ("chat/completions", {"messages": [{"role": "user", "content": LONG}]}, "messages"),
        ("chat/completions", {"messages": [shown(LONG, as_url(square()))], "stream": True}, "messages"),
        ("embeddings", {"input": LONG}, "input"),
        ("embeddings", {"input": ["a", {"type": "text", "text": LONG}]}, "input[1]"),
        ("embeddings", {"input": [[70] * 400]}, "input[0]"),
        ("predict", {"task": "classify", "rows": [{"question": "a"}, {"question": LONG}]}, "rows[1].question"),
        ("predict", {"task": "answer", "rows": [{"question": LONG, "image": None}]}, "rows[0].question"),
        ("predict", {"task": "regress", "rows": [{"question": "a"}] * 9 + [{"question": LONG}]}, "rows[9].question"),
        ("predict", {"task": "classify", "rows": [{"question": LONG}], "explain": True}, "rows[0].question"),
    ],
)
def test_every_route_refuses_a_text_that_does_not_fit(
    answering: Running, route: str, body: dict[str, Any], place: str
) -> None:
    told = answering.http.post(f"/v1/{route}", json={"model": "run", **body})
    error = told.json()["error"]
    assert (told.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", place)
    assert f"at most {MOST}" in error["message"]


def test_a_long_prompt_or_conversation_is_refused_too(seeing: Running) -> None:
    most = seeing.writer.context
    turns = [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "A cat."}] * most
    for route, body in (
        ("chat/completions", {"messages": [*turns[:400], turns[0]]}),
        ("completions", {"prompt": "What is it? " * most}),
    ):
        told = seeing.http.post(f"/v1/{route}", json={"model": "seer", **body})
        assert (told.status_code, told.json()["error"]["code"]) == (400, "context_length_exceeded")


def test_rows_may_lack_what_a_table_may_leave_blank(answering: Running, asked: Path) -> None:
    """Classifying reads an image or a text or both: a row without the column means what a blank cell means."""
    url = as_url(square("blue"))
    rows: list[dict[str, Any]] = [
        {"question": "What colour?"},
        {"image": url},
        {"question": "What colour?", "image": url},
        {"question": "", "image": url},
    ]
    told = answering.http.post("/v1/predict", json={"rows": rows, "task": "classify"})
    assert told.status_code == 200, told.text
    whole = [{"question": None, "image": None} | row for row in rows]
    assert answering.http.post("/v1/predict", json={"rows": whole, "task": "classify"}).json() == told.json()
    for row, one in zip(rows, told.json()["data"], strict=True):
        alone = answering.http.post("/v1/predict", json={"rows": [row], "task": "classify"}).json()["data"][0]
        assert alone["scores"] == pytest.approx(one["scores"], rel=1e-4)
    cells = [{**row, "image": square("blue") if row["image"] else None} for row in whole]
    offline = Predictor.open(asked).predict(cells, task="classify")
    for one, known in zip(told.json()["data"], offline, strict=True):
        assert one["scores"] == pytest.approx(known.scores, rel=1e-4)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"Question": "What?"}, "did you mean 'question'?"),
        ({"image": None}, "no column 'question'"),
        ({"text": "What?"}, "'text' is not one of the model's"),
        ({}, "no column"),
    ],
)
def test_a_column_that_nobody_knows_is_not_taken_for_a_blank(answering: Running, row: Any, words: str) -> None:
    for task in ("classify", "answer"):
        told = answering.http.post("/v1/predict", json={"rows": [{"question": "a", "image": None}, row], "task": task})
        assert told.status_code == 400
        assert told.json()["error"]["param"] == "rows[1]"
        assert words in told.json()["error"]["message"]


def test_columns_beside_the_models_are_no_error_where_its_own_are_there(answering: Running) -> None:
    row = {"question": "What?", "image": None, "id": 7, "answer": "red"}
    assert answering.http.post("/v1/predict", json={"rows": [row], "task": "classify"}).status_code == 200


@pytest.mark.parametrize("fusion", ["joint", "cross"])
def test_a_tower_that_reads_the_question_counts_too(tmp_path: Path, fusion: str) -> None:
    with running(write_run(tmp_path, "answer", fusion=fusion)) as made:
        assert made.chat("What colour is it?").status_code == 200
        told = made.chat(LONG, as_url(square()))
        assert (told.status_code, told.json()["error"]["code"]) == (400, "context_length_exceeded")
