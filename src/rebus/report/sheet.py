"""A contact sheet: images in rows with a line or two below each, as one PNG file. Knows no model."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rebus import atomic
from rebus.errors import ImageError
from rebus.report.canvas import cjk_family
from rebus.report.contents import Image
from rebus.report.images import _pixels

if TYPE_CHECKING:
    from PIL import Image as PILImage
    from PIL import ImageDraw, ImageFont

    from rebus.retrieval.search import Hit

SIDE, GAP, LINE, LETTERS = 192, 12, 18, 13  # pixels: of an image, between images, of a line; height of letters
COLUMNS = 5
_INK, _PALE, _PAPER, _FRAME = "#222222", "#6b7378", "#ffffff", "#dddad2"


@dataclass(frozen=True)
class Cell:
    """One place of a sheet.

    Attributes:
        title: the line below, cut in its middle where it is too long.
        detail: a paler line below that.
        image: a path, a file's bytes or pixels; None: ``text`` is shown instead.
        text: shown where there is no image.
    """

    title: str
    detail: str = ""
    image: Image | None = None
    text: str = ""


def write_sheet(path: str | Path, cells: Sequence[Cell], heading: str = "", root: str | Path = ".") -> list[str]:
    """Draw a sheet and write it, whole or not at all.

    Args:
        path: the PNG file.
        cells: row by row, five in each.
        heading: a line above.
        root: folder that relative paths of images start from.

    Returns:
        What people should know: images that could not be read, letters that no installed font draws.

    Raises:
        RunError: the file cannot be written.
    """
    from PIL import Image as PILImage
    from PIL import ImageDraw

    lines: list[str] = []
    columns = max(1, min(COLUMNS, len(cells)))
    rows = -(-len(cells) // columns)
    top = GAP + (LINE + GAP if heading else 0)
    high = SIDE + 2 * LINE + GAP
    sheet = PILImage.new("RGB", (GAP + columns * (SIDE + GAP), top + rows * high + GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    if heading:
        pen.text((GAP, GAP), shortened(pen, heading, sheet.width - 2 * GAP), fill=_INK, font=font())
    for number, cell in enumerate(cells):
        left, upper = GAP + number % columns * (SIDE + GAP), top + number // columns * high
        _draw(sheet, pen, cell, left, upper, root, lines)
    written = heading + "".join(cell.title + cell.detail + cell.text for cell in cells)
    if cjk_family() is None and any(ord(letter) > 0x2E7F for letter in written):
        lines.append(
            "no installed font draws Chinese, so such letters show as boxes on the sheet; install one, e.g. the system "
            "package fonts-noto-cjk"
        )
    atomic.write_with(Path(path), lambda beside: sheet.save(beside, "PNG"))
    return lines


def write_found(path: str | Path, query: str, hits: Sequence[Hit]) -> list[str]:
    """Draw what was found; gives what could not be shown, as ``write_sheet`` does. Raises RunError likewise."""
    cells = [
        Cell(
            f"{hit.score:.3f}  {Path(hit.name).name if hit.kind == 'image' else hit.place}",
            hit.text if hit.kind == "image" else "",
            image=hit.path if hit.kind == "image" else None,
            text=hit.name if hit.path is None else "",
        )
        for hit in hits
    ]
    return write_sheet(path, cells, heading=query)


def _draw(
    sheet: PILImage.Image,
    pen: ImageDraw.ImageDraw,
    cell: Cell,
    left: int,
    upper: int,
    root: str | Path,
    texts: list[str],
) -> None:
    from PIL import Image as PILImage

    pen.rectangle((left - 1, upper - 1, left + SIDE, upper + SIDE), outline=_FRAME)
    if cell.image is not None:
        try:
            image = PILImage.fromarray(_pixels(cell.image, root))
            scale = SIDE / max(image.size)
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            small = image.resize(size, PILImage.Resampling.LANCZOS if scale < 1 else PILImage.Resampling.BICUBIC)
            sheet.paste(small, (left + (SIDE - small.width) // 2, upper + (SIDE - small.height) // 2))
        except ImageError as error:
            texts.append(f"not shown: {error.where}: {error.found}")
            pen.text((left + 8, upper + 8), "?", fill=_PALE, font=font())
    else:
        for number, line in enumerate(wrapped(pen, cell.text, SIDE - 16, SIDE // LINE - 1)):
            pen.text((left + 8, upper + 8 + number * LINE), line, fill=_INK, font=font())
    pen.text((left, upper + SIDE + 3), shortened(pen, cell.title, SIDE), fill=_INK, font=font())
    pen.text((left, upper + SIDE + 3 + LINE), shortened(pen, cell.detail, SIDE), fill=_PALE, font=font())


def shortened(pen: Any, text: str, width: int) -> str:
    """Text on one line of at most so many pixels: its middle is left out, as both ends of a path tell most."""
    line = " ".join(text.split())
    kept = len(line)
    shown = line
    while kept > 2 and pen.textlength(shown, font=font()) > width:
        kept -= 1
        shown = f"{line[: (kept + 1) // 2]}…{line[len(line) - kept // 2 :]}"
    return shown


def wrapped(pen: Any, text: str, width: int, most: int) -> list[str]:
    """Text in at most so many lines of at most so many pixels; Chinese is broken anywhere, other text at spaces."""
    lines, line = [], ""
    for word in _pieces(" ".join(text.split())):
        longer = line + word
        if line and pen.textlength(longer.rstrip(), font=font()) > width:
            lines.append(line.rstrip())
            longer = word.lstrip()
        line = longer
    lines.append(line)
    if len(lines) > most:
        lines = [*lines[: most - 1], lines[most - 1] + "…"]
    return [shortened(pen, item, width) for item in lines]


def _pieces(text: str) -> list[str]:
    pieces: list[str] = []
    for letter in text:
        if pieces and letter != " " and ord(letter) < 0x2E80 and ord(pieces[-1][-1]) < 0x2E80 and pieces[-1][-1] != " ":
            pieces[-1] += letter
        else:
            pieces.append(letter)
    return pieces


@functools.cache
def font() -> ImageFont.FreeTypeFont:
    """A font that draws Chinese where one is installed, else the one that Matplotlib brings."""
    from matplotlib import font_manager
    from PIL import ImageFont

    family = cjk_family() or "DejaVu Sans"
    return ImageFont.truetype(font_manager.findfont(family), LETTERS)
