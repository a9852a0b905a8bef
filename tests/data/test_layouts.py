"""Layouts of well-known data sets are read whole, or refused by name; nothing that they say is lost in silence."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rebus.data.check import CheckReport
from rebus.data.readers import read_table
from rebus.errors import DataError
from rebus.recipe import TaskSettings
from rebus.tasks.converse import Converse
from tiny_tables import checked, png, write_images

COLORS = ("red", "green", "blue", "white", "black")
PNG, SECOND = {"image": "0.png"}, "1.png"


def write_rows(folder: Path, rows: list[dict[str, Any]], ending: str = "jsonl", images: bool = True) -> Path:
    """Twenty rows: the given ones again and again, image ``0.png`` replaced by the row's own."""
    repeated = [json.loads(json.dumps(rows[i % len(rows)]).replace("0.png", f"{i}.png")) for i in range(20)]
    if images:
        write_images(folder, *(f"{i}.png" for i in range(20)))
    path = folder / f"rows.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(repeated), path)
    else:
        path.write_text(json.dumps(repeated) if ending == "json" else "\n".join(map(json.dumps, repeated)))
    return path


def report_of(folder: Path, rows: list[dict[str, Any]], ending: str = "jsonl") -> CheckReport:
    return checked(write_rows(folder, rows, ending)).report


def turns(*texts: str, **more: Any) -> list[dict[str, Any]]:
    return [{"role": ["user", "assistant"][i % 2], "content": text, **more} for i, text in enumerate(texts)]


ENDINGS = ("jsonl", "json", "parquet")


@pytest.mark.parametrize("ending", ENDINGS)
def test_vqa_answers_with_confidence_are_texts_the_most_frequent_first(tmp_path: Path, ending: str) -> None:
    said = [{"answer": word, "answer_confidence": "yes", "answer_id": i} for i, word in enumerate(("a", "red", "red"))]
    path = write_rows(tmp_path, [{**PNG, "question": "what?", "answers": said}], ending)
    report = checked(path).report
    assert report.tasks == {"answer": {"image": "image", "question": "question", "answer": "answers"}}
    assert read_table(path).value(0, "answers") == ["red", "red", "a"]
    assert "answer_confidence, answer_id" in report.unused.lines()[0]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("cells", "task", "column", "value"),
    [
        ({"question": "what?", "answer": {"answer": "red", "sure": "yes"}}, "answer", "answer", "red"),
        (
            {"sentences": [{"raw": "a dog", "tokens": ["a", "dog"]}, {"raw": "it"}]},
            "caption",
            "sentences",
            ["a dog", "it"],
        ),
        ({"captions": [{"caption": "a dog runs", "id": 1}]}, "caption", "captions", ["a dog runs"]),
    ],
)
def test_objects_that_are_a_text_with_remarks(
    tmp_path: Path, ending: str, cells: dict[str, Any], task: str, column: str, value: Any
) -> None:
    found = checked(write_rows(tmp_path, [{**PNG, **cells}], ending))
    assert list(found.report.tasks) == [task]
    assert found.table.value(0, column) == value
    assert found.report.unused
    assert found.table.source_cells(column) is not None


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("row", "task", "roles"),
    [
        ({"query": "<image>what colour?", "response": "red", "images": ["0.png"]}, "answer", ["question", "answer"]),
        ({"prompt": "what colour?", "completion": "red", "images": ["0.png"]}, "generate", ["prompt", "output"]),
        ({"label": "red", "images": ["0.png"]}, "classify", ["label"]),
        ({"caption": "a red thing on a table", "image": ["0.png"]}, "caption", ["caption"]),
    ],
)
def test_one_image_in_a_list_is_an_image(
    tmp_path: Path, ending: str, row: dict[str, Any], task: str, roles: list[str]
) -> None:
    rows = [row, {**row, "label": "blue"} if "label" in row else row]
    report = report_of(tmp_path, rows, ending)
    assert list(report.tasks) == [task]
    assert set(report.tasks[task]) == {"image", *roles}
    assert report.exit_code == 0


@pytest.mark.parametrize("ending", ENDINGS)
def test_rows_of_several_images_are_read(tmp_path: Path, ending: str) -> None:
    one = {"query": "what?", "response": "red", "images": ["0.png"]}
    report = report_of(tmp_path, [one, {**one, "images": ["0.png", SECOND]}], ending)
    assert not report.bad_rows
    assert report.tasks["answer"]["image"] == "images"
    every = {"messages": turns("<image><image>which?", "red"), "images": ["0.png", SECOND]}
    assert not report_of(tmp_path, [every], ending).bad_rows


