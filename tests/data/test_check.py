from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from rebus.data import image_survey
from rebus.data.check import CheckReport, check_table
from rebus.data.kinds import infer
from rebus.data.measures import leak_share, script
from rebus.data.splits import assign_splits
from rebus.data.table import Table
from rebus.errors import DataError, ImageError
from rebus.recipe import Data, Split


def check(
    rows: list[dict[str, Any]], root: Path, task: str | None = None, splits: list[str] | None = None
) -> CheckReport:
    table = Table.from_rows(rows, root, "pets")
    inference = infer(table, {}, [task] if task else [])
    images = [name for name, kind in inference.kinds.items() if kind == "image"]
    names = assign_splits(table, Split(), images) if splits is None else splits
    report = check_table(table, Data(), inference.kinds, inference.tasks, names)
    json.dumps(report.as_dict())
    report.render(Console(file=io.StringIO(), width=100))
    return report


def paint(folder: Path, name: str, seed: int, size: int = 48) -> str:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((size, size)).save(folder / name)
    return name


@pytest.fixture
def pets(tmp_path: Path) -> list[dict[str, Any]]:
    return [
        {"image": paint(tmp_path, f"{i}.png", i), "label": ("cat", "dog")[i % 2], "caption": f"number {i}"}
        for i in range(40)
    ]


def test_a_good_table(pets: list[dict[str, Any]], tmp_path: Path) -> None:
    report = check(pets, tmp_path)
    assert report.good
    told = report.as_dict()
    assert told["rows"] == 40
    assert told["kinds"] == {"image": "image", "label": "category", "caption": "text"}
    assert told["columns"]["label"] == {
        "empty": 0,
        "different": 2,
        "counts": {"cat": 20, "dog": 20},
        "rarest": 20,
        "most_frequent_share": 0.5,
    }
    assert told["images"][0]["different"] == told["images"][0]["decoded"] == 40
    assert told["images"][0]["width"] == [48, 48, 48]
    assert sum(told["splits"].values()) == 40
    assert not report.leaks
    assert not report.duplicates


def test_broken_and_missing_images_name_their_rows(pets: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "3.png").unlink()
    (tmp_path / "5.png").write_bytes(b"")
    (tmp_path / "7.png").write_bytes((tmp_path / "7.png").read_bytes()[:-60])
    pets[9]["image"] = "../9.png"
    pets[11]["image"] = pets[3]["image"]
    report = check(pets, tmp_path)
    assert sorted(report.bad_rows) == [3, 5, 7, 9, 11]
    assert all(isinstance(error, ImageError) for error in report.bad_rows.values())
    assert report.bad_rows[11].where == "pets, row 12, column 'image'"
    assert "cut off" in report.bad_rows[7].found
    assert not report.good
    assert report.as_dict()["bad_rows"]["count"] == 5


def test_cut_files_are_found_even_where_only_a_sample_is_decoded(
    pets: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_survey, "MOST_DECODED", 5)
    (tmp_path / "7.png").write_bytes((tmp_path / "7.png").read_bytes()[:-60])
    report = check(pets, tmp_path)
    assert list(report.bad_rows) == [7]
    assert any("a sample" in warning for warning in report.warnings)


def test_empty_cells(pets: list[dict[str, Any]], tmp_path: Path) -> None:
    pets[4]["label"] = " "
    pets[6]["caption"] = None
    pets[8] |= {"image": None, "caption": ""}
    pets[10]["image"] = None
    report = check(pets, tmp_path)
    assert sorted(report.bad_rows) == [4, 8]  # a caption alone, or an image alone, still says something
    assert report.columns["caption"]["empty"] == 2
    assert any("2 rows have no image" in warning for warning in report.warnings)
    captions = check(pets, tmp_path, "caption")
    assert sorted(captions.bad_rows) == [6, 8, 10]


def test_duplicate_rows(pets: list[dict[str, Any]], tmp_path: Path) -> None:
    report = check([*pets, dict(pets[2])], tmp_path)
    assert report.duplicates == [(40, 2)]
    assert report.as_dict()["duplicate_rows"]["first"] == [["pets, row 41", "pets, row 3"]]


def test_the_same_image_in_two_splits(pets: list[dict[str, Any]], tmp_path: Path) -> None:
    splits = ["train"] * 30 + ["test"] * 10
    assert check(pets, tmp_path, splits=splits).leaks == []
    (tmp_path / "31.png").write_bytes((tmp_path / "1.png").read_bytes())  # the same bytes under another name
    Image.open(tmp_path / "2.png").resize((96, 96)).save(tmp_path / "32.jpg", quality=80)  # another size and format
    pets[32]["image"] = "32.jpg"
    pets[33]["image"] = "3.png"  # the same file
    report = check(pets, tmp_path, splits=splits)
    assert report.leaks == [(31, 1), (32, 2), (33, 3)]
    assert any("3 rows outside training" in warning for warning in report.warnings)


