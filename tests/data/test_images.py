from __future__ import annotations

import base64
import io
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from rebus.data.images import decode_image, read_header
from rebus.errors import ImageError

LOSSLESS = ["PNG", "BMP", "TIFF", "PPM", "GIF", "ICO", "TGA"]


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def two_colours() -> Image.Image:
    image = Image.new("RGB", (32, 16), (255, 0, 0))
    image.paste((0, 0, 255), (16, 0, 32, 16))
    return image


@pytest.mark.parametrize("kind", [*LOSSLESS, "WEBP", "JPEG", "AVIF"])
def test_formats(tmp_path: Path, kind: str) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    path = tmp_path / f"a.{kind.lower()}"
    path.write_bytes(saved(two_colours(), kind, **({"sizes": [(32, 16)]} if kind == "ICO" else {})))
    array = decode_image(path.name, tmp_path)
    assert array.shape == (16, 32, 3)
    assert array.dtype == np.uint8
    close = 0 if kind in LOSSLESS else 40
    assert np.abs(array[8, 4].astype(int) - (255, 0, 0)).max() <= close
    assert np.abs(array[8, 28].astype(int) - (0, 0, 255)).max() <= close
    header = read_header(str(path))
    assert (header.width, header.height) == (32, 16)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = (255, 255, 255)  # a white corner at the top left
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    array = decode_image(saved(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif))
    np.testing.assert_array_equal(array, upright)


def test_alpha_lies_on_the_background() -> None:
    layer = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    layer.putpixel((1, 1), (0, 0, 0, 128))
    array = decode_image(saved(layer), background="#00ff00")
    assert tuple(array[0, 0]) == (0, 255, 0)
    assert 120 <= array[1, 1, 1] <= 135
    assert tuple(decode_image(saved(layer))[0, 0]) == (255, 255, 255)


def test_palette_with_and_without_transparency() -> None:
    plain = two_colours().quantize(4)
    assert tuple(decode_image(saved(plain))[0, 0]) == (255, 0, 0)
    index = plain.getpixel((0, 0))
    array = decode_image(saved(plain, transparency=index), background="black")
    assert tuple(array[0, 0]) == (0, 0, 0)
    assert tuple(array[0, 31]) == (0, 0, 255)


def test_grey_with_alpha_and_one_bit() -> None:
    grey = Image.new("LA", (4, 4), (10, 255))
    grey.putpixel((0, 0), (10, 0))
    array = decode_image(saved(grey))
    assert tuple(array[0, 0]) == (255, 255, 255)
    assert tuple(array[1, 1]) == (10, 10, 10)
    bit = Image.new("1", (4, 4), 1)
    bit.putpixel((0, 0), 0)
    array = decode_image(saved(bit))
    assert array[0, 0, 0] == 0
    assert array[1, 1, 0] == 255


def test_transparent_colour_of_an_rgb_png() -> None:
    array = decode_image(saved(two_colours(), transparency=(255, 0, 0)), background="white")
    assert tuple(array[0, 0]) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_high_byte(kind: str) -> None:
    values = np.array([[0, 257 * 10, 257 * 128, 65535]] * 4, dtype=np.uint16)
    array = decode_image(saved(Image.fromarray(values), kind))
    assert array[0, :, 0].tolist() == [0, 10, 128, 255]
    assert array.shape == (4, 4, 3)


def test_fractions_and_whole_numbers_of_tiff() -> None:
    fractions = Image.fromarray(np.array([[0.0, 0.5, 1.0, np.nan]], dtype=np.float32))
    assert decode_image(saved(fractions, "TIFF"))[0, :, 0].tolist() == [0, 128, 255, 0]
    whole = Image.fromarray(np.array([[0, 100, 255]], dtype=np.int32))
    assert decode_image(saved(whole, "TIFF"))[0, :, 0].tolist() == [0, 100, 255]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind: str) -> None:
    array = decode_image(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), kind))
    assert array[4, 4, 0] > 200
    assert array[4, 4, 1:].max() < 60


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "WEBP", "PNG"):
        array = decode_image(saved(frames[0], kind, save_all=True, append_images=frames[1:]))
        assert array[0, 0, 0] > 200, kind
        assert array[0, 0, 2] < 60, kind


def test_one_pixel() -> None:
    assert decode_image(saved(Image.new("RGB", (1, 1), "blue"))).tolist() == [[[0, 0, 255]]]


def test_pixel_budget_is_read_before_decoding_and_pillow_never_warns() -> None:
    content = saved(Image.new("1", (20_000, 10_000)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match="200,000,000"):
            decode_image(content)
        with pytest.raises(ImageError, match="at most 12 pixels"):
            read_header(saved(two_colours()), pixel_budget=12)
        assert read_header(content, pixel_budget=10**9).width == 20_000


def test_an_icon_cannot_hide_a_larger_image() -> None:
    icon = saved(Image.new("RGB", (64, 64)), "ICO", sizes=[(64, 64)])
    inner = icon.index(b"\x89PNG")
    header = b"IHDR" + (30_000).to_bytes(4) * 2 + icon[inner + 24 : inner + 29]
    forged = icon[: inner + 12] + header + zlib.crc32(header).to_bytes(4) + icon[inner + 33 :]
    with pytest.raises(ImageError, match="an icon that holds 30000 x 30000"):
        decode_image(forged)


def test_embedded_values() -> None:
    content = saved(two_colours())
    code = base64.b64encode(content).decode()
    jpeg = base64.b64encode(saved(two_colours(), "JPEG")).decode()  # begins '/9j/', like an absolute path
    wrapped = "\n".join(code[i : i + 60] for i in range(0, len(code), 60))
    for value in (
        content,
        code,
        jpeg,
        wrapped,
        base64.urlsafe_b64encode(content).decode(),
        f"data:image/png;base64,{code}",
    ):
        assert decode_image(value).shape == (16, 32, 3)


def test_paths_relative_absolute_linked_and_windows(tmp_path: Path) -> None:
    folder = tmp_path / "table"
    (folder / "cats").mkdir(parents=True)
    outside = tmp_path / "outside.png"
    outside.write_bytes(saved(two_colours()))
    (folder / "cats" / "1.png").write_bytes(saved(two_colours()))
    (folder / "link.png").symlink_to(outside)
    for value in ("cats/1.png", "cats\\1.png", "./cats/../cats/1.png", "link.png", str(outside)):
        assert decode_image(value, folder).shape == (16, 32, 3), value


def test_photographs_may_be_decoded_smaller() -> None:
    content = saved(Image.new("RGB", (1600, 800), "red"), "JPEG")
    assert decode_image(content).shape == (800, 1600, 3)
    small = decode_image(content, near=96)
    assert small.shape[0] in (200, 400)
    assert small.shape[1] == 2 * small.shape[0]


def test_the_array_can_be_written_to() -> None:
    array = decode_image(saved(two_colours()))
    array[0, 0] = 7
    assert array[0, 0, 0] == 7
