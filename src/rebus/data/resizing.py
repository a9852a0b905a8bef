"""Images scaled with a given filter, then cut: as the image processors of Hugging Face's transformers do with Pillow.

Letters: H height, W width, S side of the square.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from rebus.data.images import background_colour

Array = npt.NDArray[np.uint8]
_MOST = 4096  # pixels a side, in Idefics3's processor


def scale_and_cut(array: Array, size: int, fit: str, background: str, resample: str, edge: int | None = None) -> Array:
    """Scale an image, then cut out its middle, or lay it on a square.

    Args:
        array: (H, W, 3) uint8.
        size: S.
        fit: ``squash`` scales both sides to the edge, ``crop`` the shorter one, ``pad`` the longer one to S; ``twice``
            scales the longer one to the edge, then both to S.
        background: colour beside an image that is smaller than the square.
        resample: name of a Pillow filter, in small letters.
        edge: None: S.

    Returns:
        (S, S, 3) uint8.
    """
    if fit == "twice":
        array, fit, edge = _longer_side(array, min(edge or size, _MOST), resample), "squash", None
    height, width = array.shape[:2]
    edge = size if edge is None or fit == "pad" else edge
    if fit == "squash":
        high, wide = edge, edge
    elif fit == "crop":
        short = min(height, width)
        high, wide = int(edge * height / short), int(edge * width / short)
    else:
        scale = size / max(height, width)
        high, wide = max(1, round(height * scale)), max(1, round(width * scale))
    filter = Image.Resampling[resample.upper()]
    if high * wide > _MOST**2:  # of a long strip only the middle is made
        middle_high, middle_wide = min(high, size), min(wide, size)
        upper, start = (high - middle_high) // 2 * height / high, (wide - middle_wide) // 2 * width / wide
        box = (start, upper, start + middle_wide * width / wide, upper + middle_high * height / high)
        high, wide = middle_high, middle_wide
        array = np.array(Image.fromarray(array).resize((wide, high), filter, box=box), dtype=np.uint8)
    elif (high, wide) != (height, width):
        array = np.array(Image.fromarray(array).resize((wide, high), filter), dtype=np.uint8)
    top, left = (high - size) // 2, (wide - size) // 2
    if top >= 0 and left >= 0:
        return np.ascontiguousarray(array[top : top + size, left : left + size])
    square = np.empty((size, size, 3), dtype=np.uint8)
    square[:] = background_colour(background)
    top, left = (size - high) // 2, (size - wide) // 2
    square[max(top, 0) : max(top, 0) + high, max(left, 0) : max(left, 0) + wide] = array
    return square


def _longer_side(array: Array, edge: int, resample: str) -> Array:
    """An image with its longer side scaled to the edge, the other to an even number, as Idefics3's processor does."""
    height, width = array.shape[:2]
    ratio = width / height
    if width >= height:
        wide, high = edge, int(edge / ratio)
        high += high % 2
    else:
        wide, high = int(edge * ratio), edge
        wide += wide % 2
    size = (max(wide, 1), max(high, 1))
    if size == (width, height):
        return array
    return np.array(Image.fromarray(array).resize(size, Image.Resampling[resample.upper()]), dtype=np.uint8)
