"""Every image of a column looked at once: which are missing or broken, how large they are, which are the same.

All headers and file ends are read; decoding, which is slow, stops at a number of images and of pixels, and says so.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from rebus.data.depth import Extremes, Levels, levels_of
from rebus.data.duplicates import THUMB, blank_images, shared_keys, similar_images
from rebus.data.image_sources import image_bytes, image_span, open_image
from rebus.data.images import Header, decode_image, deep_extremes, read_header
from rebus.data.table import Table, entries
from rebus.errors import ImageError
from rebus.recipe import Data

MOST_DECODED = 4000
MOST_PIXELS = 400_000_000
MOST_READ = 2**30  # bytes, to tell images from changed ones
_THREADS = 2
_ENDS = {"PNG": b"IEND", "JPEG": b"\xff\xd9", "GIF": b";"}


@dataclass
class ImageSurvey:
    """What a column's images are.

    Attributes:
        column: its name.
        rows: (M,) for each different image, the rows that use it.
        empty: rows without an image.
        headers: (M,) format and size; None where the image cannot be opened.
        errors: position of an image: why it cannot be used.
        decoded: positions of the images that were decoded as well.
        thumbs: (len(decoded), 16, 16, 3) uint8.
        extremes: of the decoded images with more than 8 bits a sample.
        levels: which of their values are black and white; None: there are no such images.
        leaks: (held-out row, training row) of images that are the same or look it.
        blank: positions of the images of one colour among those that were decoded.
    """

    column: str
    rows: list[list[int]] = field(default_factory=list)
    empty: list[int] = field(default_factory=list)
    headers: list[Header | None] = field(default_factory=list)
    errors: dict[int, ImageError] = field(default_factory=dict)
    decoded: list[int] = field(default_factory=list)
    thumbs: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, THUMB, THUMB, 3), np.uint8))
    extremes: list[Extremes] = field(default_factory=list)
    levels: Levels | None = None
    leaks: list[tuple[int, int]] = field(default_factory=list)
    blank: list[int] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Counts and sizes as JSON values."""
        known = [header for header in self.headers if header is not None]
        sides = {"width": [header.width for header in known], "height": [header.height for header in known]}
        return {
            "column": self.column,
            "different": len(self.rows),
            "rows_without": len(self.empty),
            "unreadable": len(self.errors),
            "headers_read": len(self.rows),
            "decoded": len(self.decoded),
            "blank": len(self.blank),
            **({} if self.levels is None else {"deep": len(self.extremes), "levels": list(self.levels)}),
            "formats": dict(Counter(header.format for header in known).most_common()),
            **{name: [min(side), int(np.median(side)), max(side)] for name, side in sides.items() if side},
        }


def survey_images(table: Table, column: str, data: Data, splits: Sequence[str]) -> ImageSurvey:
    """Look at all images of a column.

    Args:
        table: the rows.
        column: an image column.
        data: background and pixel budget.
        splits: (N,) each row's split; empty: no search for leaks.
    """
    values, survey = _different(table, column)

    def where(at: int) -> str:
        return f"{table.where(survey.rows[at][0])}, column '{column}'"

    lengths: list[int | None] = []
    alike: dict[Header, Header] = {}  # a million images of one size need one
    cut: list[int] = []
    for at, value in enumerate(values):
        try:
            header = read_header(value, table.root, pixel_budget=data.pixel_budget, where=where(at))
            length, whole = _end(value, table, header.format)
        except ImageError as error:
            survey.errors[at] = error
            survey.headers.append(None)
            lengths.append(None)
            continue
        survey.headers.append(alike.setdefault(header, header))
        lengths.append(length)
        if not whole:
            cut.append(at)

    def decode(at: int) -> npt.NDArray[np.uint8] | ImageError:
        try:
            array = decode_image(
                values[at],
                table.root,
                background=data.background,
                pixel_budget=data.pixel_budget,
                where=where(at),
                near=4 * THUMB,
                levels=survey.levels,
            )
        except ImageError as error:
            return error
        return np.asarray(Image.fromarray(array).resize((THUMB, THUMB), Image.Resampling.BOX))

    def extremes(at: int) -> Extremes | None:
        try:
            return deep_extremes(values[at], table.root, pixel_budget=data.pixel_budget, where=where(at))
        except ImageError:
            return None  # told when it is decoded

    with ThreadPoolExecutor(_THREADS) as pool:
        thumbs = []
        chosen = _chosen(survey.headers, cut)
        deep = [at for at in chosen if getattr(survey.headers[at], "deep", False)]
        survey.extremes = [result for result in pool.map(extremes, deep) if result is not None]
        if survey.extremes:
            survey.levels = data.levels or levels_of(survey.extremes)
        for at, thumb in zip(chosen, pool.map(decode, chosen), strict=True):
            if isinstance(thumb, ImageError):
                survey.errors[at] = thumb
            else:
                survey.decoded.append(at)
                thumbs.append(thumb)
    if thumbs:
        survey.thumbs = np.stack(thumbs)
        survey.blank = [at for at, flat in zip(survey.decoded, blank_images(survey.thumbs), strict=True) if flat]
    if splits:
        survey.leaks = _leaks(survey, values, lengths, table, splits)
    return survey


