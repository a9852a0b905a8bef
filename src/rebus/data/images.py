"""One image value to an array: opened safely, turned upright, laid on a background, always (H, W, 3) uint8.

It does not know tables or models. Only listed formats are opened; the number of pixels is read from the header before
anything is decoded. See ``image_sources`` for which files a value may name.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor

from rebus.catalogue import Note
from rebus.data import jpeg as jpeg_files
from rebus.data.depth import Extremes, Levels, eight_bits, extremes_of, is_deep
from rebus.data.image_sources import Opened, open_image, shown
from rebus.errors import ImageError, ImageSizeError

Array = npt.NDArray[np.uint8]
PIXEL_BUDGET = 50_000_000
SIDE_BUDGET = 65_535  # pixels of the longer side: what a JPEG can have, and what can be scaled at little cost
# Vector and document formats (EPS, PSD, FITS, PDF...) run interpreters or have no agreed image: not opened.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO", "AVIF", "TGA")
_PLUGINS = ("Png", "Jpeg", "WebP", "Gif", "Bmp", "Tiff", "Ppm", "Ico", "Avif", "Tga")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Header:
    """What an image says of itself before it is decoded: format, size in pixels as stored, depth, pages of a TIFF."""

    format: str
    width: int
    height: int
    deep: bool = False
    pages: int = 1


def decode_image(
    value: str | bytes,
    root: str | Path = ".",
    *,
    background: str = "white",
    pixel_budget: int = PIXEL_BUDGET,
    where: str = "",
    near: int | None = None,
    jpeg: jpeg_files.Choice = "auto",
    levels: Levels | None = None,
) -> Array:
    """Decode an image.

    Args:
        value: a path (relative to ``root`` or absolute), base64 text, a ``data:`` address, or the file's bytes.
        root: folder of the table.
        background: colour behind transparent pixels, a name or ``#rrggbb``.
        pixel_budget: most pixels the header may promise.
        where: the row, for messages.
        near: when given, a JPEG may be decoded at a half, a quarter or an eighth of its size, as long as both sides
            stay at least twice this many pixels; much faster for photographs.
        jpeg: what decodes JPEG files; ``auto``, and ``simplejpeg`` where it is not installed: what there is.
        levels: which values are black and white in images of more than 8 bits a sample; None: see ``depth``.

    Returns:
        (H, W, 3) uint8, upright by its EXIF orientation, the first frame of an animation.

    Raises:
        ImageError: it is missing, broken, cut off, too large, or of a format that is not read.
    """
    colour = background_colour(background)
    with open_image(value, root, where) as opened:
        fast = _fast(opened, near, pixel_budget) if jpeg != "pil" and jpeg_files.installed() else None
        if fast is not None:
            return fast
        image = _identify(opened, pixel_budget)
        if near is not None and image.format in ("JPEG", "MPO"):
            image.draft(None, (2 * near, 2 * near))
        try:
            image.load()
            turn = _TURNS.get(_orientation(image))
            flat = _on_background(image, colour, levels)
            return np.asarray(flat if turn is None else flat.transpose(turn), dtype=np.uint8).copy()
        except ImageError:
            raise
        except Exception as error:  # Pillow's readers raise nearly anything on damaged files
            raise _broken(opened, error) from error


def read_header(
    value: str | bytes, root: str | Path = ".", *, pixel_budget: int = PIXEL_BUDGET, where: str = ""
) -> Header:
    """Open an image without decoding it. Raises ImageError as ``decode_image`` does."""
    with open_image(value, root, where) as opened:
        image = _identify(opened, pixel_budget)
        return Header(image.format or "", image.width, image.height, is_deep(image), _pages(image))


def deep_extremes(
    value: str | bytes, root: str | Path = ".", *, pixel_budget: int = PIXEL_BUDGET, where: str = ""
) -> Extremes:
    """The smallest and the largest value of an image of more than 8 bits. Raises ImageError as ``decode_image``."""
    with open_image(value, root, where) as opened:
        image = _identify(opened, pixel_budget)
        try:
            image.load()
            return extremes_of(image)
        except Exception as error:  # as in decode_image
            raise _broken(opened, error) from error


def _pages(image: Image.Image) -> int:
    if image.format != "TIFF":
        return 1
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # a damaged directory of pages: the first page may be whole
        return 1


def background_colour(name: str) -> tuple[int, int, int]:
    """A colour's name or ``#rrggbb`` as red, green and blue of 0 to 255. Raises ImageError when it is neither."""
    try:
        red, green, blue = ImageColor.getrgb(name)[:3]
    except ValueError as error:
        raise ImageError(
            "data.background", "a colour such as 'white' or '#ffeedd'", f"'{name}'", "correct it"
        ) from error
    return red, green, blue


