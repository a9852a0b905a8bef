"""Images fitted to one square, and changed at random for training: (H, W, 3) uint8 in, (S, S, 3) uint8 out.

Every random change is a pure function of (seed, epoch, index): nothing needs saving, and a batch of any size or order
on any number of processes gives the same images, since each is computed by itself.

Letters: B images, H height, W width, S side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from rebus.data.depth import Levels
from rebus.data.images import PIXEL_BUDGET, background_colour, decode_image
from rebus.data.jpeg import Choice
from rebus.data.resizing import scale_and_cut
from rebus.recipe import Augment

Array = npt.NDArray[np.uint8]
_LUMA = np.array([0.299, 0.587, 0.114])
# YIQ: brightness and two colour axes; a turn of the two axes is a turn of the colour wheel that keeps brightness
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)
_DRAWS = (
    24  # random numbers an image; each change has its own, so that switching one off leaves the others as they were
)
_ASPECT = 4 / 3  # a crop is at most this much wider or higher than the image, unless said


def fit_image(
    array: Array,
    size: int,
    fit: Literal["pad", "crop", "squash"] | str = "pad",
    background: str = "white",
    resample: str = "auto",
    edge: int | None = None,
) -> Array:
    """Scale an image to a square, antialiased.

    Args:
        array: (H, W, 3) uint8.
        size: side of the square, in pixels.
        fit: ``pad`` keeps all of it and fills the rest, ``crop`` keeps the middle, ``squash`` changes its proportions,
            ``twice`` does after its longer side was scaled to ``edge``, as Idefics3's processor does.
        background: colour of the filled part.
        resample: the filter; ``auto``: Lanczos, bicubic for enlarging. Any other: scaled and cut to whole pixels, as
            Hugging Face's processors do, so that their results are the same.
        edge: with a filter: what the image (``crop``: its shorter side) is scaled to before the middle is cut out.

    Returns:
        (size, size, 3) uint8.
    """
    if resample != "auto" or fit == "twice":
        return scale_and_cut(array, size, fit, background, resample if resample != "auto" else "lanczos", edge)
    height, width = array.shape[:2]
    if (height, width) == (size, size):
        return array
    image = Image.fromarray(array)
    if fit == "squash":
        return _resize(image, size, size, (0, 0, width, height))
    if fit == "crop":
        side = min(height, width)
        left, top = (width - side) / 2, (height - side) / 2
        return _resize(image, size, size, (left, top, left + side, top + side))
    scale = size / max(height, width)
    wide, high = max(1, round(width * scale)), max(1, round(height * scale))
    inner = _resize(image, wide, high, (0, 0, width, height))
    if inner.shape[:2] == (size, size):
        return inner
    square = np.empty((size, size, 3), dtype=np.uint8)
    square[:] = background_colour(background)
    top, left = (size - high) // 2, (size - wide) // 2
    square[top : top + high, left : left + wide] = inner
    return square


def augment(array: Array, settings: Augment, seed: int, epoch: int, index: int | Sequence[int], view: int = 0) -> Array:
    """Change one image (H, W, 3), or a batch (B, H, W, 3) with B indices, at random. See ``augment_batch``."""
    indices = [index] if isinstance(index, int) else list(index)
    if array.ndim == 4:
        return augment_batch(array, settings, seed, epoch, indices, view)
    single: Array = augment_batch(array[None], settings, seed, epoch, indices, view)[0]
    return single


def augment_batch(
    images: Array, settings: Augment, seed: int, epoch: int, indices: Sequence[int], view: int = 0
) -> Array:
    """Change images at random: crop, flip, move and scale, then colours, then a blanked rectangle.

    Args:
        images: (B, H, W, 3) uint8.
        settings: which changes and how strong.
        seed: of the run.
        epoch: pass over the data.
        indices: (B,) each image's number in the data; the same number gives the same changes.
        view: number of the view, where several are made of one image.

    Returns:
        (B, H, W, 3) uint8; the argument itself where nothing is to be changed.
    """
    if not any(settings.model_dump().values()):
        return images
    changed = np.empty_like(images)
    for row, (image, index) in enumerate(zip(images, indices, strict=True)):
        changed[row] = _change(image, settings, draws(seed, epoch, int(index), view))
    return changed


def draws(seed: int, epoch: int, index: int, view: int = 0) -> npt.NDArray[np.float64]:
    """(24,) numbers in [0, 1) for one view of an image: Philox, a counter-based generator, keyed by seed and epoch.

    Salmon, Moraes, Dror and Shaw, 2011, "Parallel Random Numbers: As Easy as 1, 2, 3".
    """
    key = np.array([seed % 2**64, epoch % 2**64], dtype=np.uint64)
    counter = np.array([0, index % 2**64, view % 2**64, 0], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(counter=counter, key=key)).random(_DRAWS)


def _change(image: Array, settings: Augment, u: npt.NDArray[np.float64]) -> Array:
    height, width = image.shape[:2]
    flipped = u[0] < (settings.flip or 0.0)
    if flipped or settings.shift or settings.scale or settings.crop:
        factor = 1.0 + settings.scale * (2 * u[1] - 1)
        down = settings.shift * height * (2 * u[2] - 1)
        right = settings.shift * width * (2 * u[3] - 1)
        rows = _source(height, factor, down, False)
        columns = _source(width, factor, right, bool(flipped))
        if settings.crop:
            rows, columns = _cropped(rows, columns, settings, u[13:17])
        image = _resample(image, rows, columns)
    if settings.colour or settings.hue:
        matrix, offset = _colours(image, settings, u[4:8])
        image = _recolour(image, matrix, offset)
    if u[17] < settings.grey:
        image = _recolour(image, np.tile(_LUMA, (3, 1)).astype(np.float32), np.zeros(3, dtype=np.float32))
    if u[8] < settings.erase:
        image = _erased(image, u[9:13])
    return image


def _source(side: int, factor: float, move: float, mirrored: bool) -> npt.NDArray[np.float64]:
    """(side,) where each pixel of the result lies in the image, in pixels; past the edge the edge is repeated."""
    at = (np.arange(side) + 0.5 - side / 2 - move) / factor + side / 2 - 0.5
    if mirrored:
        at = side - 1 - at
    return np.clip(at, 0.0, side - 1.0)


def crop_of(settings: Augment, u: npt.NDArray[np.float64]) -> tuple[float, float]:
    """(height, width) of a random crop, shares of the sides: ``crop`` to all of the area, a shape within ``aspect``.

    Szegedy et al., 2015, "Going Deeper with Convolutions"; the area is drawn evenly, the shape on a log scale.
    """
    area = settings.crop + (1 - settings.crop) * u[0]
    aspect = math.exp(math.log(settings.aspect or _ASPECT) * (2 * u[1] - 1))
    return min(1.0, math.sqrt(area / aspect)), min(1.0, math.sqrt(area * aspect))


def _cropped(
    rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64], settings: Augment, u: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The same places within a random rectangle of the image."""
    places = []
    for at, share, where in zip((rows, columns), crop_of(settings, u), u[2:4], strict=True):
        side = len(at)
        places.append(np.clip((at + 0.5) * share + where * (1 - share) * side - 0.5, 0.0, side - 1.0))
    return places[0], places[1]


