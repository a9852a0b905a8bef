"""Images that cannot be used: each is told in one paragraph of four parts that names the row and the file."""

from __future__ import annotations

import base64
import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rebus.data.images import decode_image, read_header
from rebus.errors import ImageError

Make = Callable[[Path], str | bytes]


def saved(kind: str, size: tuple[int, int] = (40, 40), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def file(name: str, content: bytes) -> Make:
    def make(folder: Path) -> str:
        (folder / name).write_bytes(content)
        return name

    return make


def bomb() -> bytes:
    """A PNG of few bytes whose header promises 2,500,000,000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def spoilt_jpeg() -> bytes:
    content = bytearray(saved("JPEG"))
    content[:400] = content[:2] + b"\xff\xc0\x00\x02" + bytes(394)
    return bytes(content)


def folder_named_png(folder: Path) -> str:
    (folder / "cat.png").mkdir()
    return "cat.png"


def pipe(folder: Path) -> str:
    os.mkfifo(folder / "cat.png")
    return "cat.png"


def dangling(folder: Path) -> str:
    (folder / "cat.png").symlink_to(folder / "gone.png")
    return "cat.png"


def escape(folder: Path) -> str:
    (folder.parent / "cat.png").write_bytes(saved("PNG"))
    return "../cat.png"


CASES: dict[str, tuple[Make, str]] = {
    "missing": (lambda _: "cat.png", "no file 'cat.png'"),
    "missing folder": (lambda _: "pets/cat.png", "there is no folder"),
    "missing absolute": (lambda folder: str(folder / "cat.png"), "no file"),
    "below a file": (lambda folder: f"{file('cat.png', b'x')(folder)!s}/x.png", "cat.png/x.png"),
    "zero bytes": (file("cat.png", b""), "0 bytes"),
    "cut png": (file("cat.png", saved("PNG")[:-300]), "cut off"),
    "cut png header": (file("cat.png", saved("PNG")[:20]), "cut off"),
    "cut jpeg": (file("cat.jpg", saved("JPEG")[:-400]), "cut off"),
    "cut webp": (file("cat.webp", saved("WEBP")[:-200]), "cat.webp"),
    "cut gif": (file("cat.gif", saved("GIF", mode="P")[:-500]), "cat.gif"),
    "cut bmp": (file("cat.bmp", saved("BMP")[:-500]), "cut off"),
    "cut tiff": (file("cat.tif", saved("TIFF")[:-2000]), "cat.tif"),
    "spoilt jpeg": (file("cat.jpg", spoilt_jpeg()), "cat.jpg"),
    "spoilt png data": (file("cat.png", saved("PNG")[:60] + bytes(200) + saved("PNG")[260:]), "cat.png"),
    "bomb": (file("cat.png", bomb()), "2,500,000,000"),
    "text": (file("cat.png", b"not an image"), "no image"),
    "web page": (file("cat.png", b"<!DOCTYPE html><html>"), "a web page"),
    "svg": (file("cat.png", b"<svg xmlns='x'/>"), "SVG"),
    "pdf": (file("cat.png", b"%PDF-1.7 ..."), "a PDF"),
    "psd": (file("cat.psd", b"8BPS" + bytes(60)), "PSD"),
    "eps": (file("cat.png", saved("EPS")), "EPS"),
    "heic": (file("cat.heic", b"\0\0\0\x18ftypheic" + bytes(30)), "HEIC"),
    "fits": (file("cat.fits", b"SIMPLE  =                    T" + bytes(60)), "FITS"),
    "a folder": (folder_named_png, "a folder"),
    "a pipe": (pipe, "pipe"),
    "dangling link": (dangling, "no file"),
    "out of the folder": (escape, "leads out of it"),
    "out of the folder, hidden": (lambda folder: f"x/../{escape(folder)}", "leads out of it"),
    "out of the folder, windows": (lambda _: "..\\..\\cat.png", "leads out of it"),
    "an address": (lambda _: "https://example.org/cat.png", "download"),
    "a file address": (lambda _: "file:///etc/cat.png", "download"),
    "zero byte in the name": (lambda _: "cat\0.png", "zero byte"),
    "name too long": (lambda _: "cat" * 200 + ".png", "catcat"),
    "empty": (lambda _: "", "nothing"),
    "empty bytes": (lambda _: b"", "0 bytes"),
    "bytes of something": (lambda _: b"hello there", "no image"),
    "data address of text": (lambda _: "data:text/plain,hello", "base64"),
    "data address broken": (lambda _: "data:image/png;base64,@@@@", "base64"),
    "base64 cut": (lambda _: base64.b64encode(saved("PNG")).decode()[:200], "cut off"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_image_is_told_in_four_parts(tmp_path: Path, case: str) -> None:
    make, told = CASES[case]
    (tmp_path / "table").mkdir()
    value = make(tmp_path / "table")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError) as caught:
            decode_image(value, tmp_path / "table", where="pets.csv, row 12, column 'image'")
    error = caught.value
    assert all(part.strip() for part in (error.where, error.expected, error.found, error.do)), error.as_dict()
    assert "\n" not in str(error)
    assert "\0" not in str(error)
    assert len(str(error)) < 700
    assert error.where == "pets.csv, row 12, column 'image'"
    assert told in str(error)


def test_without_a_row_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"cat\.png"):
        decode_image("cat.png", tmp_path)


def test_values_that_are_no_images() -> None:
    for value in (None, 3, ["a.png"]):
        with pytest.raises(ImageError, match="expected a path"):
            decode_image(value)  # type: ignore[arg-type]


def test_unknown_background() -> None:
    with pytest.raises(ImageError, match="colour"):
        decode_image(saved("PNG"), background="whitish")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of damaged EXIF in TIFF
@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "ICO", "PPM"]), data=st.data())
def test_damaged_images_decode_or_are_told(kind: str, data: st.DataObject) -> None:
    content = bytearray(saved(kind, (16, 16)))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(8, len(content))) :]
    try:
        array = decode_image(bytes(content), pixel_budget=100_000)
    except ImageError:
        return
    assert array.ndim == 3
    assert array.shape[2] == 3
    assert array.shape[0] * array.shape[1] <= 100_000


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=80)))
def test_any_value_is_a_image_or_is_told(value: str | bytes) -> None:
    for read in (decode_image, read_header):
        with pytest.raises(ImageError):
            read(value, "/nonexistent")
