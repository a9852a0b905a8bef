"""Images of more than 8 bits a sample: their values keep their contrast, in training and afterwards alike."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rebus import api
from rebus.data.depth import Extremes, levels_of
from rebus.data.images import decode_image, read_header
from rebus.recipe import Recipe
from rebus.resolve.from_table import check_data, fit_tasks


def saved(values: Any, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    (values if isinstance(values, Image.Image) else Image.fromarray(values)).save(buffer, kind, **options)
    return buffer.getvalue()


def grey(content: bytes, levels: tuple[float, float] | None = None) -> list[int]:
    return decode_image(content, levels=levels)[0, :, 0].tolist()


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (np.array([[0, 1024, 2048, 4095]], np.uint16), "PNG", [0, 64, 128, 255]),
        (np.array([[0, 1024, 2048, 4095]], np.uint16), "TIFF", [0, 64, 128, 255]),
        (np.array([[0, 512, 1023, 1000]], np.uint16), "PNG", [0, 128, 255, 249]),
        (np.array([[0, 8000, 16383, 1]], np.uint16), "TIFF", [0, 125, 255, 0]),
        (np.array([[0, 100, 255, 1]], np.uint16), "PNG", [0, 100, 255, 1]),
        (np.array([[0, 32768, 65535, 1]], np.uint16), "PNG", [0, 128, 255, 0]),
        (np.array([[-500.0, 0.0, 500.0, np.nan]], np.float32), "TIFF", [0, 128, 255, 0]),
        (np.array([[0.0, 0.5, 1.0, np.inf]], np.float32), "TIFF", [0, 128, 255, 255]),
        (np.array([[0.25, 0.5, 0.25, 0.5]], np.float32), "TIFF", [64, 128, 64, 128]),
        (np.array([[0.0, 100.5, 255.0, 1.0]], np.float32), "TIFF", [0, 100, 255, 1]),
        (np.array([[-1000, 0, 1000, 500]], np.int32), "TIFF", [0, 128, 255, 191]),
        (np.array([[0, 50_000, 100_000, 1]], np.int32), "TIFF", [0, 128, 255, 0]),
    ],
)
def test_every_depth_fills_the_range(values: Any, kind: str, expected: list[int]) -> None:
    assert grey(saved(values, kind)) == expected


def test_the_range_is_that_of_all_images_together(tmp_path: Path) -> None:
    assert levels_of([Extremes(0, 700, True), Extremes(3, 3900, True)]) == (0, 4095)
    dark = np.array([[0, 512, 700, 0]], np.uint16)
    assert grey(saved(dark), (0.0, 4095.0)) == [0, 32, 44, 0]
    assert levels_of([Extremes(0.5, 0.5, False)]) == (0, 1)
    assert levels_of([Extremes(-3, -3, True)]) == (-3, -2)


def test_white_may_be_zero() -> None:
    values = np.array([[0, 2048, 4095, 1]], np.uint16)
    content = saved(values, "TIFF", tiffinfo={262: 0})
    if Image.open(io.BytesIO(content)).tag_v2[262] != 0:
        pytest.skip("this Pillow does not write the tag")
    assert grey(content) == [255, 127, 0, 255]


def scans(folder: Path, top: int) -> Path:
    """A table of 30 images in 16-bit PNG, one of them bright up to ``top``, the others darker."""
    rng = np.random.default_rng(0)
    lines = ["image,label"]
    for i in range(30):
        most = top if i == 0 else top // 9
        values = rng.integers(0, most, (16, 16)).astype(np.uint16)
        values[:8] //= 1 + i % 2
        values[0, 0] = most
        (folder / f"{i}.png").write_bytes(saved(values))
        lines.append(f"{i}.png,{'a' if i % 2 else 'b'}")
    (folder / "t.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "t.csv"


def test_the_check_says_the_range_and_the_recipe_keeps_it(tmp_path: Path) -> None:
    path = scans(tmp_path, 4000)
    report = api.check(path)
    assert any("to 4000: 0 is black, 4095 white" in note for note in report.notes)
    assert report.images[0].as_dict()["levels"] == [0, 4095]
    assert not any("nearly of one colour" in warning for warning in report.warnings)
    recipe = Recipe().replace({"data.path": str(path)})
    prepared = fit_tasks(check_data(recipe), lambda _: None)
    assert prepared.recipe.data.levels == (0, 4095)
    table = prepared.table
    stored = prepared.inputs(prepared.modalities()).items("image", 5)[0]["pixels"]
    whole = decode_image(table.column("image")[5], tmp_path, levels=(0.0, 4095.0))
    assert abs(float(stored.mean()) - float(whole.mean())) < 2
    assert float(stored.mean()) < 0.5 * float(decode_image(table.column("image")[5], tmp_path).mean())


def test_levels_that_are_set_win_and_what_comes_out_dark_is_warned_of(tmp_path: Path) -> None:
    report = api.check(scans(tmp_path, 250), settings=["data.levels=[0,65535]"])
    assert any("30 images are" in warning for warning in report.warnings)
    assert any("65535 white" in note for note in report.notes)


def test_pages_are_counted(tmp_path: Path) -> None:
    pages = [Image.new("L", (16, 16), 10 * i) for i in range(4)]
    for i in range(10):
        (tmp_path / f"{i}.tif").write_bytes(saved(pages[0], "TIFF", save_all=True, append_images=pages[1 : 2 + i % 2]))
    (tmp_path / "t.csv").write_text(
        "image,label\n" + "".join(f"{i}.tif,{'ab'[i % 2]}\n" for i in range(10)), encoding="utf-8"
    )
    assert read_header(str(tmp_path / "1.tif")).pages == 3
    assert any("10 images have several pages" in warning for warning in api.check(tmp_path / "t.csv").warnings)