def test_the_same_text_in_two_splits(tmp_path: Path) -> None:
    rows = [{"text": f"This is text number {i}, as it was written.", "label": "ab"[i % 2]} for i in range(40)]
    rows[35]["text"] = "this is TEXT number 5 as it was written"
    report = check(rows, tmp_path, splits=["train"] * 30 + ["test"] * 10)
    assert report.leaks == [(35, 5)]


def test_one_class_only(pets: list[dict[str, Any]], tmp_path: Path) -> None:
    report = check([{**row, "label": "cat"} for row in pets], tmp_path)
    assert "only 'cat'" in str(report.errors[0])


def test_label_balance_and_unseen_labels(pets: list[dict[str, Any]], tmp_path: Path) -> None:
    for row in pets[:38]:
        row["label"] = "cat"
    pets[38]["label"], pets[39]["label"] = "dog", "owl"
    report = check(pets, tmp_path, splits=["train"] * 38 + ["valid", "test"])
    told = " ".join(report.warnings)
    assert "2 of 3 labels have fewer than 5 rows" in told
    assert "2 labels are in no training row (dog, owl)" in told
    assert "the most frequent label has 38 rows" in told


def test_numbers_that_are_none(tmp_path: Path) -> None:
    rows = [{"text": f"words {i} of a longer text here", "score": str(float(i))} for i in range(20)]
    rows[3]["score"], rows[4]["score"], rows[5]["score"], rows[6]["score"] = "nan", "inf", "many", ""
    report = check(rows, tmp_path)
    assert sorted(report.bad_rows) == [3, 4, 5, 6]
    assert "finite number" in report.bad_rows[5].expected
    assert "nothing" in report.bad_rows[6].found
    same = check([{**row, "score": 2.0} for row in rows], tmp_path, "regress")
    assert "only 2" in str(same.errors[0])


def test_boxes(pets: list[dict[str, Any]], tmp_path: Path) -> None:
    good = [{"label": "cat", "box": [0.1, 0.1, 0.5, 0.5]}]
    for row in pets:
        row["boxes"] = good
    pets[1]["boxes"] = []
    pets[2]["boxes"] = [{"label": "cat", "box": [10.0, 10.0, 50.0, 50.0]}]
    pets[3]["boxes"] = [{"label": "cat", "box": [0.5, 0.1, 0.1, 0.5]}]
    pets[4]["boxes"] = None
    pets[5]["boxes"] = [{"label": "", "box": [0.1, 0.1, 0.5, 0.5]}]
    assert sorted(check(pets, tmp_path, "patch_classify").bad_rows) == [2, 3, 4, 5]


def test_label_named_in_the_text(tmp_path: Path) -> None:
    rows = [
        {"text": f"{'a cat' if i % 2 else 'one dog'} in photograph {i} of many", "label": "cat" if i % 2 else "dog"}
        for i in range(40)
    ]
    assert any("names the row's own 'label' in 100%" in warning for warning in check(rows, tmp_path).warnings)


def test_rows_of_several_tasks_need_only_one(pets: list[dict[str, Any]], tmp_path: Path) -> None:
    pets[1]["caption"] = None
    pets[2] |= {"caption": None, "label": None}
    table = Table.from_rows(pets, tmp_path, "pets")
    inference = infer(table, {}, ["caption", "classify"])
    report = check_table(table, Data(), inference.kinds, inference.tasks, [])
    assert list(report.bad_rows) == [2]
    assert "task caption: 2 rows hold nothing for it" in report.warnings


def test_missing_columns_are_told(pets: list[dict[str, Any]], tmp_path: Path) -> None:
    table = Table.from_rows(pets, tmp_path, "pets")
    inference = infer(table, {}, ["classify"])
    inference.tasks[0].columns["label"] = "lable"
    report = check_table(table, Data(), inference.kinds, inference.tasks, [])
    assert "did you mean 'label'" in str(report.errors[0])
    report = check([{"image": row["image"]} for row in pets], tmp_path, "answer")
    assert ["'question'" in str(error) or "'answer'" in str(error) for error in report.errors] == [True, True]
    report = check([{"label": row["label"]} for row in pets], tmp_path, "classify")
    assert "an image or a text column" in str(report.errors[0])


