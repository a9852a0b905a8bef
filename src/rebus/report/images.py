"""Images as ``data:`` addresses, so that a report is one file. Knows no page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rebus.errors import ImageError
from rebus.report.contents import Image

_SIDE = 320  # pixels: sharp on a phone, a few kilobytes each
_PNG = b"\x89PNG\r\n\x1a\n"


def thumbnail(image: Image, root: str | Path = ".", side: int = _SIDE) -> str:
    """An image as the ``data:`` address of a small WebP.

    Pixels are decoded and encoded again, so that nothing of a file (metadata, scripts of an SVG) reaches the report.

    Raises:
        ImageError: it cannot be read.
    """
    from PIL import Image as PILImage

    small = PILImage.fromarray(_pixels(image, root))
    small.thumbnail((side, side), PILImage.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=88, method=4)
    return address("image/webp", buffer.getvalue())


def png_address(plot: str | Path | bytes) -> str:
    """A PNG file, or its bytes, as a ``data:`` address.

    Raises:
        ImageError: it is missing or not a PNG.
    """
    try:
        content = plot if isinstance(plot, bytes) else Path(plot).read_bytes()
    except OSError as error:
        message = error.strerror or str(error)
        raise ImageError(str(plot), "a PNG file", f"'{message}'", "write the plots again") from error
    if not content.startswith(_PNG):
        where = "a plot" if isinstance(plot, bytes) else str(plot)
        raise ImageError(where, "a PNG file", "something else", "write the plots again")
    return address("image/png", content)


def _pixels(image: Image, root: str | Path) -> NDArray[np.uint8]:
    if isinstance(image, np.ndarray):
        return np.ascontiguousarray(image, dtype=np.uint8)
    from rebus.data.images import decode_image

    return decode_image(image if isinstance(image, bytes) else str(image), Path(root))


def address(kind: str, content: bytes) -> str:
    """A file's bytes as a ``data:`` address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
