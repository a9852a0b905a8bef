"""Boxes in fractions of an image, and the images that annotation files name."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rebus.data.columns import arrow_table
from rebus.data.images import read_header
from rebus.data.names import IMAGE_ENDINGS
from rebus.data.readers.source import Source
from rebus.data.table import Places, Table
from rebus.errors import DataError
from rebus.recipe import Kind

Row = dict[str, Any]
_ANNOTATIONS = ("annotations", "annotation", "labels", "json", "jsons", "meta", "metadata", "questions")
_DIGITS = re.compile(r"(\d+)(?!.*\d)")


class Images:
    """The image files in a folder and below, found by what annotation files call them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_number: dict[int, list[str]] = defaultdict(list)
        for at, folders, files in os.walk(root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                stem, ending = os.path.splitext(name)
                if ending.lower() not in IMAGE_ENDINGS:
                    continue
                place = Path(at, name).relative_to(root).as_posix()
                self._by_name[name].append(place)
                self._by_name[stem].append(place)
                if digits := _DIGITS.search(stem):
                    self._by_number[int(digits[1])].append(place)

    def __contains__(self, name: str) -> bool:
        return name.replace("\\", "/").rsplit("/", 1)[-1] in self._by_name

    def find(self, name: str, near: Sequence[str] = ()) -> str | None:
        """The file of this name, the one whose folders agree most where several have it.

        Args:
            name: a file's name, perhaps with folders, perhaps without its ending.
            near: words that its folders may hold, e.g. a split.
        """
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        result = self._by_name.get(parts[-1], []) if parts else []
        return self._best(
            name, result, lambda place: (place == "/".join(parts), _agreement(place, parts), _near(place, near))
        )

    def numbered(self, number: int, near: Sequence[str] = ()) -> str | None:
        """The file whose name ends in this number, as in ``COCO_val2014_000000000042.jpg``."""
        return self._best(str(number), self._by_number.get(number, []), lambda place: _near(place, near))

    def _best(self, name: str, texts: list[str], score: Callable[[str], Any]) -> str | None:
        best = sorted(texts, key=score)[-2:]
        if len(best) == 2 and score(best[0]) == score(best[1]):
            received = f"'{best[0]}' and '{best[1]}', which may both be meant"
            raise DataError(self.root, f"one image that '{name}' names", received, "keep one of them in the folder")
        return best[-1] if best else None


def images_of(path: Path, names: Sequence[str], layout: str, root: Path | None = None) -> Images:
    """The images that a file names: in a folder and below, or in the file's own folder or the one above it.

    Raises:
        DataError: none of them is there.
    """
    for folder in folders_of(path) if root is None else [root]:
        images = Images(folder)
        if any(name in images for name in names[:1000]):
            return images
    raise DataError(
        path,
        f"the images that this {layout} file names, e.g. '{names[0]}'" if names else "images",
        f"none of {len(names):,} in '{path.parent}' or below",
        "put the folder of images beside the file",
    )


def fraction_box(sides: Sequence[float], width: float, height: float) -> list[float] | None:
    """(x0, y0, x1, y1) in pixels as fractions, cut at the image's edges; None where nothing is left."""
    scaled = [side / size for side, size in zip(sides, (width, height, width, height), strict=True)]
    x0, y0, x1, y1 = (round(min(1.0, max(0.0, side)), 6) for side in scaled)
    return [x0, y0, x1, y1] if x0 < x1 and y0 < y1 else None


def size_of(images: Images, place: str | None, width: Any, height: Any, where: str) -> tuple[float, float]:
    """An image's size: as the file says, else from the image itself. Raises DataError where neither says it."""
    if width and height:
        return float(width), float(height)
    if place is None:
        raise DataError(where, "the width and height of the image", "neither", "add them, or the image")
    header = read_header(place, images.root, where=where)
    return float(header.width), float(header.height)


def table_of(source: Source, root: Path, rows: list[Row], numbers: list[int], word: str, name: str = "") -> Table:
    """A table of rows from one annotation file. Raises DataError where a column mixes kinds of values."""
    places = Places((source.name,), word, numbers=np.array(numbers, dtype=np.int64))
    columns = {key: [row.get(key) for row in rows] for key in dict.fromkeys(key for row in rows for key in row)}
    kinds: dict[str, Kind] = {"boxes": "boxes"} if "boxes" in columns else {}
    return Table(arrow_table(columns, places.where, source.name), root, places, name=name or source.name, kinds=kinds)


def words_of(path: Path) -> tuple[str, ...]:
    """What a file's own name and its folder's may share with the folder of its images: ``train2017``, ``valid``."""
    return (path.parent.name, *path.stem.split("_"))


def folders_of(path: Path) -> list[Path]:
    """Where a file's images may lie: in its folder, or, where that is one of annotations, in the folder above."""
    own = path.parent.resolve()
    return [path.parent, own.parent] if own.name.casefold() in _ANNOTATIONS else [path.parent]


def _near(place: str, words: Sequence[str]) -> int:
    folders = place.split("/")[:-1]
    return sum(word in folders for word in words)


def _agreement(place: str, parts: list[str]) -> int:
    """How many folders, from the file upwards, are the same."""
    folders = place.split("/")
    same = 0
    while same < min(len(folders), len(parts)) - 1 and folders[-2 - same] == parts[-2 - same]:
        same += 1
    return same
