"""JPEG by simplejpeg and by Pillow: the same pixels, the same refusals; what is left to Pillow."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rebus.data import jpeg
from rebus.data.images import decode_image
from rebus.errors import ImageError, MissingPackageError

pytest.importorskip("simplejpeg")


def saved(height: int, width: int, mode: str = "RGB", **how: Any) -> bytes:
    y, x = np.mgrid[:height, :width]
    planes = np.stack([x * 255 // width, y * 255 // height, x * y % 255], -1) * 0.8
    noise = np.random.default_rng(0).integers(0, 50, planes.shape)
    file = io.BytesIO()
    Image.fromarray((planes + noise).astype(np.uint8)).convert(mode).save(file, "JPEG", **how)
    return file.getvalue()


def both(content: bytes, **how: Any) -> tuple[np.ndarray, np.ndarray]:
    return decode_image(content, jpeg="pil", **how), decode_image(content, jpeg="simplejpeg", **how)


@pytest.mark.parametrize("near", [None, 16, 40])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"quality": 30}])
def test_the_same_pixels(mode: str, how: dict[str, Any], near: int | None) -> None:
    for shape in ((31, 33), (203, 301)):
        one, other = both(saved(*shape, mode, **how), near=near)
        assert one.shape == other.shape
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 1
    if near == 16:
        assert one.shape == (51, 76, 3)  # a quarter of the size


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_the_same_pixels_for_each_subsampling(subsampling: int) -> None:
    one, other = both(saved(61, 77, subsampling=subsampling))
    assert np.abs(one.astype(int) - other.astype(int)).max() <= 1


@pytest.mark.parametrize("turn", range(1, 9))
def test_the_same_orientation(turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    one, other = both(saved(24, 40, exif=exif))
    np.testing.assert_array_equal(one, other)
    assert one.shape == ((24, 40, 3) if turn < 5 else (40, 24, 3))


def test_damage_is_told_the_same() -> None:
    content = saved(64, 64)
    for broken in (content[: len(content) // 2], content[:200], b"\xff\xd8\xff\xe0" + bytes(50)):
        told = []
        for choice in ("pil", "simplejpeg"):
            with pytest.raises(ImageError) as error:
                decode_image(broken, jpeg=choice)  # type: ignore[arg-type]
            told.append(str(error.value))
        assert told[0] == told[1]
    with pytest.raises(ImageError, match="at most 100 pixels"):
        decode_image(content, jpeg="simplejpeg", pixel_budget=100)


def test_it_is_used_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = jpeg.decode
    monkeypatch.setattr(jpeg, "decode", lambda *words: (calls.append(1), real(*words))[1])
    content = saved(20, 20)
    decode_image(content, jpeg="pil")
    assert not calls
    decode_image(content)
    assert calls
    assert jpeg.decoder("auto").startswith("simplejpeg ")
    assert jpeg.decoder("pil").startswith("pil ")
    assert jpeg.settled("auto") == "simplejpeg"


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(20, 20)
    before = decode_image(content)
    monkeypatch.setattr(jpeg, "installed", lambda: False)
    np.testing.assert_array_equal(decode_image(content, jpeg="simplejpeg"), before)  # a Run answers anywhere
    assert jpeg.settled("auto") == "pil"
    with pytest.raises(MissingPackageError, match=r"rebus-vlm\[jpeg\]"):
        jpeg.settled("simplejpeg")
