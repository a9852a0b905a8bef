"""What files say and training does not use is counted; what cannot be read for certain is refused or warned of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rebus.data.readers import read_table
from rebus.errors import DataError
from rebus.recipe import Split
from tiny_tables import checked, write_images


def classes(top: str) -> list[str]:
    return [f"{top}/{label}/{number}.png" for label in ("sea", "street") for number in range(3)]


@pytest.mark.parametrize(
    ("names", "labels", "splits", "unused"),
    [
        ([*classes("train"), *classes("test"), "pred/0.png"], {"sea", "street"}, {"train", "test"}, 1),
        ([*classes("seg_train"), *classes("seg_test"), "seg_pred/0.png"], {"sea", "street"}, {"train", "test"}, 1),
        ([*classes("seg_train/seg_train"), *classes("seg_test/seg_test")], {"sea", "street"}, {"train", "test"}, 0),
        ([*classes("d/training_set"), *classes("d/test_set"), "d/0.png"], {"sea", "street"}, {"train", "test"}, 1),
        ([*classes("train"), *classes("test_images"), "d/0.png"], {"sea", "street"}, {"train", "test"}, 1),
        ([*classes("train"), *classes("dev"), "a.png"], {"sea", "street"}, {"train", "valid"}, 1),
        ([f"{c}/{s}/{i}.png" for c in ("cat", "dog") for s in ("train2017", "val2017") for i in range(2)],
         {"cat", "dog"}, {"train", "valid"}, 0),
        ([*classes("train"), "new/0.png"], {"sea", "street"}, {"train"}, 1),
        ([f"train_station/{i}.png" for i in range(3)] + [f"test_tube/{i}.png" for i in range(3)],
         {"train_station", "test_tube"}, set(), 0),
        ([*classes("train"), "test/0.png", "test/1.png"], {"sea", "street", None}, {"train", "test"}, 0),
        (["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png", "stray.png"], {"cat", "dog"}, set(), 1),
    ],
)  # fmt: skip
def test_folders_of_splits_in_any_order(
    tmp_path: Path, names: list[str], labels: set[str | None], splits: set[str], unused: int
) -> None:
    write_images(tmp_path, *names)
    table = read_table(tmp_path)
    assert set(table.column("label")) == labels
    assert set(table.column("split") if "split" in table.columns else []) == splits
    assert sum(entry["count"] for entry in table.unused.as_dict().values()) == unused
    assert len(table) == len(names) - unused


def test_a_class_called_train_is_warned_of(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{label}/{number}.png" for label in ("train", "bus") for number in range(3)))
    table = read_table(tmp_path)
    assert set(table.column("label")) == {"train", "bus"}
    assert "train" in table.warnings[0]
    assert checked(tmp_path).report.warnings[0] == table.warnings[0]


def test_folders_that_may_be_splits_or_classes_are_refused(tmp_path: Path) -> None:
    write_images(
        tmp_path, "train/0.png", "test/0.png", *(f"{word}/{n}.png" for word in ("cat", "dog") for n in range(4))
    )
    with pytest.raises(DataError, match="test, train beside cat, dog"):
        read_table(tmp_path)


def kaggle(folder: Path, test_labels: bool = False) -> None:
    rows = [f"{i},{'good' if i % 2 else 'bad'} film number {i},{'pos' if i % 2 else 'neg'}" for i in range(60)]
    (folder / "train.csv").write_text("id,text,sentiment\n" + "\n".join(rows) + "\n")
    (folder / "test.csv").write_text("id,text\n" + "\n".join(f"{i},film {i}" for i in range(100, 120)) + "\n")
    (folder / "sample_submission.csv").write_text("id,sentiment\n" + "\n".join(f"{i},0" for i in range(100, 120)))
    if test_labels:
        (folder / "test_labels.csv").write_text("id,sentiment\n100,pos\n")


def test_test_rows_without_a_label_are_left_out_with_a_count(tmp_path: Path) -> None:
    kaggle(tmp_path)
    found = checked(tmp_path)
    report = found.report
    assert report.exit_code == 0
    assert not report.bad_rows
    assert len(report.unlabelled) == 20
    assert report.tasks == {"classify": {"text": "text", "label": "sentiment"}}
    assert report.splits["test"] == 0
    assert any("20 rows have no label" in warning for warning in report.warnings)
    assert report.as_dict()["unlabelled"] == 20
    assert "sample_submission.csv" in report.unused.lines()[0]


def test_two_tables_of_a_split_with_other_columns_are_refused(tmp_path: Path) -> None:
    kaggle(tmp_path, test_labels=True)
    with pytest.raises(DataError, match=r"test_labels.csv with id, sentiment"):
        read_table(tmp_path)


def test_minus_one_is_no_label_in_any_split(tmp_path: Path) -> None:
    features = {"info": {"features": {"label": {"names": ["shirt", "shoe"], "_type": "ClassLabel"}}}}
    texts = [f"a text of number {i}" for i in range(40)]
    labels = [i % 2 if i % 5 else -1 for i in range(40)]
    arrow = pa.table({"text": texts, "label": labels}).replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(arrow, tmp_path / "a.parquet")
    report = checked(tmp_path / "a.parquet").report
    assert (report.exit_code, len(report.unlabelled), sum(report.splits.values())) == (0, 8, 32)


def test_an_empty_training_label_is_still_a_bad_row(tmp_path: Path) -> None:
    lines = [f"text number {i},{'ab'[i % 2] if i else ''},{'test' if i > 30 else 'train'}" for i in range(40)]
    (tmp_path / "a.csv").write_text("text,label,split\n" + "\n".join(lines))
    assert checked(tmp_path / "a.csv").report.exit_code == 2
    skipping = checked(tmp_path / "a.csv", on_bad="skip").report
    assert (skipping.exit_code, len(skipping.bad_rows)) == (1, 1)


def test_no_task_is_an_error_of_the_check(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("code,label\n" + "\n".join(f"x{i},{i % 3}" for i in range(30)))
    assert "columns that a task can be found from" in str(checked(tmp_path / "a.csv").report.errors[0])


def test_a_split_column_and_columns_that_no_task_reads(tmp_path: Path) -> None:
    lines = [f"text number {i},a note about {i} for nobody,{'ab'[i % 2]}" for i in range(40)]
    (tmp_path / "a.csv").write_text("text,remark,label\n" + "\n".join(lines))
    report = checked(tmp_path / "a.csv", split=Split(valid=0.2, test=0.2)).report
    assert report.unused.as_dict() == {
        "cells of column 'remark' (text), which no task reads": {"count": 40, "first": ""}
    }


def films(folder: Path, **columns: list[str]) -> Path:
    """Forty rows of a text and other columns, each of which repeats its values."""
    rows = [
        ",".join([f"a film of number {i} seen at night", *(values[i % len(values)] for values in columns.values())])
        for i in range(40)
    ]
    path = folder / "films.csv"
    path.write_text("\n".join([",".join(["text", *columns]), *rows]))
    return path


@pytest.mark.parametrize("name", ["label_id", "class_id", "category_id", "class_idx", "label_index", "target_id"])
def test_numbers_of_classes_are_learned_as_classes(tmp_path: Path, name: str) -> None:
    report = checked(films(tmp_path, **{name: ["0", "1", "3"]})).report
    assert report.tasks == {"classify": {"text": "text", "label": name}}
    assert report.exit_code == 0


@pytest.mark.parametrize("name", ["language", "source", "type", "author", "lang_id", "语言"])
def test_text_beside_what_may_be_a_class_is_not_guessed(tmp_path: Path, name: str) -> None:
    path = films(tmp_path, **{name: ["en", "de", "fr"]})
    (error,) = checked(path).report.errors
    assert "'en', 'de', 'fr'" in error.found
    assert f"--kind {name}=category" in error.do
    assert checked(path, kinds={name: "category"}).report.tasks == {"classify": {"text": "text", "label": name}}
    assert checked(path, "lm").report.exit_code == 0


def test_text_beside_what_is_no_class_is_learned(tmp_path: Path) -> None:
    path = films(tmp_path, url=[f"http://films/{i}" for i in range(40)], date=["2020", "2021"])
    assert checked(path).report.tasks == {"lm": {"text": "text"}}


def test_two_columns_that_may_be_the_label_are_warned_of(tmp_path: Path) -> None:
    path = films(tmp_path, tone=["sad", "glad"], city=["Rome", "Bonn", "Oslo"])
    (warning,) = [line for line in checked(path).report.warnings if "could be meant" in line]
    assert "learns column 'city' ('Rome', 'Bonn', 'Oslo'), and 'tone' ('sad', 'glad')" in warning
    assert "--set tasks.0.columns.label=tone" in warning
    named = films(tmp_path, tone=["sad", "glad"], label=["Rome", "Bonn", "Oslo"])
    assert not [line for line in checked(named).report.warnings if "could be meant" in line]


def test_numbers_that_may_be_classes_are_warned_of(tmp_path: Path) -> None:
    report = checked(films(tmp_path, grade=["0", "1", "2"])).report
    assert list(report.tasks) == ["regress"]
    assert any("--kind grade=category" in warning for warning in report.warnings)
    assert list(checked(films(tmp_path, cls=["0", "1", "2"])).report.tasks) == ["classify"]


def test_a_column_between_classes_and_text_is_warned_of(tmp_path: Path) -> None:
    path = films(tmp_path, tone=[f"tone {i}" for i in range(18)])
    (warning,) = [line for line in checked(path).report.warnings if "nearly" in line]
    assert "'tone 0', 'tone 1', 'tone 2'" in warning
    assert "--kind tone=text" in warning


def test_file_names_in_an_id_column_are_images(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{i}.jpg" for i in range(30)))
    (tmp_path / "train.csv").write_text("image_id,label\n" + "\n".join(f"{i}.jpg,{i % 3}" for i in range(30)))
    assert checked(tmp_path / "train.csv").report.tasks == {"classify": {"image": "image_id", "label": "label"}}
    both = "\n".join(f"{i}.jpg,{i}.jpg,{i % 3}" for i in range(30))
    (tmp_path / "train.csv").write_text("image,image_id,label\n" + both)
    assert checked(tmp_path / "train.csv").report.tasks == {"classify": {"image": "image", "label": "label"}}


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"prompt": "say", "chosen": "hi there", "rejected": "no"}, "DPO"),
        ({"chosen": "hi there", "rejected": "no"}, "DPO"),
        ({"chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
          "rejected": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "c"}]}, "DPO"),
        ({"prompt": "say", "completion": "hi", "label": True}, "KTO"),
        ({"filename": "a.png", "class": "cat", "xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}, "a box a row"),
        ({"input": {"messages": []}, "preferred_output": "a", "non_preferred_output": "b"}, "DPO"),
        ({"image": "a.png", "objects": {"bbox": [[1, 2, 3, 4]], "category": [1]}}, "a layout that is not read"),
    ],
)  # fmt: skip
def test_pairs_of_answers_are_refused_by_name(tmp_path: Path, row: dict[str, Any], told: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for _ in range(20)))
    assert told in checked(path).report.errors[0].found


def test_the_preferred_answers_can_be_learned(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"say {i}", "rejected": f"no {i}", "chosen": f"yes {i}"} for i in range(30)]
    path.write_text("\n".join(map(json.dumps, rows)))
    report = checked(path, "generate").report
    assert report.exit_code == 0
    assert report.tasks["generate"] == {"prompt": "prompt", "output": "chosen"}


def test_classes_that_no_held_out_folder_has_are_warned_of(tmp_path: Path) -> None:
    for place in ("train/pos", "train/neg", "train/unsup", "test/pos", "test/neg"):
        for number in range(10):
            (tmp_path / place).mkdir(parents=True, exist_ok=True)
            (tmp_path / place / f"{number}.txt").write_text(f"a review of {place} {number}")
    (tmp_path / "imdb.vocab").write_text("a\nreview\n")
    (tmp_path / "train" / "urls_pos.txt").write_text("http://a\n")
    report = checked(tmp_path).report
    assert any("1 labels are in no held-out row (unsup)" in warning for warning in report.warnings)
    assert [line.split(" (")[0] for line in report.unused.lines()] == [
        "1 texts beside the class folders",
        "1 files ending in '.vocab'",
    ]


def test_numbers_and_classes_alone_are_read_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "iris.csv"
    rows = [f"{i},{i / 7:.2f},{'abc'[i % 3]}" for i in range(60)]
    path.write_text("\n".join([",length,target", *rows]), encoding="utf-8")
    report = checked(path).report
    assert (report.errors, report.tasks) == ([], {"classify": {"label": "target"}})
    assert any("inputs by themselves: length (number)" in note for note in report.notes)
    assert any("left out: column_1 (all different)" in note for note in report.notes)


@pytest.mark.parametrize("cells", [["1.5k", "2M"], ["10-20", "11-22"], ["1/5", "2/5"], ["1:30", "2:30"]])
def test_amounts_that_are_no_numbers_are_not_passed_over(tmp_path: Path, cells: list[str]) -> None:
    rows = "".join(f"some words {i},{i}{cells[i % 2]}\n" for i in range(40))
    (tmp_path / "t.csv").write_text("text,price\n" + rows)
    found = checked(tmp_path / "t.csv")
    assert "whose name says that it is to be learned" in str(found.report.errors[0])
    assert not checked(tmp_path / "t.csv", "lm").report.errors


def test_several_answers_with_ranks_are_refused(tmp_path: Path) -> None:
    rows = [{"prompt": f"say {i}", "responses": ["a", "b"], "scores": [1, 2]} for i in range(20)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert "several answers with ranks" in str(checked(tmp_path / "t.jsonl").report.errors[0])


def test_images_beside_their_masks_are_no_classes(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{top}/{i}.png" for top in ("images", "masks") for i in range(4)))
    with pytest.raises(DataError, match="images, masks: images and what belongs to them"):
        read_table(tmp_path)


def test_two_levels_of_folders(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"a/{top}/{label}/{i}.png" for top in ("f1", "f2") for label in "xy" for i in range(3)))
    with pytest.raises(DataError, match="either may be the classes"):
        read_table(tmp_path)
    write_images(tmp_path, *(f"b/{place}/{i}.png" for place in ("cat/pug", "cat/siam", "dog/lab") for i in range(3)))
    assert "classes are the upper folders (cat, dog)" in read_table(tmp_path / "b").warnings[0]


def test_objects_and_rows_between_commas_beside_images_are_no_captions(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{i}.png" for i in range(4)))
    for text, told in (('{"caption": "a cat"}', "objects in JSON"), ("1,1,20,1,20,20,1,20,STOP", "rows of numbers")):
        for i in range(4):
            (tmp_path / f"{i}.txt").write_text(text)
        with pytest.raises(DataError, match=told):
            read_table(tmp_path)


def test_boxes_whose_labels_training_never_saw_are_warned_of(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{i}.png" for i in range(20)))
    boxes = [{"label": "zebra" if i > 15 else "cat", "box": [0.1, 0.1, 0.5, 0.5]} for i in range(20)]
    rows = [{"image": f"{i}.png", "boxes": [boxes[i]], "split": "test" if i > 15 else "train"} for i in range(20)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert any("in no training row (zebra)" in line for line in checked(tmp_path / "t.jsonl").report.warnings)
