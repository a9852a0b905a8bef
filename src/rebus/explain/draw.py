"""Explanations as images: the map laid over the image, the original beside it.

Signed maps are red where a part speaks for the output and blue where it speaks against it; maps without a sign go from
nothing to red. It knows no model. Letters: h, w rows and columns of the map, S side of the image.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rebus import atomic
from rebus.catalogue import rendered
from rebus.errors import DataError
from rebus.explain import fonts
from rebus.explain.result import Explanation

if TYPE_CHECKING:
    from PIL import Image

SIDE, GAP, LINE = 384, 12, 30  # pixels: of a drawn image at least, between images, of a line of text
MOST = 0.72  # how much of the image the strongest colour covers
FOR, AGAINST = (208, 32, 24), (24, 72, 200)
_PAPER, _INK = (255, 255, 255), (34, 34, 34)


def strengths(grid: NDArray[np.float32]) -> NDArray[np.float32]:
    """(h, w) as numbers from -1 to 1: signed maps by their largest size, others from their least to their most."""
    grid = np.nan_to_num(np.asarray(grid, dtype=np.float32))
    if (grid < 0).any():
        return np.asarray(grid / max(float(np.abs(grid).max()), 1e-12), dtype=np.float32)
    span = float(np.ptp(grid))
    return np.asarray((grid - grid.min()) / span if span > 0 else np.zeros_like(grid), dtype=np.float32)


def overlay(explanation: Explanation, *, side: bool = True) -> Image.Image:
    """The image under its map, with the original on its left unless ``side`` is false.

    Raises:
        DataError: the explanation says nothing of an image.
    """
    from PIL import Image

    plain, coloured = _plain(explanation), _coloured(explanation)
    if not side:
        return coloured
    sheet = Image.new("RGB", (plain.width + GAP + coloured.width, plain.height), _PAPER)
    sheet.paste(plain, (0, 0))
    sheet.paste(coloured, (plain.width + GAP, 0))
    return sheet


def word_sheet(explanation: Explanation, lang: str = "en", columns: int = 4) -> Image.Image:
    """The original, the whole answer, and one map for each word of it, what each is written below.

    Raises:
        DataError: the explanation says nothing of an image.
    """
    from PIL import Image, ImageDraw

    shown = [item for item in (explanation, *explanation.words) if item.image is not None]
    tiles = [(_plain(explanation), "")] + [(_coloured(item), rendered(item.target, lang)) for item in shown]
    wide, high = tiles[0][0].width, tiles[0][0].height + LINE
    rows = -(-len(tiles) // columns)
    across = min(columns, len(tiles))
    sheet = Image.new("RGB", (across * wide + (across - 1) * GAP, rows * high + (rows - 1) * GAP), _PAPER)
    pen, letters = ImageDraw.Draw(sheet), fonts.font(20)
    for number, (tile, text) in enumerate(tiles):
        left, top = number % columns * (wide + GAP), number // columns * (high + GAP)
        sheet.paste(tile, (left, top))
        while text and pen.textlength(text, font=letters) > wide:
            text = text[:-2].rstrip("…") + "…"
        pen.text((left, top + tile.height + 4), text, font=letters, fill=_INK)
    return sheet


def png_address(image: Image.Image) -> str:
    """An image as the ``data:`` address of a PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def write_png(path: str | Path, image: Image.Image) -> Path:
    """Write an image, whole or not at all. Raises RunError where that cannot be."""
    path = Path(path)
    atomic.write_with(path, lambda beside: image.save(beside, format="PNG"))
    return path


def _zoom(explanation: Explanation) -> int:
    assert explanation.shown is not None  # noqa: S101 - _plain asked
    return max(1, -(-SIDE // int(explanation.shown.shape[0])))


def _plain(explanation: Explanation) -> Image.Image:
    from PIL import Image

    if explanation.image is None or explanation.shown is None:
        do = "use another method, or draw the text alone (the page does)"
        raise DataError("the drawing", "an explanation of an image", "one that says nothing of any", do)
    result = Image.fromarray(explanation.shown)
    zoom = _zoom(explanation)
    return result.resize((result.width * zoom, result.height * zoom), Image.Resampling.BICUBIC)


def _coloured(explanation: Explanation) -> Image.Image:
    from PIL import Image

    plain = _plain(explanation)
    assert explanation.image is not None  # noqa: S101 - _plain asked
    small = Image.fromarray(strengths(explanation.image))
    strength = np.asarray(small.resize(plain.size, Image.Resampling.BICUBIC)).clip(-1, 1)[..., None]
    grey = np.asarray(plain.convert("L").convert("RGB"), dtype=np.float32)
    below = 0.8 * grey + 0.2 * 255  # pale and without colours of its own, so that the map's stand out
    colour = np.where(strength >= 0, np.array(FOR, np.float32), np.array(AGAINST, np.float32))
    share = np.abs(strength) * MOST
    return Image.fromarray((below * (1 - share) + colour * share).clip(0, 255).astype(np.uint8))
