"""Tar archives that others wrote, read where they lie: WebDataset's conventions, and everything that can be wrong."""

from __future__ import annotations

import json
import os
import re
import tarfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rebus.data.images import decode_image
from rebus.data.kinds import infer
from rebus.data.readers import read_table
from rebus.data.table import Table
from rebus.data.tars.samples import split_name
from rebus.errors import DataError, ImageError, RebusError
from rebus.recipe import Data
from tiny_tars import image, pack


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def shade(table: Table, row: int, column: str = "image") -> int:
    return int(decode_image(table.value(row, column), table.root)[0, 0, 0])


def three(prefix: str = "") -> list[tuple[str, bytes]]:
    files = []
    for number in range(3):
        key = f"{prefix}{number:03d}"
        files += [(f"{key}.jpg", image(80 * number)), (f"{key}.txt", f"第 {number} 张\n".encode())]
        files += [(f"{key}.cls", str(number % 2).encode())]
    return files


def test_images_texts_and_classes_become_columns(tmp_path: Path) -> None:
    table = read_table(pack(tmp_path / "a.tar", three()))
    assert table.columns == ["image", "caption", "label"]
    assert table.column("caption") == ["第 0 张", "第 1 张", "第 2 张"]
    assert table.column("label") == [0, 1, 0]
    assert [shade(table, row) for row in range(3)] == [0, 80, 160]
    assert table.where(2) == "a.tar, sample 3"
    found = infer(table)
    assert found.kinds == {"image": "image", "caption": "text", "label": "category"}


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("key", ["plain", "./nested/deep/er", "图片/猫", "x" * 90 + "/" + "y" * 80, "two words"])
def test_layouts_and_names_of_other_programs(tmp_path: Path, layout: int, key: str) -> None:
    files = [(f"{key}.JPEG", image(90)), (f"{key}.json", json.dumps({"caption": "一只猫", "n": 1}).encode())]
    table = read_table(pack(tmp_path / "b.tar", files, layout))
    assert shade(table, 0) == 90
    assert table.value(0, "caption") == "一只猫"


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)


@settings(max_examples=40)
@given(st.lists(NAMES, max_size=5))
def test_any_names_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    """What tarfile writes is read under the same keys, or told in four parts; nothing is lost in silence."""
    os.environ["XDG_CACHE_HOME"] = "/dev/null"  # nothing is kept
    path = tmp_path_factory.mktemp("names") / "n.tar"
    pack(path, [(f"{name}.jpg", image(50)) for name in names], tarfile.PAX_FORMAT)
    with tarfile.open(path) as archive:
        stored = [entry.name for entry in archive if entry.isfile()]
    tidy = [re.sub(r"^(\./)+", "", name) for name in stored]
    parts = [split_name(name) for name in tidy]
    columns = [(key, ending.rpartition(".")[0]) for key, ending in filter(None, parts)]
    try:
        table = read_table(path)
    except DataError:
        leads_out = any(name.startswith("/") or ".." in name.split("/") or not name for name in tidy)
        assert leads_out or len(set(columns)) < len(columns) or not columns
        return
    values = [value for name in table.kinds for value in table.column(name) if value is not None]
    told = sum(int(error.found.split()[0]) for error in table.skipped)
    assert len(values) == len(columns)
    assert len(values) + told == len(names)
    assert all(decode_image(value, table.root)[0, 0, 0] == 50 for value in values)


def test_points_in_names_are_not_taken_for_columns(tmp_path: Path) -> None:
    files = [(f"IMG.{number}.jpg", image(1)) for number in range(100)]
    with pytest.raises(DataError, match="point"):
        read_table(pack(tmp_path / "a.tar", files))


def test_members_in_any_order_are_gathered(tmp_path: Path) -> None:
    files = three()
    mixed = sorted(files, key=lambda file: (file[0].rpartition(".")[2], file[0]))  # all .cls, then .jpg, then .txt
    tidy, wild = read_table(pack(tmp_path / "a.tar", files)), read_table(pack(tmp_path / "b.tar", mixed))
    for name in ("caption", "label"):
        assert wild.column(name) == tidy.column(name)
    assert [shade(wild, row) for row in range(3)] == [0, 80, 160]


