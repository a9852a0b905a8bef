from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rebus.data.kinds import infer, infer_kinds, infer_tasks, split_labels
from rebus.data.readers import read_table
from rebus.data.table import Table
from rebus.errors import DataError, RecipeError


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    return buffer.getvalue()


def column(name: str, values: list[Any]) -> str:
    return infer_kinds(Table.from_rows([{name: value} for value in values]))[name]


WORDS = [
    f"a {colour} {thing} on a {place}"
    for colour in ("red", "blue")
    for thing in ("cat", "dog")
    for place in ("bed", "rug", "box")
]
BOXES = [[{"label": "cat", "box": [0.1, 0.1, 0.5, 0.5]}], []]


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("x", ["a.png", "b/c.JPG", "d.webp"], "image"),
        ("x", ["https://example.org/a.png", "https://example.org/b.png"], "image"),
        ("x", [png(), png()], "image"),
        ("x", [base64.b64encode(png()).decode(), None], "image"),
        ("x", [{"bytes": png(), "path": None}], "image"),
        ("image", ["001", "002"], "image"),
        ("图片", ["一.jpg", "二.jpg"], "image"),
        ("x", [b"abc", b"def"], "ignore"),
        ("x", WORDS, "text"),
        ("question", ["what?"] * 9, "text"),
        ("问题", ["什么颜色？"] * 9, "text"),
        ("答案", ["红", "绿"] * 9, "text"),
        ("answer", [1, 2, 3, 9], "text"),
        ("x", ["what is it?", "where is it?"] * 9, "text"),
        ("captions", [["one", "two"], ["three"]], "text"),
        ("x", ["cat", "dog", "cat", "dog", "cat"], "category"),
        ("label", ["one", "two", "three"], "category"),
        ("label", [0, 1, 2, 3], "category"),
        ("类别", ["甲", "乙", "丙"], "category"),
        ("x", [True, False, True], "category"),
        ("x", [0, 1, 1, 0], "category"),
        ("x", ["a|b", "b", "a|c", "c|b"], "labels"),
        ("标签", ["红；大", "小", "红；小"], "labels"),
        ("x", [["a", "b"], ["b"], []], "labels"),
        ("tags", ["big", "small", "red"], "labels"),
        ("x", [1.5, 2.5, 9.0], "number"),
        ("price", ["3.5", "unknown", "7"], "number"),
        ("y", [1, 2, 3, 4], "number"),
        ("分数", [1, 2, 3, 4], "number"),
        ("x", BOXES, "boxes"),
        ("ner_tags", [["O", "B"], ["O"]], "tags"),
        ("x", [[["cat", "NOUN"], ["sat", "VERB"]]], "tags"),
        ("x", [[0.1, 0.2], [0.3, 0.4]], "ignore"),
        ("x", [1, 2, 3, 4], "ignore"),
        ("x", [7, 7, 7], "ignore"),
        ("x", ["same", "same"], "ignore"),
        ("x", [None, None], "ignore"),
        ("x", ["  ", ""], "ignore"),
        ("x", ["ab-01", "ab-02", "cd-03", "ef-04", "gh-05"], "ignore"),
        ("x", [{"a": 1}, {"a": 2}], "ignore"),
        *(
            (name, ["a", "b", "a", "b"], "ignore")
            for name in ("split", "type", "language", "artist", "group", "image_id", "语言")
        ),
    ],
)
def test_kind_of_a_column(name: str, values: list[Any], kind: str) -> None:
    assert column(name, values) == kind


def row(i: int, *names: str) -> dict[str, Any]:
    every = {
        "image": f"p{i}.png",
        "question": f"what is number {i}?",
        "answer": f"thing {i % 3}",
        "caption": f"an image of thing number {i} by the sea",
        "text": f"some text about thing {i} and more of it",
        "label": "ab"[i % 2],
        "colour": ("red", "green")[i % 2],
        "labels": ["x", "y"][: i % 3],
        "weight": i * 1.5,
        "score": i * 0.5,
        "type": ("a", "b")[i % 2],
        "language": "en",
        "boxes": BOXES[0],
        "图片": f"p{i}.png",
        "标题": f"第{i}张图片的标题",
        "类别": "甲乙"[i % 2],
    }
    return {name: every[name] for name in names}


def table(*names: str) -> Table:
    return Table.from_rows([row(i, *names) for i in range(12)])


@pytest.mark.parametrize(
    ("names", "task", "roles"),
    [
        ("image question answer type language", "answer", "image question answer type"),
        ("image question answer caption label boxes", "answer", "image question answer"),
        ("question answer", "answer", "question answer"),
        ("image caption", "caption", "image caption"),
        ("image text", "caption", "image caption=text"),
        ("image caption colour", "caption", "image caption"),
        ("图片 标题", "caption", "image=图片 caption=标题"),
        ("image label", "classify", "image label"),
        ("图片 标题 类别", "classify", "image=图片 text=标题 label=类别"),
        ("text label", "classify", "text label"),
        ("image caption label", "classify", "image text=caption label"),
        ("image colour", "classify", "image label=colour"),
        ("image labels", "tag", "image labels"),
        ("text labels", "tag", "text labels"),
        ("image score caption", "regress", "image text=caption target=score"),
        ("image weight", "regress", "image target=weight"),
        ("text weight", "regress", "text target=weight"),
        ("image", "pretrain_image", "image"),
        ("image type language", "", ""),
        ("label", "", ""),
    ],
)
def test_task_of_a_table(names: str, task: str, roles: str) -> None:
    inference = infer(table(*names.split()))
    assert [found.name for found in inference.tasks] == ([task] if task else [])
    wanted = dict((part if "=" in part else f"{part}={part}").split("=") for part in roles.split())
    if task:
        assert inference.tasks[0].columns == wanted