VISION = {
    "OpenAI": {"messages": [
        {"role": "user", "content": [{"type": "text", "text": "what?"},
                                     {"type": "image_url", "image_url": {"url": "0.png"}}]},
        {"role": "assistant", "content": [{"type": "text", "text": "red"}]}]},
    "Unsloth": {"messages": [
        {"role": "user", "content": [{"type": "text", "text": "what?"}, {"type": "image", "image": "0.png"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "red"}]}]},
    "TRL": {"images": ["0.png"], "messages": [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "red"}]}]},
    "ms-swift": {"images": ["0.png"], "messages": turns("<image>what?", "red")},
    "LLaVA": {"image": "0.png", "conversations": [{"from": "human", "value": "<image>\nwhat?"},
                                                  {"from": "gpt", "value": "red"}]},
    "null beside a list": {"image": None, "images": ["0.png"], "messages": turns("<image>what?", "red")},
}  # fmt: skip


@pytest.mark.parametrize("layout", VISION)
@pytest.mark.parametrize("ending", ENDINGS)
def test_conversations_about_an_image_are_read_alike(tmp_path: Path, layout: str, ending: str) -> None:
    path = write_rows(tmp_path, [VISION[layout]], ending)
    report, table = checked(path).report, read_table(path)
    assert report.exit_code == 0
    ((task, columns),) = report.tasks.items()
    assert table.column(columns["image"])[:2] == ["0.png", "1.png"]
    if task == "converse":  # Parquet keeps the conversation in its column
        said = [turn["content"] for turn in table.value(0, columns["messages"])]
    else:
        said = [table.value(0, columns[role]) for role in ("question", "answer")]
    assert said == ["what?", "red"]


def test_trl_prompts_and_completions_with_images(tmp_path: Path) -> None:
    asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]}]
    report = report_of(tmp_path, [{"images": ["0.png"], "prompt": asked, "completion": turns("", "red")[1:]}])
    assert report.tasks == {"converse": {"image": "image", "prompt": "prompt", "output": "completion"}}
    assert report.exit_code == 0


SYSTEM = {"role": "system", "content": "answer in French"}
KEPT = {
    "system": ([SYSTEM, *turns("<image>what?", "red")], ["answer in French", "what?", "red"], ["red"]),
    "weight": ([*turns("<image>what?"), {"role": "assistant", "content": "WRONG", "weight": 0}, *turns("no", "red")],
               ["what?", "WRONG", "no", "red"], ["red"]),
    "loss": ([*turns("<image>what?"), {"role": "assistant", "content": "WRONG", "loss": False}, *turns("no", "red")],
             ["what?", "WRONG", "no", "red"], ["red"]),
    "several": (turns("<image>what?", "red", "sure?", "yes"), ["what?", "red", "sure?", "yes"], ["red", "yes"]),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("ending", ["json", "parquet"])
def test_turns_beside_images_keep_what_came_before_and_what_is_not_learned(
    tmp_path: Path, name: str, ending: str
) -> None:
    said, texts, learned = KEPT[name]
    path = write_rows(tmp_path, [{**PNG, "messages": said}], ending)
    found = checked(path)
    assert found.report.exit_code == 0
    task = Converse(TaskSettings(name="converse", columns=found.report.tasks["converse"]))
    values = task.values({column: found.table.column(column) for column in found.table.columns})
    read = task.turns(values, 3)
    assert [turn["content"] for turn in read] == texts
    assert [turn["content"] for turn in read if turn["role"] == "assistant" and turn.get("weight") != 0] == learned
    assert values["image"][3] == "3.png"


@pytest.mark.parametrize("ending", ["json", "parquet"])
def test_alpaca_with_history_is_a_conversation(tmp_path: Path, ending: str) -> None:
    rows = [{"instruction": "say", "input": "loudly", "output": "0", "system": "be kind", "history": [["q", "a"]]},
            {"instruction": "say", "input": "", "output": "1", "system": "be kind", "history": []}]  # fmt: skip
    path = write_rows(tmp_path, rows, ending, images=False)
    found = checked(path)
    assert found.report.exit_code == 0
    task = Converse(TaskSettings(name="converse", columns=found.report.tasks["converse"]))
    values = task.values({column: found.table.column(column) for column in found.table.columns})
    assert [turn["content"] for turn in task.turns(values, 0)] == ["be kind", "q", "a", "say\nloudly", "0"]
    assert [turn["content"] for turn in task.turns(values, 1)] == ["be kind", "say", "1"]


def test_a_broken_history_is_a_bad_row(tmp_path: Path) -> None:
    rows = [
        {"query": "q", "response": "r", "history": [["q", "a"]]},
        {"query": "q", "response": "r", "history": [["q"]]},
    ]
    assert sorted(report_of(tmp_path, rows).bad_rows) == list(range(1, 20, 2))


def test_a_system_column_stands_before_conversations(tmp_path: Path) -> None:
    path = write_rows(tmp_path, [{"conversations": turns("hi", "hello"), "system": "be kind"}], images=False)
    found = checked(path)
    assert found.report.tasks == {"converse": {"messages": "messages", "system": "system"}}


def test_more_marks_than_images_are_refused(tmp_path: Path) -> None:
    path = write_rows(tmp_path, [{**PNG, "messages": turns("<image><image>which?", "red")}])
    with pytest.raises(ValueError, match="2 marks"):
        read_table(path)


def test_marks_of_images_without_any_image_are_refused(tmp_path: Path) -> None:
    path = write_rows(tmp_path, [{"messages": turns("<image>which?", "red")}], "json", images=False)
    with pytest.raises(ValueError, match="an image for each mark"):
        read_table(path)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("cell", [[{"path": "0.png"}], [{"url": "0.png"}], [["0.png"]], {"url": "0.png"}])
def test_images_in_objects_and_lists_are_images(tmp_path: Path, ending: str, cell: Any) -> None:
    report = report_of(tmp_path, [{"query": "what colour?", "response": "red", "images": cell}], ending)
    assert report.tasks == {"answer": {"image": "images", "question": "query", "answer": "response"}}
    assert report.exit_code == 0


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"image": "0.png", "image2": "0.png", "label": "red"}, "'image2' holds images"),
        ({"image": "<img src='0.png'>", "label": "red"}, "named as images and not read so"),
        ({"query": "what?", "response": "red", "videos": ["0.mp4"]}, "the answers depend on it"),
        ({"instruction": "say", "output": "red", "history": "User: hello"}, "the answers depend on it"),
        ({"messages": turns("what?", "red"), "tools": [{"name": "f"}]}, "the answers depend on it"),
        ({"image": "0.png", "question": "what?", "choices": ["red", "blue"], "answer": 0}, "names places in 'choices'"),
    ],
)
def test_columns_that_should_be_read_and_are_not_are_warned_of(tmp_path: Path, row: dict[str, Any], told: str) -> None:
    rows = [
        json.loads(json.dumps(row).replace("red", f"red {i % 3}").replace("hello", f"hello {i}")) for i in range(20)
    ]
    report = report_of(tmp_path, rows)
    assert any(told in line for line in report.warnings)