def test_several_images_texts_and_rows_a_sample(tmp_path: Path) -> None:
    rows = [{"question": "How many?", "answer": "2"}, {"question": "几只？", "answer": "两只"}]
    files = [
        ("s.left.png", image(10, "PNG")),
        ("s.right.webp", image(200, "WEBP")),
        ("s.en.txt", b"a cat"),
        ("s.json", json.dumps(rows).encode()),
    ]
    table = read_table(pack(tmp_path / "a.tar", files))
    assert table.columns == ["left", "right", "en", "question", "answer"]
    assert table.column("answer") == ["2", "两只"]
    assert table.column("left") == [table.value(0, "left")] * 2
    assert (shade(table, 0, "left"), shade(table, 1, "right")) == (10, 200)
    assert infer(table).kinds["right"] == "image"


def test_img2dataset_layout_takes_the_caption_once(tmp_path: Path) -> None:
    said = {"caption": "a red bus", "url": "https://example.org/1.jpg", "key": "000000001", "width": 12}
    files = [
        ("000000001.jpg", image(3)),
        ("000000001.txt", b"a red bus"),
        ("000000001.json", json.dumps(said).encode()),
    ]
    pack(tmp_path / "00000.tar", files)
    (tmp_path / "00000_stats.json").write_text("{}")
    table = read_table(tmp_path)
    assert sorted(table.columns) == ["caption", "image", "key", "url", "width"]
    assert infer(table).kinds["caption"] == "text"


def test_folders_patterns_and_splits(tmp_path: Path) -> None:
    for name in ("train-000", "train-001", "val-000"):
        pack(tmp_path / f"{name}.tar", three(name))
    table = read_table(tmp_path)
    assert table.column("split") == ["train"] * 6 + ["valid"] * 3
    assert len(read_table(str(tmp_path / "train-*.tar"))) == 6
    assert len(read_table(str(tmp_path / "train-{000..001}.tar"))) == 6
    assert len(read_table(str(tmp_path / "v*.tar"))) == 3
    pack(tmp_path / "deep" / "x" / "a-0.tar", three())
    deep = read_table(str(tmp_path / "deep" / "*" / "a-*.tar"))
    assert deep.root == tmp_path / "deep"
    assert shade(deep, 1) == 80
    (tmp_path / "linked").symlink_to(tmp_path / "deep" / "x")
    assert shade(read_table(tmp_path / "linked"), 2) == 160
    with pytest.raises(DataError, match=r"did you mean 'val-000\.tar'"):
        read_table(str(tmp_path / "vall-000.tar"))
    with pytest.raises(DataError, match=r"1 of 3 missing, the first 'train-002\.tar'"):
        read_table(str(tmp_path / "train-{000..002}.tar"))
    with pytest.raises(DataError, match=r"archives of this pattern"):
        read_table(str(tmp_path / "none-*.tar"))


def test_words_here_and_numbers_there_become_words(tmp_path: Path) -> None:
    for number, label in enumerate((b"3", b"cat")):
        pack(tmp_path / f"{number}.tar", [("k.jpg", image(1)), ("k.cls", label), ("k.json", b'{"a": [], "b": 1}')])
    pack(tmp_path / "2.tar", [("k.jpg", image(1)), ("k.json", b'{"a": ["x"], "b": 1.5}')])
    table = read_table(tmp_path)
    assert table.column("label") == ["3", "cat", None]
    assert table.column("a") == [[], [], ["x"]]
    assert table.column("b") == [1.0, 1.0, 1.5]


def test_what_is_not_read_is_counted(tmp_path: Path) -> None:
    files = [*three(), ("000.npy", b"x"), ("001.npy", b"x"), ("README", b"hello"), (".hidden.jpg", b"")]
    table = read_table(pack(tmp_path / "a.tar", files))
    assert len(table) == 3
    assert sorted(error.found for error in table.skipped) == ["2 of '.npy'", "2 of 'no name before a point'"]
    (tmp_path / "loose.jpg").write_bytes(image(1))
    assert any("1 images beside the tar archives" in line for line in read_table(tmp_path).unused.lines())


