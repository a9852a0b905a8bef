from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rebus.data.images import decode_image
from rebus.data.readers import read_table
from rebus.data.readers.delimited import sniff_delimiter
from rebus.data.role_cells import role_values
from rebus.data.table import Table
from rebus.recipe import Data, TaskSettings

ROWS = [
    {"image": "a.png", "caption": 'a "red", big\ncat', "size": 1.5, "count": 3},
    {"image": "b.png", "caption": "一只猫；很大", "size": 2.0, "count": 4},
    {"image": "c.png", "caption": "chien là", "size": -3e-2, "count": None},
]


AS_WRITTEN = [  # cells of text formats stay the text that the file holds
    {**row, "size": str(row["size"]), "count": None if row["count"] is None else str(row["count"])} for row in ROWS
]


def png(colour: str = "red", size: tuple[int, int] = (8, 8)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def write_csv(path: Path, rows: list[dict[str, object]], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    with open(path, "w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def written(folder: Path, kind: str) -> Path:
    path = folder / f"pets.{kind}"
    if kind in ("csv", "tsv"):
        return write_csv(path, ROWS, "\t" if kind == "tsv" else ",")
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS), encoding="utf-8")
    elif kind == "json":
        path.write_text(json.dumps(ROWS), encoding="utf-8")
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif kind == "saved":
        datasets = pytest.importorskip("datasets")
        datasets.Dataset.from_list(ROWS).save_to_disk(str(path))
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json", "parquet", "saved"])
def test_every_format_reads_to_the_same_rows(tmp_path: Path, kind: str) -> None:
    table = read_table(written(tmp_path, kind))
    rows = ROWS if kind in ("parquet", "saved") else AS_WRITTEN
    assert list(table) == rows
    assert [table[i] for i in range(len(table))] == rows
    assert table.columns == list(ROWS[0])
    assert table.column("count") == [row["count"] for row in rows]


def test_json_object_with_data_reads_as_the_list(tmp_path: Path) -> None:
    path = tmp_path / "pets.json"
    path.write_text(json.dumps({"version": 1, "data": ROWS}), encoding="utf-8")
    assert list(read_table(path)) == AS_WRITTEN


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    path = write_csv(tmp_path / "pets.csv", ROWS, delimiter)
    assert list(read_table(path)) == AS_WRITTEN


def test_delimiter_can_be_named(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "pets.csv", ROWS, "~")
    assert list(read_table(Data(path=str(path), delimiter="~"))) == AS_WRITTEN


def test_commas_in_text_do_not_hide_the_real_delimiter() -> None:
    text = "image;caption\na.png;one, two, three\nb.png;four\nc.png;five, six\n"
    assert sniff_delimiter(text) == ";"


def test_tabs_with_loose_quotes_are_letters(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\n"Hi" he said\tx\n6" wide\ty\n', encoding="utf-8")
    assert read_table(path).column("text") == ['"Hi" he said', '6" wide']


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_encodings_are_found(tmp_path: Path, encoding: str, kind: str) -> None:
    rows = [{"text": "今天天气很好，我们去公园看花", "label": "好"}, {"text": "雨下得很大 rain", "label": "坏"}]
    path = tmp_path / f"a.{kind}"
    if kind == "csv":
        write_csv(path, rows, encoding=encoding)
    else:
        path.write_bytes("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode(encoding))
    assert list(read_table(path)) == rows


def test_encoding_can_be_named(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [{"text": "élan déjà", "label": "ü"}], encoding="latin-1")
    assert read_table(Data(path=str(path), encoding="latin-1"))[0] == {"text": "élan déjà", "label": "ü"}


def test_cells_stay_the_text_that_a_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("code,n,id\n007,7.0,1294030472427835393\n012,1E3, 5\n")
    table = read_table(path)
    assert table.column("code") == ["007", "012"]
    assert table.column("n") == ["7.0", "1E3"]
    assert table.column("id") == ["1294030472427835393", " 5"]


def test_json_lists_in_csv_cells_are_lists_to_a_task(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [{"image": "a.png", "tags": json.dumps(["x", "y"])}])
    assert read_table(path)[0]["tags"] == '["x", "y"]'
    task = TaskSettings(name="tag", columns={"image": "image", "labels": "tags"})
    assert role_values(task, "labels", read_table(path).column("tags")) == [["x", "y"]]


def test_mixed_values_become_text_or_lists(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 2, "b": "x"}\n{"a": "yes", "b": ["y", "z"]}\n{"a": true, "b": null}\n')
    table = read_table(path)
    assert table.column("a") == ["2", "yes", "true"]
    assert table.column("b") == [["x"], ["y", "z"], None]


def test_where_names_the_line_past_blank_and_quoted_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n\n{"a": 2}\n')
    assert read_table(path).where(1) == "a.jsonl, line 4"
    path = tmp_path / "a.csv"
    path.write_text('a,b\n"one\ntwo",x\nthree,y\n')
    assert read_table(path).where(1) == "a.csv, line 4"


def test_skipped_lines_are_kept_as_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{oops\n[1]\n{"a": 2}\n')
    table = read_table(Data(path=str(path), on_bad="skip"))
    assert table.column("a") == ["1", "2"]
    assert [error.where for error in table.skipped] == ["a.jsonl, line 2", "a.jsonl, line 3"]
    assert table.where(1) == "a.jsonl, line 4"


def test_class_folders_with_splits(tmp_path: Path) -> None:
    for name in ("train/cat/1.png", "train/dog/2.png", "val/cat/3.png", "test/dog/big/4.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png())
    table = read_table(tmp_path)
    assert table.column("image") == ["test/dog/big/4.png", "train/cat/1.png", "train/dog/2.png", "val/cat/3.png"]
    assert table.column("label") == ["dog", "cat", "dog", "cat"]
    assert table.column("split") == ["test", "train", "train", "valid"]
    assert table.where(1) == f"{tmp_path.name}/train/cat/1.png"


def test_a_class_called_test_is_no_split(tmp_path: Path) -> None:
    for name in ("test/1.png", "exam/2.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png())
    table = read_table(tmp_path)
    assert "split" not in table.columns
    assert table.column("label") == ["exam", "test"]


def test_captions_beside_images(tmp_path: Path) -> None:
    for name, caption in (("a", "a cat"), ("b", "一只狗")):
        (tmp_path / f"{name}.png").write_bytes(png())
        (tmp_path / f"{name}.txt").write_text(caption + "\n", encoding="utf-8")
    (tmp_path / "c.png").write_bytes(png())
    (tmp_path / "d.txt").write_text("no image")
    (tmp_path / "README.txt").write_text("about")
    (tmp_path / "e.svg").write_text("<svg/>")
    table = read_table(tmp_path)
    assert table.column("caption") == ["a cat", "一只狗", None]
    assert {tuple(found.values()) for found in table.unused.as_dict().values()} == {
        (1, f"{tmp_path.name}/d.txt"),
        (1, f"{tmp_path.name}/e.svg"),
    }


def test_topic_folders_with_captions_keep_both(tmp_path: Path) -> None:
    for topic in ("animals", "plants"):
        (tmp_path / topic).mkdir()
        (tmp_path / topic / "x.png").write_bytes(png())
        (tmp_path / topic / "x.txt").write_text(f"one of the {topic}")
    table = read_table(tmp_path)
    assert table[0] == {"image": "animals/x.png", "label": "animals", "caption": "one of the animals"}


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_imagefolder_metadata(tmp_path: Path, kind: str) -> None:
    for split in ("train", "test"):
        folder = tmp_path / split
        folder.mkdir()
        (folder / "1.png").write_bytes(png())
        (folder / "2.png").write_bytes(png())
        row = {"file_name": "1.png", "text": f"a {split} image"}
        if kind == "csv":
            write_csv(folder / "metadata.csv", [row])
        else:
            (folder / "metadata.jsonl").write_text(json.dumps(row))
    table = read_table(tmp_path)
    assert table[1] == {"image": "train/1.png", "text": "a train image", "split": "train"}
    assert table.where(1).startswith(f"train/metadata.{kind}, line")
    assert table.column("split") == ["test", "train"]
    assert table.unused.lines() == [
        f"2 images that no row of the metadata file names (first: {tmp_path.name}/test/2.png)"
    ]


def test_folder_with_one_table_reads_it(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(png())
    (tmp_path / "scenes.jsonl").write_text('{"image": "images/a.png", "caption": "x"}\n')
    table = read_table(tmp_path)
    assert table[0]["image"] == "images/a.png"
    assert decode_image(table[0]["image"], table.root).shape == (8, 8, 3)


def test_folder_of_tables_named_by_split(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}])
    write_csv(tmp_path / "my-test.csv", [{"text": "c", "label": "x"}])
    table = read_table(tmp_path)
    assert sorted(zip(table.column("text"), table.column("split"), strict=True)) == [
        ("a", "train"),
        ("b", "train"),
        ("c", "test"),
    ]
    assert table.where(table.column("text").index("b")) == "train.csv, line 3"


def test_parquet_class_names_become_labels(tmp_path: Path) -> None:
    features = {"info": {"features": {"label": {"names": ["shirt", "shoe"], "_type": "ClassLabel"}}}}
    arrow = pa.table({"image": [{"bytes": png(), "path": None}, {"bytes": None, "path": "x.png"}], "label": [1, -1]})
    pq.write_table(arrow.replace_schema_metadata({"huggingface": json.dumps(features)}), tmp_path / "a.parquet")
    table = read_table(tmp_path / "a.parquet")
    assert table.column("label") == ["shoe", None]
    assert table.column("image") == [png(), "x.png"]
    assert table[1]["image"] == "x.png"


def test_saved_dataset_dict(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    image = {"bytes": png("blue"), "path": None}
    parts = {
        "train": datasets.Dataset.from_list([{"image": image, "label": 0}] * 2, features=features),
        "test": datasets.Dataset.from_list([{"image": image, "label": 1}], features=features),
    }
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "d"))
    table = read_table(tmp_path / "d")
    assert table.column("split") == ["train", "train", "test"]
    assert table.column("label") == ["a", "a", "b"]
    assert tuple(decode_image(table[2]["image"])[0, 0]) == (0, 0, 255)
    assert table.where(2) == "d/test, row 1"


@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_conversations_of_several_questions_stay_whole(tmp_path: Path, ending: str) -> None:
    turns = [
        {"from": "human", "value": "<image>\nWhat is it?"},
        {"from": "gpt", "value": "A cat."},
        {"from": "human", "value": "什么颜色？"},
        {"from": "gpt", "value": "红色"},
    ]
    records = [{"id": "1", "image": "a.png", "conversations": turns}, {"id": "2", "conversations": turns[2:]}]
    path = tmp_path / f"llava.{ending}"
    path.write_text(json.dumps(records) if ending == "json" else "\n".join(map(json.dumps, records)), encoding="utf-8")
    table = read_table(path)
    assert table.column("image") == ["a.png", None]
    assert [turn["content"] for turn in table.value(0, "messages")] == ["What is it?", "A cat.", "什么颜色？", "红色"]
    assert [turn["shown"] for turn in table.value(0, "messages")] == [True, None, None, None]
    assert table.where(1).endswith("2")


def test_plain_text_by_line_and_by_paragraph(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\r\nthree\n")
    assert read_table(tmp_path / "a.txt").column("text") == ["one", "two", "three"]
    (tmp_path / "b.txt").write_text("one\ntwo\n\n\nthree\n")
    table = read_table(tmp_path / "b.txt")
    assert table.column("text") == ["one\ntwo", "three"]
    assert table.where(1) == "b.txt, line 5"


def test_folder_of_texts_with_classes(tmp_path: Path) -> None:
    for name in ("pos/1.txt", "neg/2.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(f"text {name}")
    assert list(read_table(tmp_path)) == [
        {"text": "text neg/2.txt", "label": "neg"},
        {"text": "text pos/1.txt", "label": "pos"},
    ]


def test_embedded_images_in_text_columns(tmp_path: Path) -> None:
    code = base64.b64encode(png("lime")).decode()
    rows = [{"image": code, "label": "a"}, {"image": f"data:image/png;base64,{code}", "label": "b"}]
    table = read_table(write_csv(tmp_path / "a.csv", rows))
    for row in table:
        assert tuple(decode_image(row["image"], table.root)[0, 0]) == (0, 255, 0)


def test_several_captions_stay_a_list(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"image": "a.png", "caption": ["one", "two"]}\n{"image": "b.png", "caption": ["three"]}\n')
    assert read_table(path).column("caption") == [["one", "two"], ["three"]]


def test_table_selects_and_adds_columns() -> None:
    table = Table.from_rows([{"a": i, "b": str(i)} for i in range(10)], name="t")
    part = table.select([7, 2, 2]).select(np.array([0, 2]))
    assert part.column("a") == [7, 2]
    assert part.where(0) == "t, row 8"
    wider = part.with_column("c", ["x", None]).with_column("a", [1, 2])
    assert list(wider) == [{"a": 1, "b": "7", "c": "x"}, {"a": 2, "b": "2", "c": None}]
    assert wider.where(1) == "t, row 3"
    assert table[-1]["a"] == 9
    assert wider.arrow.column_names == ["a", "b", "c"]
    with pytest.raises(IndexError):
        part[2]