def image_digest(table: Table, column: str) -> str:
    """The content of a column's images as 32 hexadecimal digits, whatever their files are called.

    Of up to 1 GiB of images all bytes are read; of more, each one's size, beginning and end: an equal share of 1 GiB,
    at least 4 KiB.
    """
    values, survey = _different(table, column)
    sizes = [_size(value, table) for value in values]
    share = None if sum(sizes) <= MOST_READ else max(4096, MOST_READ // len(sizes))
    digest = hashlib.sha256()
    contents = [_content(value, table, size, share) for value, size in zip(values, sizes, strict=True)]
    of_row: dict[int, bytes] = {}
    for content, rows in zip(contents, survey.rows, strict=True):
        for row in rows:
            of_row[row] = of_row.get(row, b"") + content
    for row in range(len(table)):
        digest.update(of_row.get(row, b"none"))
    return digest.hexdigest()[:32]


def _size(value: Any, table: Table) -> int:
    try:
        embedded = image_bytes(value)
        return len(embedded) if embedded is not None else image_span(value, table.root)[2]
    except (ImageError, OSError):
        return 0


def _content(value: Any, table: Table, size: int, share: int | None) -> bytes:
    """A digest of an image's bytes, or of its size, beginning and end."""
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    try:
        with open_image(value, table.root) as opened:
            if share is None or size <= share:
                digest.update(opened.file.read())
            else:
                digest.update(opened.file.read(share // 2))
                opened.file.seek(-(share // 2), os.SEEK_END)
                digest.update(opened.file.read())
    except (ImageError, OSError) as error:
        digest.update(type(error).__name__.encode())
    return digest.digest()


def _different(table: Table, column: str) -> tuple[list[Any], ImageSurvey]:
    survey = ImageSurvey(column)
    values: list[Any] = []
    place: dict[Any, int] = {}
    for row, value in enumerate(table.column(column)):
        images = [value] if value == b"" else entries(value)
        if not images:
            survey.empty.append(row)
        for image in images:
            key = image if isinstance(image, str) and len(image) < 256 else _digest(image)
            at = place.setdefault(key, len(values))
            if at == len(values):
                values.append(image)
                survey.rows.append([])
            survey.rows[at].append(row)
    return values, survey


def _digest(value: Any) -> bytes:
    content = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(content, digest_size=16).digest()


def _chosen(headers: list[Header | None], first: list[int]) -> list[int]:
    """Positions to decode: all, or ``first`` and evenly spaced ones within the limits."""
    whole = [at for at, header in enumerate(headers) if header is not None]
    pixels = sum(header.width * header.height for header in headers if header is not None)
    most = min(MOST_DECODED, len(whole), max(50, int(len(whole) * MOST_PIXELS / max(1, pixels))))
    return sorted({*first[:most], *(whole[i * len(whole) // most] for i in range(most))})


def _end(value: Any, table: Table, kind: str) -> tuple[int, bool]:
    """The number of bytes (only equal lengths can be equal images), and whether the end is as the format has it."""
    embedded = image_bytes(value)
    if embedded is not None:
        return len(embedded), _ENDS.get(kind, b"") in embedded[-64:]
    path, start, length = image_span(value, table.root)
    with open(path, "rb") as file:
        last = min(64, length)
        return length, _ENDS.get(kind, b"") in os.pread(file.fileno(), last, start + length - last)


def _content_key(value: Any, table: Table) -> bytes | None:
    try:
        with open_image(value, table.root) as opened:
            return _digest(opened.file.read())
    except OSError:
        return None


def _leaks(
    survey: ImageSurvey, values: list[Any], lengths: list[int | None], table: Table, splits: Sequence[str]
) -> list[tuple[int, int]]:
    used = [{splits[row] for row in rows} for rows in survey.rows]
    pairs = {(at, at) for at, names in enumerate(used) if "train" in names and len(names) > 1}
    same_length: dict[Any, list[int]] = defaultdict(list)
    for at, length in enumerate(lengths):
        if length is not None:
            same_length[length].append(at)
    keys: list[bytes | None] = [None] * len(values)
    for group in same_length.values():
        if len(group) > 1 and len(set.union(*(used[at] for at in group))) > 1:
            for at in group:
                keys[at] = _content_key(values[at], table)
    blank = set(survey.blank)
    pairs |= {(a, b) for a, b in shared_keys(keys, used) if a not in blank}
    positions = np.arange(len(survey.decoded))
    training = np.array(["train" in used[at] for at in survey.decoded], dtype=bool)
    held_out = np.array([used[at] != {"train"} and "train" not in used[at] for at in survey.decoded], dtype=bool)
    near = similar_images(survey.thumbs, positions[held_out], positions[training])
    result = {first for first, _ in pairs}
    pairs |= {(survey.decoded[a], survey.decoded[b]) for a, b in near if survey.decoded[a] not in result}
    return sorted((_row(survey, a, splits, False), _row(survey, b, splits, True)) for a, b in pairs)


def _row(survey: ImageSurvey, at: int, splits: Sequence[str], training: bool) -> int:
    return next(row for row in survey.rows[at] if (splits[row] == "train") == training)
