"""Which task a table of texts is for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rebus.data.kinds import infer
from rebus.data.readers import read_table
from rebus.data.table import Table
from rebus.tasks import TASKS


def row(i: int) -> dict[str, Any]:
    return {
        "instruction": f"Explain thing number {i} in a few words",
        "input": f"thing {i} is about the sea" if i % 2 else "",
        "output": f"It is thing {i}, as you can see.",
        "prompt": f"Tell me of number {i} please",
        "completion": f"There once was a number {i}.",
        "question": f"what is number {i}?",
        "context": f"Long ago number {i} was called thing {i} by the sea.",
        "answer": f"thing {i}",
        "source": f"open file number {i} now",
        "target": f"现在打开第{i}个文件",
        "en": f"open file number {i} now",
        "zh": f"现在打开第{i}个文件",
        "原文": f"open file number {i} now",
        "译文": f"现在打开第{i}个文件",
        "指令": f"解释第{i}个词",
        "输出": f"这是第{i}个词的意思",
        "choices": [f"a{i}", f"b{i}", f"c{i}"],
        "label": "ABC"[i % 3],
        "A": f"first {i}",
        "B": f"second {i}",
        "C": f"third {i}",
        "anchor": f"what is number {i}?",
        "positive": f"tell me of {i}",
        "negative": f"number {i + 1} is red",
        "sentence1": f"the number {i} is here",
        "sentence2": f"here is the number {i}",
        "score": i / 10,
        "tokens": ["the", "number", str(i)],
        "ner_tags": ["O", "O", "B-NUM"],
        "text": f"some text about thing {i} and more of it",
        "category": ("open_qa", "summary")[i % 2],
        "free": f"the answer to it all is {i * 7}",
        "system": "You are terse.",
        "type": ("x", "y")[i % 2],
        "direction": ("en-zh", "zh-en")[i % 2],
    }


@pytest.mark.parametrize(
    ("names", "task", "roles"),
    [
        ("instruction input output", "generate", "prompt=instruction input output"),
        ("instruction output text", "generate", "prompt=instruction output"),
        ("instruction context output category", "generate", "prompt=instruction input=context output"),
        ("prompt completion", "generate", "prompt output=completion"),
        ("system prompt completion type", "generate", "system prompt output=completion type"),
        ("指令 输出", "generate", "prompt=指令 output=输出"),
        ("source target", "translate", "source target"),
        ("source target direction", "translate", "source target direction"),
        ("en zh", "translate", "source=en target=zh"),
        ("原文 译文", "translate", "source=原文 target=译文"),
        ("question choices answer", "choose", "question choices answer"),
        ("question choices label", "choose", "question choices answer=label"),
        ("context question A B C label", "choose", "question context A B C answer=label"),
        ("question context answer", "extract", "question passage=context answer"),
        ("anchor positive negative", "similar", "anchor positive negative"),
        ("sentence1 sentence2", "similar", "anchor=sentence1 positive=sentence2"),
        ("sentence1 sentence2 score", "similar", "anchor=sentence1 positive=sentence2 score"),
        ("tokens ner_tags", "ner", "tokens tags=ner_tags"),
        ("text", "lm", "text"),
        # as before there were such tasks
        ("question answer", "answer", "question answer"),
        ("text label", "classify", "text label"),
        ("en zh label", "classify", "text=en label"),
        ("input category", "classify", "text=input label=category"),
        ("text score", "regress", "text target=score"),
    ],
)
def test_task_of_a_table(names: str, task: str, roles: str) -> None:
    table = Table.from_rows([{name: row(i)[name] for name in names.split()} for i in range(12)])
    (found,) = infer(table).tasks
    wanted = dict((part if "=" in part else f"{part}={part}").split("=") for part in roles.split())
    assert (found.name, found.columns) == (task, wanted)


def test_answers_that_are_not_in_the_passage_are_written(tmp_path: Path) -> None:
    rows = [{"question": row(i)["question"], "context": row(i)["context"], "answer": row(i)["free"]} for i in range(9)]
    (found,) = infer(Table.from_rows(rows)).tasks
    assert found.name == "generate"
    assert found.columns == {"prompt": "question", "input": "context", "output": "answer"}


def test_a_source_is_where_a_row_comes_from_unless_it_is_translated() -> None:
    rows = [{"source": "wiki", "text": row(i)["text"], "label": "ab"[i % 2]} for i in range(12)]
    assert infer(Table.from_rows(rows)).kinds["source"] == "ignore"
    graded = [{"source": f"page {i}", "target": float(i), "text": row(i)["text"]} for i in range(12)]
    assert infer(Table.from_rows(graded)).tasks[0].name == "regress"


@pytest.mark.parametrize("task", ["generate", "translate", "converse", "choose", "extract", "ner", "similar"])
def test_guessed_roles_are_the_tasks_own(task: str) -> None:
    rows = [{**row(i), "messages": [{"role": "user", "content": "x"}]} for i in range(12)]
    (found,) = infer(Table.from_rows(rows), {}, [task]).tasks
    assert set(found.columns) <= set(TASKS.get(task).roles)
    assert found.columns


def test_alpaca_may_be_conversed_with() -> None:
    rows = [{name: row(i)[name] for name in ("instruction", "input", "output", "system")} for i in range(12)]
    (found,) = infer(Table.from_rows(rows), {}, ["converse"]).tasks
    assert found.columns == {"prompt": "instruction", "input": "input", "output": "output", "system": "system"}


def test_prompts_and_completions_may_be_turns(tmp_path: Path) -> None:
    rows = [
        {
            "prompt": [{"role": "user", "content": f"say {i}"}],
            "completion": [{"role": "assistant", "content": f"it is {i}"}],
        }
        for i in range(6)
    ]
    (found,) = infer(Table.from_rows(rows)).tasks
    assert (found.name, found.columns) == ("converse", {"prompt": "prompt", "output": "completion"})


def test_objects_of_well_known_data_sets_become_columns(tmp_path: Path) -> None:
    rows = [
        {
            "translation": {"en": f"file {i}", "zh": f"文件{i}"},
            "answers": {"text": [f"a{i}"], "answer_start": [i]},
            "choices": {"text": ["x", "y"], "label": ["A", "B"]},
            "extra": {"a": 1, "b": 2},
        }
        for i in range(6)
    ]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    table = read_table(tmp_path / "x.jsonl")
    assert table.columns == ["en", "zh", "answers", "answer_start", "choices", "extra"]
    assert table[2] == {
        "en": "file 2",
        "zh": "文件2",
        "answers": ["a2"],
        "answer_start": [2],
        "choices": ["x", "y"],
        "extra": {"a": 1, "b": 2},
    }
