"""Images of more than 8 bits a sample: which of their values are black and which are white.

Such files hold 10, 12 or 14 bits in 16, or fractions, or heights and temperatures; nothing in them says so. The values
of a whole column tell, so that its images keep their contrast to each other. It opens no files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

Levels = tuple[float, float]  # what is black, what is white
_BITS = (8, 10, 12, 14, 16)
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # TIFF's tag, and DICOM's MONOCHROME1


@dataclass(frozen=True)
class Extremes:
    """The smallest and the largest value of an image, and whether all are whole numbers."""

    low: float
    high: float
    whole: bool


def is_deep(image: Image.Image) -> bool:
    """Whether an opened image has one sample of more than 8 bits a pixel."""
    return image.mode.startswith("I") or image.mode == "F"


def extremes_of(image: Image.Image) -> Extremes:
    """The extremes of a decoded deep image; values that are not finite are passed over."""
    values = _values(image)
    known = values[np.isfinite(values)]
    if not known.size:
        return Extremes(0.0, 0.0, True)
    return Extremes(float(known.min()), float(known.max()), bool((known == np.rint(known)).all()))


def levels_of(extremes: Iterable[Extremes]) -> Levels:
    """Black and white of images that belong together.

    Fractions from 0 to 1 are as they are; whole numbers from 0 have the fewest of 8, 10, 12, 14 and 16 bits that hold
    them; of others the smallest is black and the largest white.
    """
    all_ = list(extremes)
    low, high = min(item.low for item in all_), max(item.high for item in all_)
    if low >= 0 and high <= 1 and not all(item.whole for item in all_):
        return 0.0, 1.0
    if low >= 0 and (high <= 255 or all(item.whole for item in all_)):
        return 0.0, next((2.0**bits - 1 for bits in _BITS if high < 2**bits), high)
    return low, high if high > low else low + 1


def eight_bits(image: Image.Image, levels: Levels | None) -> npt.NDArray[np.uint8]:
    """A decoded deep image as 0 (black) to 255 (white); without ``levels`` its own are taken."""
    low, high = levels or levels_of([extremes_of(image)])
    values = np.nan_to_num(_values(image), nan=low, posinf=high, neginf=low)
    scaled = np.clip(np.rint((values - low) * (255.0 / (high - low))), 0, 255).astype(np.uint8)
    return 255 - scaled if _white_is_zero(image) else scaled


def _values(image: Image.Image) -> npt.NDArray[np.float64]:
    return np.asarray(image).astype(np.float64)


def _white_is_zero(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", None)
    return tags is not None and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