def _resample(image: Array, rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64]) -> Array:
    """Bilinear, one direction after the other, in whole numbers of 1/256."""
    height, width = image.shape[:2]
    low, high, weight = _neighbours(rows, height)
    mixed = _mix(image[low], image[high], weight[:, None, None])  # (H, W, 3)
    planes = np.ascontiguousarray(mixed.transpose(2, 1, 0))  # (3, W, H): whole rows are picked fastest
    low, high, weight = _neighbours(columns, width)
    planes = _mix(planes[:, low], planes[:, high], weight[:, None])
    result = np.empty_like(mixed)
    for channel in range(3):
        result[:, :, channel] = planes[channel].T
    return result


def _neighbours(
    at: npt.NDArray[np.float64], side: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.uint16]]:
    low = np.floor(at).astype(np.intp)
    weight = np.rint((at - low) * 256).astype(np.uint16)
    return low, np.minimum(low + 1, side - 1), weight


def _mix(first: Array, second: Array, weight: npt.NDArray[np.uint16]) -> Array:
    total = first.astype(np.uint16)
    total *= np.uint16(256) - weight  # at most 255 * 256, which fits 16 bits
    other = second.astype(np.uint16)
    other *= weight
    total += other
    total += np.uint16(128)
    total >>= np.uint16(8)
    return total.astype(np.uint8)