def test_a_system_column_beside_one_question_is_kept(tmp_path: Path) -> None:
    row = {**PNG, "system": "answer in French", "messages": turns("<image>what?", "rouge")}
    found = checked(write_rows(tmp_path, [row], "json"))
    assert found.report.tasks["converse"]["system"] == "system"


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("field", [{"reasoning_content": "I see"}, {"mask": True}, {"tool_calls": [{"id": "1"}]}])
def test_fields_of_turns_that_nothing_reads_are_counted(tmp_path: Path, ending: str, field: dict[str, Any]) -> None:
    said = turns("what?", "red")
    said[1] |= field
    report = report_of(tmp_path, [{"messages": said}], ending)
    assert any(line.startswith(f"20 turns with '{next(iter(field))}'") for line in report.unused.lines())


def test_train_on_turn_false_is_not_learned(tmp_path: Path) -> None:
    said = turns("what?", "WRONG", "no, what?", "red")
    said[1]["train_on_turn"] = False
    table = checked(write_rows(tmp_path, [{**PNG, "conversations": said}], "json")).table
    assert table.value(0, "messages")[1]["weight"] == 0


@pytest.mark.parametrize(
    ("place", "part", "told"),
    [
        (0, {"type": "image", "somewhere": "0.png"}, "an image part with somewhere"),
        (1, {"type": "image", "image": "0.png"}, "an image in an answer"),
    ],
)
def test_image_parts_that_cannot_be_read_are_refused(tmp_path: Path, place: int, part: Any, told: str) -> None:
    said = turns("what?", "red")
    said[place]["content"] = [part, {"type": "text", "text": "this"}]
    with pytest.raises(DataError, match=told):
        checked(write_rows(tmp_path, [{"messages": said}], "json"))


def test_images_in_the_turns_of_anthropic_are_images(tmp_path: Path) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(png()).decode()}
    said = turns("what?", "red")
    said[0]["content"] = [{"type": "image", "source": source}, {"type": "text", "text": "what?"}]
    report = report_of(tmp_path, [{"messages": said}])
    assert report.tasks == {"answer": {"image": "image", "question": "question", "answer": "answer"}}
    assert not report.bad_rows