def spoiled(tmp_path: Path, name: str) -> Path:
    path = tmp_path / "bad.tar"
    if name in ("link", "hard link", "device"):
        with tarfile.open(path, "w") as archive:
            entry = tarfile.TarInfo("a.jpg")
            entry.type = {"link": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE, "device": tarfile.CHRTYPE}[name]
            entry.linkname = "/etc/passwd"
            archive.addfile(entry)
        return path
    files = three()
    if name == "out":
        files = [("../../etc/x.jpg", image(1))]
    if name == "absolute":
        pack(path, [("aetc/x.jpg", image(1))])
        content = bytearray(path.read_bytes())
        content[0:1] = b"/"  # tarfile itself would not write it
        content[148:156] = b"        "
        content[148:156] = b"%06o\0 " % sum(content[:512])
        path.write_bytes(content)
        return path
    if name == "twice":
        files.append(("000.jpg", image(7)))
    if name == "two formats":
        files.append(("000.png", image(7, "PNG")))
    if name == "json":
        files.append(("000.json", b"{'a': 1}"))
    if name == "json list":
        files.append(("000.json", b"[1, 2]"))
    if name == "not text":
        files.append(("003.txt", b"\xff\xfe\x00"))
    if name == "nothing":
        files = [("000.npy", b"x")]
    pack(path, files)
    content = path.read_bytes()
    if name == "cut in a file":
        path.write_bytes(content[:900])
    if name == "cut between files":
        path.write_bytes(content[: content.rfind(b"002.cls")])
    if name == "glued":
        path.write_bytes(content + content)
    if name == "damaged":
        path.write_bytes(content[:20] + b"\xff" + content[21:])
    if name == "damaged later":
        at = content.find(b"002.jpg")
        path.write_bytes(content[:at] + b"X" + content[at + 1 :])
    if name == "packed":
        import gzip

        path.write_bytes(gzip.compress(content))
    if name == "empty":
        path.write_bytes(b"")
    return path


BAD = {
    "link": "a symbolic link",
    "hard link": "a hard link",
    "device": "a device",
    "out": "leads out of it",
    "absolute": "leads out of it",
    "twice": "'000.jpg' twice",
    "two formats": "one image for the column 'image'",
    "json": "expected JSON",
    "json list": "a list of objects",
    "not text": "text in UTF-8",
    "nothing": "samples with images",
    "cut in a file": "in the middle of it",
    "cut between files": "with its mark of the end",
    "glued": "another one after its end",
    "damaged": "something else",
    "damaged later": "check sum is wrong",
    "packed": "one packed by gzip",
    "empty": "an empty file",
}


@pytest.mark.parametrize("name", BAD)
def test_bad_archives_are_told_in_four_parts(tmp_path: Path, name: str) -> None:
    path = spoiled(tmp_path, name)
    with pytest.raises(RebusError) as told:
        read_table(path)
    assert BAD[name] in str(told.value), str(told.value)
    assert "bad.tar" in told.value.where
    assert told.value.do


@pytest.mark.parametrize(
    ("name", "rows"), [("cut between files", 2), ("damaged later", 1), ("json", 2), ("not text", 3)]
)
def test_what_is_whole_can_be_used(tmp_path: Path, name: str, rows: int) -> None:
    table = read_table(Data(path=str(spoiled(tmp_path, name)), on_bad="skip"))
    assert len(table) == rows
    assert len(table.skipped) == 1


def test_names_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "gbk.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="gbk") as archive:
        entry = tarfile.TarInfo("中文图.jpg")
        entry.size = len(image(1))
        import io

        archive.addfile(entry, io.BytesIO(image(1)))
    with pytest.raises(DataError, match=r"data\.encoding=gbk"):
        read_table(path)
    table = read_table(Data(path=str(path), encoding="gbk"))
    assert table.value(0, "image").endswith("/中文图.jpg")
    assert shade(table, 0) == 1


def test_the_index_is_kept_until_an_archive_changes(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", three())
    cache = Path(os.environ["XDG_CACHE_HOME"]) / "rebus" / "tars"
    first = read_table(path)
    (file,) = cache.glob("*.arrow")
    made = file.stat().st_mtime_ns
    assert read_table(path).column("image") == first.column("image")
    assert file.stat().st_mtime_ns == made
    time.sleep(0.01)
    pack(path, three()[:3])
    assert len(read_table(path)) == 1
    assert list(cache.glob("*.arrow")) == [file]  # the old one is replaced
    file.write_bytes(file.read_bytes()[:-40])
    assert len(read_table(path)) == 1


def test_workers_build_the_same_index(tmp_path: Path) -> None:
    for number in range(3):
        pack(tmp_path / f"{number}.tar", three())
    one = read_table(Data(path=str(tmp_path)))
    os.environ["XDG_CACHE_HOME"] += "-2"
    two = read_table(Data(path=str(tmp_path), workers=2))
    assert one.arrow.equals(two.arrow)
    assert [one.where(row) for row in range(9)] == [two.where(row) for row in range(9)]


def test_images_in_an_archive_that_shrank(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", three())
    value = read_table(path).value(2, "image")
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(ImageError, match="write or download the archive again"):
        decode_image(value, tmp_path)
    with pytest.raises(ImageError, match="of which 88 are there"):
        decode_image("a.tar#512+999999999999999999/x.jpg", tmp_path)
    with pytest.raises(ImageError, match="leads out of it"):
        decode_image("../a.tar#512+90/x.jpg", tmp_path)
