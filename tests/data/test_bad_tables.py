"""Tables that cannot be read: each is told in one paragraph of four parts that names the file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rebus.data.readers import read_table
from rebus.errors import DataError
from rebus.recipe import Data

Make = Callable[[Path], Path]


def text(name: str, content: str) -> Make:
    return raw(name, content.encode("utf-8"))


def raw(name: str, content: bytes) -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def tree(*names: str) -> Make:
    def make(folder: Path) -> Path:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("a,b\n1,2\n")
        return folder

    return make


def cut_parquet(folder: Path) -> Path:
    path = folder / "pets.parquet"
    pq.write_table(pa.table({"a": list(range(1000))}), path)
    path.write_bytes(path.read_bytes()[:-40])
    return path


def spoilt_parquet(folder: Path) -> Path:
    path = folder / "pets.parquet"
    pq.write_table(pa.table({"a": list(range(1000))}), path)
    content = bytearray(path.read_bytes())
    content[-60:-12] = b"\xff" * 48
    path.write_bytes(content)
    return path


def no_rows_parquet(folder: Path) -> Path:
    pq.write_table(pa.table({"a": pa.array([], pa.string())}), folder / "pets.parquet")
    return folder / "pets.parquet"


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pets.csv")
    return folder / "pets.csv"


def damaged_dataset(folder: Path) -> Path:
    (folder / "pets").mkdir()
    (folder / "pets" / "state.json").write_text("{}")
    (folder / "pets" / "dataset_info.json").write_text("{")
    return folder / "pets"


def nested(folder: Path) -> Path:
    (folder / "pets.json").write_text("[" * 100_000)
    return folder / "pets.json"


def turns(*speakers: str) -> str:
    return json.dumps([{"image": "a.png", "conversations": [{"from": s, "value": "x"} for s in speakers]}])


CASES: dict[str, tuple[Make, str]] = {
    "empty csv": (raw("pets.csv", b""), "0 bytes"),
    "empty jsonl": (raw("pets.jsonl", b""), "0 bytes"),
    "empty json": (raw("pets.json", b""), "0 bytes"),
    "empty parquet": (raw("pets.parquet", b""), "0 bytes"),
    "empty text": (raw("pets.txt", b""), "0 bytes"),
    "blank csv": (text("pets.csv", " \n\n"), "blank"),
    "blank jsonl": (text("pets.jsonl", "\n \n"), "blank"),
    "header only": (text("pets.csv", "image,caption\n"), "only the header"),
    "empty list": (text("pets.json", "[]"), "at least one row"),
    "no header: images": (text("pets.csv", "a.png,cat\nb.png,dog\n"), "names of columns"),
    "no header: numbers": (text("pets.csv", "1.5,2\n3,4\n"), "names of columns"),
    "empty header": (text("pets.csv", ",,\na,b,c\n"), "only the header"),
    "same name twice": (text("pets.csv", "a,b,a\n1,2,3\n"), "'a' twice"),
    "too many fields": (text("pets.csv", "a,b\n1,2\n1,2,3\n"), "line 3"),
    "too few fields": (text("pets.csv", "a,b\n1,2\n1\n1,2\n"), "line 3"),
    "open quote": (text("pets.csv", 'a,b\n1,2\n1,"open\nand on\n'), "line 3"),
    "stray quote": (text("pets.csv", 'a,b\n1,"x"y\n'), "line 2"),
    "spreadsheet named csv": (raw("pets.csv", b"PK\x03\x04" + b"\0" * 50), "Excel"),
    "image named csv": (raw("pets.csv", b"\x89PNG\r\n\x1a\n" + b"\0" * 50), "an image"),
    "gzip named jsonl": (raw("pets.jsonl", b"\x1f\x8b" + b"\0" * 50), "gzip"),
    "zero byte": (raw("pets.csv", b"a,b\n1,2\n3,\0 4\n"), "line 3"),
    "undecodable": (raw("pets.csv", "a,b\n1,né à déjà là\n".encode() + b"2,caf\xe9 au lait\n"), "byte 29, line 3"),
    "two encodings fit": (raw("pets.csv", b"a,b\n1,the d\xefg\n"), "data.encoding"),
    "cut utf-16": (raw("pets.csv", "a,b\n1,2\n".encode("utf-16") + b"\x00"), "UTF-16"),
    "broken jsonl line": (text("pets.jsonl", '{"a": 1}\n{"a": \n{"a": 3}\n'), "line 2"),
    "list in jsonl": (text("pets.jsonl", '{"a": 1}\n[1, 2]\n'), "line 2"),
    "number in jsonl": (text("pets.jsonl", "7\n"), "line 1"),
    "broken json": (text("pets.json", '[{"a": 1},\n {"a" 2}]'), "line 2"),
    "text in json": (text("pets.json", '"hello"'), "text"),
    "row of another kind in json": (text("pets.json", '[{"a": 1}, 3]'), "row 2"),
    "objects without keys": (text("pets.json", "[{}, {}]"), "without any key"),
    "nested too deeply": (nested, "nested"),
    "object and text in one column": (text("pets.jsonl", '{"a": {"b": 1}}\n{"a": "x"}\n'), "line 2"),
    "half a character": (text("pets.jsonl", '{"a": "x"}\n{"a": "\\ud800"}\n'), "line 2"),
    "half a character in a name": (text("pets.jsonl", '{"\\ud800": "x"}\n'), "Unicode"),
    "too many columns": (text("pets.jsonl", json.dumps({f"c{i}": i for i in range(5001)})), "5000 columns"),
    "cut parquet": (cut_parquet, "cut off"),
    "spoilt parquet": (spoilt_parquet, "damage"),
    "text named parquet": (text("pets.parquet", "a,b\n1,2\n"), "something else"),
    "parquet without rows": (no_rows_parquet, "at least one row"),
    "damaged dataset": (damaged_dataset, "save_to_disk"),
    "unknown ending": (text("pets.dbf", "x"), ".dbf"),
    "text named xlsx": (text("pets.xlsx", "x"), "cannot be opened"),
    "text named ods": (text("pets.ods", "x"), "cannot be opened"),
    "text named xls": (text("pets.xls", "x"), "cannot be opened"),
    "no such file": (lambda folder: folder / "pets.csv", "no such file"),
    "no such folder": (lambda folder: folder / "x" / "pets.csv", "no such file"),
    "a pipe": (pipe, "pipe"),
    "empty folder": (tree(), "an empty folder"),
    "folder of other things": (tree("pets.bin", "more.exe"), ".bin, .exe"),
    "two tables and no splits": (tree("pets.csv", "zoo.csv"), "pets.csv, zoo.csv"),
    "question without answer": (text("pets.json", turns("human")), "row 1"),
    "two answers": (text("pets.json", turns("human", "gpt", "gpt")), "out of order"),
    "turn without text": (text("pets.json", '[{"conversations": [{"from": "human"}]}]'), "without text"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_table_is_told_in_four_parts(tmp_path: Path, case: str) -> None:
    make, told = CASES[case]
    path = make(tmp_path)
    with pytest.raises(DataError) as caught:
        read_table(path)
    check_four_parts(caught.value, path.name, told)


def check_four_parts(error: DataError, name: str, told: str) -> None:
    assert all(part.strip() for part in (error.where, error.expected, error.found, error.do)), error.as_dict()
    assert "\n" not in str(error), "one paragraph"
    assert len(str(error)) < 700
    assert name in str(error)
    assert told in str(error)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"path": ""}, "nothing"),
        ({"path": "https://example.org/pets.csv"}, "download"),
        ({"path": "pets\0.csv"}, "path"),
        ({"delimiter": ";"}, "','"),
        ({"delimiter": "::"}, "one character"),
        ({"encoding": "utf-9"}, "utf-9"),
        ({"encoding": "rot13"}, "rot13"),
        ({"encoding": "ascii"}, "line 2"),
    ],
)
def test_bad_settings_of_reading(tmp_path: Path, data: dict[str, str], told: str) -> None:
    path = tmp_path / "pets.csv"
    path.write_text("a,b,c\n1,2,é\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_table(Data.model_validate({"path": str(path), **data}))
    check_four_parts(caught.value, "", told)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "pets.csv"
    path.write_text("a\n1\n")
    path.chmod(0)
    with pytest.raises(DataError, match="permissions"):
        read_table(path)


def test_all_rows_broken_is_no_empty_table(tmp_path: Path) -> None:
    path = tmp_path / "pets.jsonl"
    path.write_text("{oops\n[\n")
    with pytest.raises(DataError, match="all 2 were broken"):
        read_table(Data(path=str(path), on_bad="skip"))