def test_empty_splits_and_skipped_rows(pets: list[dict[str, Any]], tmp_path: Path) -> None:
    report = check(pets, tmp_path, splits=["test"] * 40)
    assert "rows to train on" in str(report.errors[0])
    assert "no row is in the split 'valid'" in report.warnings
    table = Table.from_rows(pets, tmp_path, "pets")
    table.skipped.append(DataError("pets, line 9", "an object", "a list", "correct it"))
    report = check_table(table, Data(), infer(table).kinds, [], [])
    assert report.as_dict()["skipped"]["count"] == 1
    assert any("1 left out while reading" in warning for warning in report.warnings)


def test_lengths_and_scripts(tmp_path: Path) -> None:
    rows = [{"text": "一只猫在睡觉 cat" if i % 4 == 0 else "a cat is asleep", "label": "ab"[i % 2]} for i in range(40)]
    figures = check(rows, tmp_path).columns["text"]
    assert figures["scripts"] == {"latin": 0.75, "cjk": 0.25}
    assert figures["characters"]["max"] == 15
    assert [script(text) for text in ("猫 ab", "кот", "123", "ねこ", "고양이", "chaîne")] == [
        "latin",
        "other",
        "none",
        "cjk",
        "cjk",
        "latin",
    ]


def test_rendering_shows_what_is_wrong(pets: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "3.png").unlink()
    report = check(pets, tmp_path)
    out = io.StringIO()
    report.render(Console(file=out, width=160))
    assert "40 rows, 3 columns" in out.getvalue()
    assert "no file '3.png'" in out.getvalue()
    assert "ready to train" not in out.getvalue()


def test_many_rows_are_checked_quickly(tmp_path: Path) -> None:
    names = [paint(tmp_path, f"{i}.png", i) for i in range(50)]
    rows = [{"image": names[i % 50], "question": f"what is {i}?", "answer": str(i % 9)} for i in range(20_000)]
    start = time.process_time()
    assert check(rows, tmp_path).good
    assert time.process_time() - start < 5


def test_a_text_that_lists_all_labels_leaks_none() -> None:
    labels = ["cat", "cat", "dog", "owl"] * 5
    assert leak_share(["cat, dog or owl?"] * 20, labels) == (1.0, 1.0)
    assert leak_share([f"the {label}" for label in labels], labels) == (1.0, 0.0)
    assert leak_share(["a category"] * 20, labels) == (0.0, 0.0)  # 'cat' is no word there
    assert leak_share(["一只猫在睡觉"] * 4, ["小猫", "大狗", "小猫", "只猫"])[0] == 0.25


def outline(folder: Path, name: str, seed: int) -> str:
    """A thin pale drawing on white: its likeness to another is in its lines, not in how little it differs."""
    rng = np.random.default_rng(seed)
    pixels = np.full((192, 192, 3), 255, dtype=np.uint8)
    for _ in range(3):
        x, y = rng.integers(16, 120, 2)
        pixels[y : y + 56, [x, x + 1, x + 56, x + 57]] = 220
        pixels[[y, y + 1, y + 56, y + 57], x : x + 56] = 220
    Image.fromarray(pixels).save(folder / name)
    return name


def test_pale_outlines_and_blank_images_are_no_twins(tmp_path: Path) -> None:
    rows = [{"image": outline(tmp_path, f"{i}.png", i), "label": "ab"[i % 2]} for i in range(40)]
    for i in (3, 7, 33, 35, 38):
        Image.new("RGB", (96, 96), "white" if i % 2 else "black").save(tmp_path / f"{i}.png")
    Image.open(tmp_path / "5.png").resize((160, 160)).save(tmp_path / "36.png")  # the same drawing, smaller
    report = check(rows, tmp_path, splits=["train"] * 30 + ["test"] * 10)
    assert report.leaks == [(36, 5)]
    assert any("5 images are blank, of one colour (first: pets, row 4)" in warning for warning in report.warnings)
    assert report.as_dict()["images"][0]["blank"] == 5


def test_the_advice_on_leaks_fits_a_table_that_says_its_splits(tmp_path: Path) -> None:
    rows = [{"text": f"This is text number {i % 30}, as written.", "label": "ab"[i % 2]} for i in range(40)]
    splits = ["train"] * 30 + ["test"] * 10
    dealt = check(rows, tmp_path, splits=splits)
    assert any("--set data.split.group=COLUMN" in warning for warning in dealt.warnings)
    said = check([{**row, "split": split} for row, split in zip(rows, splits, strict=True)], tmp_path)
    assert said.leaks
    assert any("the table's own split puts them apart" in warning for warning in said.warnings)
    assert not any("data.split.group" in warning for warning in said.warnings)
