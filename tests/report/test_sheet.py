"""The contact sheet: images where they belong, lines that fit, letters that no font has told of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from rebus.report import sheet
from rebus.report.sheet import GAP, LINE, SIDE, Cell, shortened, wrapped, write_found, write_sheet
from rebus.retrieval.search import Hit


def solid(colour: tuple[int, int, int], wide: int = 40, high: int = 40) -> np.ndarray:
    return np.full((high, wide, 3), colour, dtype=np.uint8)


def middle(image: Image.Image, number: int, top: int = GAP) -> tuple[int, ...]:
    left = GAP + number % sheet.COLUMNS * (SIDE + GAP)
    upper = top + number // sheet.COLUMNS * (SIDE + 2 * LINE + GAP)
    found = image.getpixel((left + SIDE // 2, upper + SIDE // 2))
    assert isinstance(found, tuple)
    return found


def test_images_stand_row_by_row(tmp_path: Path) -> None:
    colours = [(10 * number, 0, 200 - 10 * number) for number in range(7)]
    told = write_sheet(tmp_path / "s.png", [Cell(f"{n}", image=solid(c)) for n, c in enumerate(colours)])
    with Image.open(tmp_path / "s.png") as image:
        assert image.format == "PNG"
        shown = image.convert("RGB")
    assert told == []
    assert [middle(shown, number) for number in range(7)] == colours
    assert shown.width == GAP + 5 * (SIDE + GAP)


def test_a_wide_image_keeps_its_shape(tmp_path: Path) -> None:
    write_sheet(tmp_path / "s.png", [Cell("wide", image=solid((200, 0, 0), 80, 20))], heading="found")
    shown = Image.open(tmp_path / "s.png").convert("RGB")
    top = GAP + LINE + GAP
    assert middle(shown, 0, top) == (200, 0, 0)
    assert shown.getpixel((GAP + SIDE // 2, top + SIDE // 8)) == (255, 255, 255)


def test_a_image_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG no")
    told = write_sheet(tmp_path / "s.png", [Cell("bad", image="bad.png"), Cell("gone", image="x.png")], root=tmp_path)
    assert len(told) == 2
    assert "not shown" in told[0]
    assert (tmp_path / "s.png").exists()


def test_lines_fit_their_place() -> None:
    pen = ImageDraw.Draw(Image.new("RGB", (10, 10)))
    name = "a/very/long/folder/name/that/never/ends/and/then/the/image-0001.png"
    short = shortened(pen, name, SIDE)
    assert pen.textlength(short, font=sheet.font()) <= SIDE
    assert short.startswith("a/v")
    assert short.endswith("1.png")
    assert shortened(pen, "short", SIDE) == "short"
    for text in ("some words that go on and on " * 6, "没有空格的中文句子也要换行" * 6):
        lines = wrapped(pen, text, 150, 4)
        assert len(lines) == 4
        assert all(pen.textlength(line, font=sheet.font()) <= 150 for line in lines)
        assert lines[-1].endswith("…")
    assert wrapped(pen, "two words", 500, 4) == ["two words"]


def test_chinese_without_a_font_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "cjk_family", lambda: None)
    assert "fonts-noto-cjk" in write_sheet(tmp_path / "s.png", [Cell("猫.png", text="一只猫")])[0]
    assert write_sheet(tmp_path / "s.png", [Cell("cat.png", text="a cat")]) == []
    monkeypatch.setattr(sheet, "cjk_family", lambda: "DejaVu Sans")
    assert write_sheet(tmp_path / "s.png", [Cell("猫.png", text="一只猫")]) == []


def test_what_was_found_is_drawn(tmp_path: Path) -> None:
    Image.fromarray(solid((0, 150, 0))).save(tmp_path / "a.png")
    hits = [
        Hit(0.9, "image", "a.png", "t.csv, row 1", "green", tmp_path / "a.png"),
        Hit(0.8, "text", "a green square", "t.csv, row 2"),
        Hit(0.7, "image", "gone.png", "t.csv, row 3", "", tmp_path / "gone.png", there=False),
    ]
    told = write_found(tmp_path / "s.png", "green", hits)
    assert len(told) == 1
    assert "gone.png" in told[0]
    shown = Image.open(tmp_path / "s.png").convert("RGB")
    assert middle(shown, 0, GAP + LINE + GAP) == (0, 150, 0)