def test_wanted_tasks_get_their_columns() -> None:
    whole = table("image", "question", "answer", "caption", "label", "labels", "score", "boxes")
    found = {
        task.name: task.columns
        for task in infer(whole, {}, ["caption", "answer", "patch_classify", "regress", "tag"]).tasks
    }
    assert found["caption"] == {"image": "image", "caption": "caption"}
    assert found["patch_classify"] == {"image": "image", "boxes": "boxes"}
    assert found["tag"]["labels"] == "labels"
    assert found["regress"]["target"] == "score"
    assert infer(table("image", "score"), {}, ["classify"]).tasks[0].columns["label"] == "score"
    with pytest.raises(RecipeError, match="did you mean 'classify'"):
        infer(table("image"), {}, ["clasify"])


def test_overrides_win_and_are_checked() -> None:
    whole = table("image", "colour", "type")
    inference = infer(whole, {"type": "category", "colour": "ignore"})
    assert inference.tasks[0].columns["label"] == "type"
    assert infer_tasks(whole, inference.kinds) == inference.tasks
    with pytest.raises(DataError, match="did you mean 'colour'"):
        infer(whole, {"color": "text"})
    with pytest.raises(DataError, match="did you mean 'category'"):
        infer(whole, {"colour": "categry"})  # type: ignore[dict-item]


def test_notes_say_what_why_and_the_flag() -> None:
    notes = infer(table("image", "caption", "language")).notes
    assert any("'caption' is text (its name)" in note and "--kind caption=KIND" in note for note in notes)
    assert any("not learned from: 'language'" in note for note in notes)
    assert "--task NAME" in notes[-1]
    assert "--set tasks.0.columns.ROLE=COLUMN" in notes[-1]


def test_the_guess_does_not_depend_on_the_format(tmp_path: Path) -> None:
    rows = [row(i, "image", "caption", "labels", "weight") for i in range(12)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    header = "image,caption,labels,weight\n"
    lines = [f"{r['image']},{r['caption']},{'|'.join(r['labels'])},{r['weight']}" for r in rows]
    (tmp_path / "a.csv").write_text(header + "\n".join(lines))
    assert infer(read_table(tmp_path / "a.jsonl")).kinds == infer(read_table(tmp_path / "a.csv")).kinds


def test_split_labels() -> None:
    assert split_labels("a|b; c；d") == ["a", "b", "c", "d"]
    assert split_labels(["a", " b ", None, ""]) == ["a", "b"]
    assert split_labels(None) == []
    assert split_labels(3) == ["3"]


@pytest.mark.parametrize("pair", ["04", "12", "37"])
def test_two_numbers_of_what_is_to_be_predicted_are_classes(tmp_path: Path, pair: str) -> None:
    (tmp_path / "t.csv").write_text("text,target\n" + "".join(f"some words {i},{pair[i % 2]}\n" for i in range(40)))
    inference = infer(read_table(tmp_path / "t.csv"))
    assert [task.name for task in inference.tasks] == ["classify"]


@pytest.mark.parametrize(
    "cell",
    [
        *("{:02d}.05.2024", "2024-05-{:02d} 23:59", "5/{:d}/24, 3:15 PM", "2024年5月{:d}日", "12:{:02d}:00"),
        "2024-05-{:02d}T10:00:00Z",
    ],
)
def test_dates_are_not_text_to_learn_from(cell: str) -> None:
    assert column("Eingang", [cell.format(1 + i % 28) for i in range(240)]) == "date"
    assert column("text", [cell.format(1 + i % 28) for i in range(240)]) == "text"
    assert column("label", [cell.format(1 + i % 3) for i in range(240)]) == "category"
    assert column("Eingang", [f"am {cell.format(1 + i % 28)} um {i}" for i in range(240)]) == "text"


def test_two_texts_that_may_be_read_are_warned_of() -> None:
    rows = [
        {"Betreff": f"{word} {i}", "Brief": f"ein {word} {i}", "label": word} for i in range(40) for word in ("a", "b")
    ]
    table = Table.from_rows(rows)
    (warning,) = infer(table).warnings
    assert "task classify reads column 'Betreff'" in warning
    assert warning.endswith("--task classify --set tasks.0.columns.text=Brief")
    given = infer(table, tasks=["classify"], columns={"classify": {"text": "Brief"}})
    assert given.warnings == []
    assert "reading text 'Brief'" in given.notes[-1]
    assert infer(Table.from_rows([{"text": row["Brief"], **row} for row in rows])).warnings == []


def test_what_the_user_says_is_not_doubted() -> None:
    table = Table.from_rows([{"a (b)": "ab"[i % 2], "text": f"ein Text {i}", "Land": "xyz"[i % 3]} for i in range(60)])
    (warning,) = infer(table).warnings
    assert warning.endswith("--task classify --set tasks.0.columns.label='a (b)'")
    (warning,) = infer(table, tasks=["classify"]).warnings
    assert warning.endswith("no name says which; otherwise: --set tasks.0.columns.label='a (b)'")
    said = infer(table, tasks=["classify"], columns={"classify": {"label": "a (b)"}})
    assert said.warnings == []
    assert said.tasks[0].columns == {"text": "text", "label": "a (b)"}
    assert any("--kind 'a (b)'=KIND" in note for note in said.notes)
