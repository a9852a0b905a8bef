"""Images in requests: read as tables read them, refused by name with what is wrong, one at a time in a chat."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from rebus.data.image_sources import image_bytes
from rebus.data.images import SIDE_BUDGET, read_header
from rebus.data.resizing import scale_and_cut
from rebus.errors import ImageError, ImageSizeError
from rebus.inference.predictor import Predictor
from tiny_server import Running, as_url, running, shown, square

RED = square("red")
PLAIN = base64.b64encode(RED).decode()
HEAD = "data:image/png;base64,"
SPELLINGS = {
    "as it is": HEAD + PLAIN,
    "line breaks": HEAD + "\n".join(PLAIN[at : at + 76] for at in range(0, len(PLAIN), 76)) + "\r\n",
    "a space": HEAD + PLAIN[:50] + " " + PLAIN[50:],
    "no padding": HEAD + PLAIN.rstrip("="),
    "letters for addresses": HEAD + base64.urlsafe_b64encode(RED).decode(),
    "another type": "data:application/octet-stream;base64," + PLAIN,
    "a wrong type": "data:image/jpeg;base64," + PLAIN,
    "a parameter": "data:image/png;charset=utf-8;base64," + PLAIN,
    "large letters": "DATA:IMAGE/PNG;BASE64," + PLAIN,
    "space before": "  " + HEAD + PLAIN,
    "nothing but base64": PLAIN,
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_base64_is_read_as_tables_read_it(answering: Running, name: str) -> None:
    assert image_bytes(SPELLINGS[name].strip()) == RED
    expected = answering.chat("What colour?", HEAD + PLAIN).json()["choices"]
    told = answering.chat("What colour?", SPELLINGS[name])
    assert told.status_code == 200, told.text
    assert told.json()["choices"] == expected
    row = {"question": "What colour?", "image": SPELLINGS[name]}
    assert answering.http.post("/v1/predict", json={"rows": [row], "task": "classify"}).status_code == 200


def png(width: int, height: int, mode: int = 0) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, mode, 0, 0, 0)
    rows = zlib.compress(bytes((width * (3 if mode else 1) + 1) * min(height, 4)), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def animated() -> bytes:
    out = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), (number, 0, 0)) for number in (0, 99)]
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    return out.getvalue()


WRONG: list[tuple[str, Any, str]] = [
    ("empty", "", "this is empty"),
    ("blank", "   ", "this is empty"),
    ("an address", "https://example.org/a.png", "'https:'"),
    ("a path", "/home/me/a.png", "neither an address nor base64"),
    ("a name", "a.png", "neither an address nor base64"),
    ("no base64", "data:image/png,raw", "expected an address like 'data:image/png;base64,...'"),
    ("no comma", "data:image/png;base64", "base64"),
    ("no bytes", HEAD, "the image is empty"),
    ("another letter", HEAD + PLAIN[:40] + "!" + PLAIN[40:], "'!' at character 41"),
    ("a letter of another script", HEAD + PLAIN[:40] + "é" + PLAIN[40:], "'é' at character 41"),
    ("text after the padding", HEAD + "QUJD" * 9 + "QQ==" + "QUJD", "base64"),
    ("one letter too many", HEAD + "QUJDR", "base64"),
    ("text", as_url(b"hello world, this is no image at all"), "cannot be read"),
    ("SVG", as_url(b"<svg xmlns='x'/>" * 9), "it is SVG"),
    ("a PDF", as_url(b"%PDF-1.7 " * 9), "it is a PDF"),
    ("HEIC", as_url(b"\0\0\0\x18ftypheic" + bytes(40)), "HEIC"),
    ("cut off", as_url(RED[:60]), "damaged, cut off"),
    ("too many pixels", as_url(png(50_000, 50_000)), "found 50,000 x 50,000"),
    ("a strip", as_url(png(25_000_000, 1)), "at most 65,535 pixels a side; found 25,000,000 x 1"),
    ("an upright strip", as_url(png(1, 70_000)), "at most 65,535 pixels a side; found 1 x 70,000"),
    ("an animation", as_url(animated(), "gif"), "a still image"),
]


@pytest.mark.parametrize(("url", "words"), [one[1:] for one in WRONG], ids=[one[0] for one in WRONG])
def test_what_is_wrong_with_an_image_is_told_with_its_place(answering: Running, url: str, words: str) -> None:
    rows = [{"question": "What?", "image": None}, {"question": "What?", "image": url or "x"}]
    sent: list[tuple[str, dict[str, Any], str]] = [
        ("chat/completions", {"messages": [shown("What?", url)]}, "messages[0].content[0].image_url"),
        ("embeddings", {"input": ["a", {"type": "image_url", "image_url": url}]}, "input[1].image_url"),
    ]
    if url.strip():
        sent.append(("predict", {"rows": rows, "task": "classify"}, "rows[1].image"))
    for route, body, place in sent:
        told = answering.http.post(f"/v1/{route}", json={"model": "run", **body})
        assert told.status_code == 400, told.text
        error = told.json()["error"]
        assert error["param"] == place
        assert error["message"].startswith(f"{place}: ")
        assert words in error["message"]
        for word in ("PIL", "libpng", "zlib", "Traceback", "/home"):
            assert word not in error["message"]


def test_blank_images_are_none_as_in_tables(answering: Running) -> None:
    answers = []
    for blank in (None, "", "  ", "NaN", "N/A", "\u200b"):
        body = {"rows": [{"question": "What?", "image": blank}], "task": "classify"}
        answers.append(answering.http.post("/v1/predict", json=body).json()["data"])
    assert all(answer == answers[0] for answer in answers)


def test_every_route_has_the_same_limit_of_images(asked: Path) -> None:
    part = {"type": "image_url", "image_url": HEAD + PLAIN}
    row = {"question": "What?", "image": HEAD + PLAIN}
    with running(asked, limits={"images": 2}) as made:
        for count in (2, 3):
            sent = [("embeddings", {"input": [part] * count}), ("predict", {"rows": [row] * count, "task": "classify"})]
            for route, body in sent:
                told = made.http.post(f"/v1/{route}", json={"model": "run", **body})
                assert told.status_code == (200 if count == 2 else 400), told.text
        told = made.http.post("/v1/predict", json={"rows": [row] * 2 + [{**row, "image": None}] * 9})
        assert told.status_code == 200


def test_a_side_has_a_limit_in_tables_too() -> None:
    assert read_header(png(SIDE_BUDGET, 1)).width == SIDE_BUDGET
    with pytest.raises(ImageSizeError, match="65,535 pixels a side"):
        read_header(png(SIDE_BUDGET + 1, 1))
    with pytest.raises(ImageSizeError, match="at most 10 pixels;"):
        read_header(png(4, 4), pixel_budget=10)


@pytest.mark.parametrize("shape", [(3, 60_000), (60_000, 3)])
def test_of_a_long_strip_only_the_middle_is_scaled(shape: tuple[int, int]) -> None:
    """It was scaled whole, to gigabytes; the middle is the same."""
    generator = np.random.default_rng(0)
    strip = generator.integers(0, 255, (*shape, 3), dtype=np.uint8)
    found = scale_and_cut(strip, 96, "crop", "white", "bicubic")
    middle = strip[:, 29_500:30_500] if shape[1] > 3 else strip[29_500:30_500]
    expected = scale_and_cut(middle, 96, "crop", "white", "bicubic")
    assert np.abs(found.astype(int) - expected).mean() < 1


@pytest.mark.parametrize("size", [2**20 // 4 * 3 - 1, 2**20 // 4 * 3, 2**20 // 4 * 3 + 1, 2**21 + 5])
def test_base64_of_any_length_is_decoded_over_the_ends_of_portions(size: int) -> None:
    content = RED + np.random.default_rng(size).bytes(size - len(RED))
    text = base64.b64encode(content).decode()
    for spelled in (text, text.rstrip("="), "\n".join(text[at : at + 997] for at in range(0, len(text), 997))):
        assert image_bytes(HEAD + spelled) == content
    wrong_ones = [text[:-8] + "=" + text[-8:], text[:-5] + "*" + text[-4:], text[:-8] + "QQ==" + text[-4:]]
    if len(text) > 2**20:
        wrong_ones.append(text[: 2**20 - 4] + "QQ==" + text[2**20 :])  # the padding ends a portion
    for wrong in wrong_ones:
        with pytest.raises(ImageError, match="base64"):
            image_bytes(HEAD + wrong)


def test_a_model_that_converses_takes_one_image_and_no_second(seeing: Running, seer: Path) -> None:
    urls = [as_url(square("red")), as_url(square("blue"))]
    answers: list[httpx.Response] = [seeing.chat("What is it?", url, max_tokens=12) for url in urls]
    assert [one.status_code for one in answers] == [200, 200]
    told = seeing.chat("What is it?", *urls)
    assert (told.status_code, told.json()["error"]["code"]) == (400, "too_many_images")
    offline = Predictor.open(seer)
    asked = [{"role": "user", "content": [{"type": "image", "path": square("red")}, {"type": "text", "text": "?"}]}]
    assert offline.answer(asked).value is not None
