"""Conversations in every layout, choices in every spelling, and what is wrong with those that are broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rebus.data.check import check_table
from rebus.data.choices import AnswerStyle, choices_of
from rebus.data.kinds import infer
from rebus.data.messages import answered, turns_of
from rebus.data.readers import read_table
from rebus.data.table import Table
from rebus.errors import DataError
from rebus.recipe import Data

OPENAI = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi"},
]
SHAREGPT = [
    {"from": "system", "value": "Be short."},
    {"from": "human", "value": "Hello"},
    {"from": "gpt", "value": "Hi"},
]
PARTS = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in OPENAI]


@pytest.mark.parametrize("layout", [OPENAI, SHAREGPT, PARTS, json.dumps(SHAREGPT)])
def test_every_layout_is_the_same_conversation(layout: Any) -> None:
    assert turns_of(layout, "here") == OPENAI


def test_fields_that_another_layout_would_use_may_be_there_and_empty() -> None:
    """As Arrow gives rows of mixed layouts: every field in every turn."""
    mixed = [{"role": None, "content": None, "from": "human", "value": "你好", "weight": None}]
    assert turns_of(mixed, "here") == [{"role": "user", "content": "你好"}]


def test_an_answer_of_weight_zero_is_not_learned() -> None:
    turns = turns_of([*OPENAI, {"role": "user", "content": "?"}, {**OPENAI[2], "weight": 0}], "here")
    assert answered(turns) == 2
    assert answered(turns_of([{**OPENAI[2], "weight": 0}], "here")) is None


BROKEN: dict[str, tuple[Any, str]] = {
    "no list": ({"role": "user"}, "no list of turns"),
    "empty": ([], "without a turn"),
    "only an empty system turn": ([{"role": "system", "content": " "}], "without a turn"),
    "no role": ([{"content": "x"}], "turn 1 has no role"),
    "unknown role": ([*OPENAI, {"role": "tool", "content": "x"}], "'tool' (turn 4)"),
    "no text": ([{"role": "user", "content": None}], "turn 1 (user) is empty"),
    "a sound": ([{"role": "user", "content": [{"type": "input_audio"}]}], "type 'input_audio'"),
    "not an object": (["hello"], "not an object"),
    "not json": ("[{", "not JSON"),
    "a number": ([{"role": "user", "content": 7}], "holds int"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_conversation_is_told(name: str) -> None:
    value, told = BROKEN[name]
    with pytest.raises(DataError) as caught:
        turns_of(value, "chat.jsonl, line 7")
    assert caught.value.where == "chat.jsonl, line 7"
    assert told in caught.value.found
    assert all(caught.value.as_dict().values())


@pytest.mark.parametrize("ending", ["json", "jsonl", "parquet", "csv"])
@pytest.mark.parametrize(("key", "turns"), [("messages", OPENAI), ("conversations", SHAREGPT)])
def test_a_file_of_conversations_is_a_row_each(tmp_path: Path, ending: str, key: str, turns: Any) -> None:
    path = tmp_path / f"chat.{ending}"
    records = [{"id": str(number), key: turns} for number in range(3)]
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    elif ending == "csv":
        quoted = json.dumps(turns).replace('"', '""')
        path.write_text(f"id,{key}\n" + "\n".join(f'{number},"{quoted}"' for number in range(3)))
    else:
        path.write_text(json.dumps(records) if ending == "json" else "\n".join(map(json.dumps, records)))
    table = read_table(path)
    inference = infer(table)
    assert len(table) == 3
    (task,) = inference.tasks
    assert task.name == "converse"
    column = task.columns["messages"]
    assert inference.kinds[column] == "messages"
    assert turns_of(table.value(1, column), "here") == OPENAI


def test_conversations_about_images_stay_turn_pairs(tmp_path: Path) -> None:
    pair = [{"from": "human", "value": "<image>What?"}, {"from": "gpt", "value": "A cat."}]
    (tmp_path / "x.json").write_text(json.dumps([{"image": "a.png", "conversations": pair}]))
    assert list(read_table(tmp_path / "x.json")) == [{"image": "a.png", "question": "What?", "answer": "A cat."}]


def test_a_broken_line_is_named_or_left_out(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    bad = [{"role": "judge", "content": "x"}]
    path.write_text("\n".join(json.dumps({"messages": turns}) for turns in (OPENAI, bad, OPENAI)))
    with pytest.raises(DataError, match="line 2"):
        read_table(path)
    table = read_table(Data(path=str(path), on_bad="skip"))
    assert len(table) == 2
    assert "judge" in str(table.skipped[0])


def rows_of(*cells: Any, **more: Any) -> Table:
    return Table.from_rows([{"messages": cell, **more} for cell in cells], name="t.jsonl")


def bad_rows(table: Table, task: str | None = None) -> dict[int, str]:
    inference = infer(table, {}, [task] if task else [])
    report = check_table(table, Data(), inference.kinds, inference.tasks, ["train"] * len(table))
    assert not report.errors, report.errors
    return {row: str(error) for row, error in report.bad_rows.items()}


def test_the_check_names_rows_whose_conversation_is_broken() -> None:
    found = bad_rows(rows_of(OPENAI, [{"role": "", "content": "x"}], OPENAI[:2], None))
    assert set(found) == {1, 2, 3}
    assert "t.jsonl, row 2, column 'messages'" in found[1]
    assert "no role" in found[1]
    assert "at least one turn of the assistant's" in found[2]
    assert "nothing" in found[3]


def test_figures_of_conversations_are_told() -> None:
    table = rows_of(OPENAI, OPENAI)
    report = check_table(table, Data(), {"messages": "messages"}, [], [])
    assert report.columns["messages"]["turns"]["max"] == 3
    assert report.columns["messages"]["measured"] == 6


@pytest.mark.parametrize(
    ("answers", "choices", "expected"),
    [
        ([0, 2], [["a", "b", "c"]] * 2, [0, 2]),
        ([1, 3], [["a", "b", "c"]] * 2, [0, 2]),
        (["1", "3"], [["a", "b", "c"]] * 2, [0, 2]),
        ([1.0, 0.0], [["a", "b", "c"]] * 2, [1, 0]),
        (["A", "(c)", "b."], [["x", "y", "z"]] * 3, [0, 2, 1]),
        (["y", "z"], [["x", "y", "z"]] * 2, [1, 2]),
        (["3", "1"], [["1", "2", "3"], ["3", "1", "5"]], [2, 1]),
        (["红", "B"], [["红", "绿"]] * 2, [0, 1]),
        ([4, 0], [["a", "b", "c"]] * 2, [None, 0]),
        (["D", "w"], [["x", "y", "z"]] * 2, [None, None]),
    ],
)
def test_the_right_choice_is_found(answers: list[Any], choices: list[list[str]], expected: list[int | None]) -> None:
    style = AnswerStyle.of(answers, choices)
    assert [style.index(answer, options) for answer, options in zip(answers, choices, strict=True)] == expected


def test_choices_in_one_cell() -> None:
    assert choices_of("red| green |blue") == ["red", "green", "blue"]
    assert choices_of(["a", "", None, "b"]) == ["a", "b"]
    assert choices_of(None) == []


def test_the_check_names_rows_whose_choices_are_broken() -> None:
    good = {"question": "2 + 2?", "choices": ["3", "4", "5"], "answer": "B"}
    rows = [
        good,
        {**good, "choices": ["4"]},
        {**good, "answer": "E"},
        {**good, "answer": None},
        {**good, "answer": "x"},
    ]
    found = bad_rows(Table.from_rows(rows, name="quiz.jsonl"))
    assert set(found) == {1, 2, 3, 4}
    assert "quiz.jsonl, row 2, column 'choices': expected at least two choices; found '4' alone" in found[1]
    assert "a letter from A to C" in found[2]
    assert "column 'answer'" in found[3]


def test_a_source_without_a_target_is_named() -> None:
    rows = [{"source": f"text {n}", "target": f"文本{n}" if n != 1 else ""} for n in range(4)]
    found = bad_rows(Table.from_rows(rows, name="pairs.csv"))
    assert list(found) == [1]
    assert "pairs.csv, row 2, column 'target'" in found[1]