@functools.cache
def _openers() -> dict[str, Any]:
    """Name of the format to (its reader, the test of a file's first bytes).

    The readers are called directly: ``Image.open`` would try every format there is, and warn by its own limits of size.
    """
    for plugin in _PLUGINS:
        try:
            __import__(f"PIL.{plugin}ImagePlugin")
        except ImportError:  # a Pillow built without that library
            continue
    return {name: Image.OPEN[name] for name in FORMATS if name in Image.OPEN}


def _identify(opened: Opened, budget: int) -> Image.Image:
    """The image opened and not yet decoded; its size is within the budget."""
    prefix = opened.file.read(16)
    if not prefix:
        raise ImageError.of("problem.image_empty", where=opened.where, what=opened.what)
    for name, (reader, accepts) in _openers().items():
        if accepts is None:  # TGA has no signature: only by its name
            if opened.ending != ".tga":
                continue
        elif accepts(prefix) is not True:  # text instead of True: known, but this Pillow cannot read it
            continue
        if name == "ICO":
            _refuse_large_inside(opened, budget)
        image = _read(reader, opened.file, opened, name)
        _refuse_large(image.width, image.height, opened, budget)
        return image
    kind = format_of(prefix) or Note("hint.no_image", bytes=shown(prefix[:8]))
    formats = ", ".join(FORMATS)
    raise ImageError.of("problem.image_format", where=opened.where, what=opened.what, format=kind, formats=formats)


def _read(reader: Any, file: IO[bytes], opened: Opened, name: str) -> Image.Image:
    file.seek(0)
    try:
        image: Image.Image = reader(file, "")
    except Exception as error:  # as above
        facts = {"where": opened.where, "what": opened.what, "format": name, "why": _words(error)}
        raise ImageError.of("problem.image_header", **facts) from error
    if image.width < 1 or image.height < 1:
        size = {"width": image.width, "height": image.height}
        raise ImageError.of("problem.image_pixel", where=opened.where, what=opened.what, **size)
    return image


def _refuse_large(width: int, height: int, opened: Opened, budget: int, what: str = " of") -> None:
    """Raise ImageSizeError where a header promises too much: pixels, or a side that no model can make use of."""
    if width * height > budget or max(width, height) > SIDE_BUDGET:
        pixels = width * height
        key, most = ("problem.image_side", SIDE_BUDGET) if pixels <= budget else ("problem.image_large", budget)
        facts = {"what": opened.what, "how": what, "most": most, "pixels": pixels, "width": width, "height": height}
        raise ImageSizeError.of(key, width, height, where=opened.where, **facts)


def _refuse_large_inside(opened: Opened, budget: int) -> None:
    """An icon promises at most 256 pixels a side, yet a PNG inside may be of any size, and opening decodes it."""
    opened.file.seek(0)
    content = opened.file.read()
    for start in (match.end() for match in re.finditer(rb"\x89PNG\r\n\x1a\n....IHDR", content, re.DOTALL)):
        width, height = int.from_bytes(content[start : start + 4]), int.from_bytes(content[start + 4 : start + 8])
        _refuse_large(width, height, opened, budget, ", an icon that holds")


def _fast(opened: Opened, near: int | None, budget: int) -> Array | None:
    """A plain JPEG's pixels by the faster decoder; None: Pillow's turn, from the start of the file."""
    head = opened.file.read(3)
    result = jpeg_files.decode(head + opened.file.read(), near, budget) if head == b"\xff\xd8\xff" else None
    opened.file.seek(0)
    return result


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF does not make the image unreadable
        return 1


def _on_background(image: Image.Image, colour: tuple[int, int, int], levels: Levels | None) -> Image.Image:
    if is_deep(image):
        return Image.fromarray(eight_bits(image, levels)).convert("RGB")
    transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    if not transparent:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    under = Image.new("RGBA", layer.size, (*colour, 255))
    return Image.alpha_composite(under, layer).convert("RGB")


def _broken(opened: Opened, error: Exception) -> ImageError:
    message = _words(error)
    if "truncated" in message or isinstance(error, EOFError):
        return ImageError.of("problem.image_cut", where=opened.where, what=opened.what, why=message)
    return ImageError.of("problem.image_damaged", where=opened.where, what=opened.what, why=message)


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def format_of(prefix: bytes) -> str:
    """What a file of a format that is not read is, by its first bytes; empty: unknown."""
    known = (
        (b"%!PS", "EPS"),
        (b"8BPS", "PSD"),
        (b"SIMPLE", "FITS"),
        (b"%PDF", "a PDF"),
        (b"<svg", "SVG"),
        (b"<?xml", "XML, perhaps SVG"),
        (b"<!DO", "a web page"),
        (b"<htm", "a web page"),
        (b"PK\x03\x04", "a zip archive"),
    )
    head = prefix.lstrip()
    if prefix[4:8] == b"ftyp":
        return "HEIC or a video"
    return next((name for mark, name in known if head.startswith(mark)), "")
