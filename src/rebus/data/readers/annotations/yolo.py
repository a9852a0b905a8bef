"""YOLO's label files: one an image, a line a box: class, then the middle and the size in fractions of the image.

Names of the classes stand in ``data.yaml``, ``classes.txt`` or ``obj.names``.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from rebus.data.readers.annotations.boxes import Row, fraction_box
from rebus.data.readers.source import Source
from rebus.errors import DataError
from rebus.recipe import Data

_LINE = re.compile(r"\d+(?:\s+-?(?:\d+\.?\d*|\.\d+)(?:[eE]-?\d+)?){4,}")
_NAMES = ("classes.txt", "obj.names", "labels.txt", "_darknet.labels", "classes.names")


def label_files(files: list[Path], images: list[Path]) -> dict[Path, Path]:
    """Image: its label file, of the same name beside it or in a folder ``labels`` where the image's says ``images``."""
    texts = {path.with_suffix(""): path for path in files if path.suffix.lower() == ".txt" and path.name not in _NAMES}
    entries = {}
    for image in images:
        stem = image.with_suffix("")
        swapped = Path(*("labels" if part.casefold() in ("images", "jpegimages") else part for part in stem.parts))
        text = texts.get(stem, texts.get(swapped))
        if text is not None:
            entries[image] = text
    return entries


def is_yolo(folder: Path, labels: dict[Path, Path]) -> bool:
    """Whether label files hold classes with four or more numbers, in the first files that hold anything."""
    looked = 0
    for path in labels.values():
        lines = [line for line in _text(folder / path).split("\n") if line.strip()]
        if not all(_LINE.fullmatch(line.strip()) for line in lines):
            return False
        looked += bool(lines)
        if looked == 50:
            break
    return looked > 0


def class_names(folder: Path, files: list[Path], data: Data) -> list[str]:
    """The classes' names in their order. Raises DataError where no file says them."""
    for path in files:
        if path.suffix.lower() in (".yaml", ".yml"):
            try:
                content = yaml.safe_load(_text(folder / path))
            except yaml.YAMLError:
                continue
            names = content.get("names") if isinstance(content, dict) else None
            if isinstance(names, dict):
                names = [names.get(number, names.get(str(number), str(number))) for number in range(len(names))]
            if isinstance(names, list):
                return [str(name) for name in names]
    named = next((path for path in files if path.name in _NAMES or path.suffix == ".names"), None)
    if named is None:
        raise DataError(
            folder,
            "the names of the classes of YOLO label files",
            "none: there is no data.yaml, classes.txt or obj.names",
            "add classes.txt, a name a line in the order of their numbers",
        )
    return [line.strip() for line in Source(folder / named, data).read_text().split("\n") if line.strip()]


def has_keypoints(folder: Path, files: list[Path]) -> bool:
    """Whether a data.yaml says that a line holds points after its box (``kpt_shape``)."""
    return any("kpt_shape" in _text(folder / path) for path in files if path.suffix.lower() in (".yaml", ".yml"))


def read_boxes(folder: Path, path: Path, names: list[str], keypoints: bool, source: Source) -> list[Row]:
    """The boxes of one label file; an empty one says that nothing is there.

    Args:
        folder: the topmost one.
        path: the file, relative to it.
        names: of the classes.
        keypoints: whether points follow a box, rather than an outline standing for it.
        source: counts what is not used.

    Raises:
        DataError: a line is no box, or of a class without a name.
    """
    result: list[Row] = []
    for number, line in enumerate(_text(folder / path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{folder.name}/{path.as_posix()}, line {number}"
        if not _LINE.fullmatch(line.strip()):
            raise DataError(where, "a YOLO box: class, x, y, width, height", f"'{line.strip()[:60]}'", "correct it")
        first, *rest = line.split()
        sides = [float(value) for value in rest]
        if keypoints and len(sides) > 5:
            source.unused.add("boxes with keypoints, of which only the box is used", where)
            sides = sides[:4]
        if len(sides) > 5 and len(sides) % 2:
            do = "for keypoints name kpt_shape in data.yaml"
            raise DataError(where, "a box, or an outline of x and y in pairs", f"{len(sides)} numbers", do)
        if int(first) >= len(names):
            raise DataError(where, f"a class from 0 to {len(names) - 1}", first, "add its name to the list of classes")
        if any(not -0.01 <= side <= 1.01 for side in sides):
            raise DataError(where, "fractions of the image", f"'{line.strip()[:60]}'", "divide pixels by its size")
        if len(sides) in (4, 5):
            source.unused.add("confidences of boxes", where, len(sides) - 4)
            x, y, wide, high = sides[:4]
            box = fraction_box((x - wide / 2, y - high / 2, x + wide / 2, y + high / 2), 1, 1)
        else:
            source.unused.add("outlines, of which only the box around them is used", where)
            box = fraction_box((min(sides[::2]), min(sides[1::2]), max(sides[::2]), max(sides[1::2])), 1, 1)
        if box is None:
            source.unused.add("boxes without an area", where)
        else:
            result.append({"label": names[int(first)], "box": box})
    return result


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").replace("\r", "\n")