def _colours(
    image: Array, settings: Augment, u: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Brightness, contrast (about the mean grey), saturation and hue as one (3, 3) matrix and a (3,) offset."""
    strength = settings.colour
    bright, contrast, saturation = (1.0 + strength * (2 * u[i] - 1) for i in range(3))
    matrix = saturation * np.eye(3) + (1 - saturation) * np.tile(_LUMA, (3, 1))
    if settings.hue:
        angle = 2 * math.pi * settings.hue * (2 * u[3] - 1)
        turn = np.array([[1, 0, 0], [0, math.cos(angle), -math.sin(angle)], [0, math.sin(angle), math.cos(angle)]])
        matrix = _FROM_YIQ @ turn @ _TO_YIQ @ matrix
    grey = float(_LUMA @ _mean(image)) * bright
    offset = np.full(3, grey * (1 - contrast))
    return (bright * contrast * matrix).astype(np.float32), offset.astype(np.float32)


def _recolour(image: Array, matrix: npt.NDArray[np.float32], offset: npt.NDArray[np.float32]) -> Array:
    total = image.reshape(-1, 3).astype(np.float32) @ matrix.T  # one small product an image: a batch changes nothing
    total += offset + np.float32(0.5)  # 0.5: the cast below rounds down
    np.clip(total, 0.0, 255.0, out=total)
    return total.astype(np.uint8).reshape(image.shape)


def _mean(image: Array) -> npt.NDArray[np.float64]:
    """(3,) the mean colour, from exact sums."""
    height, width = image.shape[:2]
    columns = image.reshape(height, width * 3).sum(axis=0, dtype=np.int64)
    mean: npt.NDArray[np.float64] = columns.reshape(width, 3).sum(axis=0) / (height * width)
    return mean


def _erased(image: Array, u: npt.NDArray[np.float64]) -> Array:
    """A rectangle of 2 to 20% of the image in its mean colour."""
    height, width = image.shape[:2]
    area, ratio = 0.02 + 0.18 * u[0], math.exp((2 * u[1] - 1) * math.log(2.5))
    high = min(height, max(1, round(height * math.sqrt(area * ratio))))
    wide = min(width, max(1, round(width * math.sqrt(area / ratio))))
    top, left = int(u[2] * (height - high + 1)), int(u[3] * (width - wide + 1))
    blanked = image.copy()
    blanked[top : top + high, left : left + wide] = _mean(image).astype(np.uint8)
    return blanked


def _resize(image: Image.Image, wide: int, high: int, box: tuple[float, float, float, float]) -> Array:
    small = box[2] - box[0] < wide and box[3] - box[1] < high
    how = Image.Resampling.BICUBIC if small else Image.Resampling.LANCZOS
    return np.array(image.resize((wide, high), how, box=box), dtype=np.uint8)


def fitted_image(
    value: str | bytes,
    root: str | Path = ".",
    *,
    size: int,
    fit: Literal["pad", "crop", "squash"] | str = "pad",
    background: str = "white",
    pixel_budget: int = PIXEL_BUDGET,
    where: str = "",
    resample: str = "auto",
    edge: int | None = None,
    jpeg: Choice = "auto",
    levels: Levels | None = None,
) -> Array:
    """One image as the model sees it: (size, size, 3) uint8. Training and answering both come this way.

    Raises:
        ImageError: as ``decode_image``.
    """
    near = size if resample == "auto" else None  # a filter is meant for all pixels
    array = decode_image(
        value, root, background=background, pixel_budget=pixel_budget, where=where, near=near, jpeg=jpeg, levels=levels
    )
    return fit_image(array, size, fit, background, resample, edge)
