"""COCO's JSON: captions or boxes, joined to their images by id.

Source: Lin et al. 2014, "Microsoft COCO: Common Objects in Context".
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from rebus.data.readers.annotations.boxes import (
    Images,
    Row,
    fraction_box,
    images_of,
    size_of,
    table_of,
    words_of,
)
from rebus.data.readers.source import Source
from rebus.data.table import Table
from rebus.errors import DataError

_OTHERS = ("segmentation", "keypoints", "attributes", "area")
_EXPECTED = 'COCO\'s layout: {"images": [{"id", "file_name"}], "annotations": [{"image_id", "bbox" or "caption"}]}'


def is_coco(content: Any) -> bool:
    """Whether a document lists images by id, as COCO does."""
    images = content.get("images") if isinstance(content, dict) else None
    first = images[0] if isinstance(images, list) and images else None
    return isinstance(first, dict) and {"id", "file_name"} <= set(first) and "annotations" in content


def read_coco(content: dict[str, Any], source: Source, root: Path | None = None) -> Table:
    """One row an image: ``image`` with ``caption`` (a list of texts) or ``boxes``.

    Args:
        content: the document.
        source: its file.
        root: the folder of the images; None: the file's own, or the one above.

    Raises:
        DataError: the images are not there, or annotations hold neither captions nor boxes.
    """
    marks: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for mark in content["annotations"]:
        if not isinstance(mark, dict) or "image_id" not in mark:
            raise DataError(source.name, _EXPECTED, repr(mark)[:80], "correct it, or export it again")
        marks[mark["image_id"]].append(mark)
    known = {image["id"] for image in content["images"]}
    strays = sum(len(received) for key, received in marks.items() if key not in known)
    source.unused.add("annotations of images that the file does not list", source.name, strays)
    captions = any("caption" in mark for received in marks.values() for mark in received)
    if not captions and not any(mark.get("bbox") for received in marks.values() for mark in received):
        received = "annotations with neither" if marks else "no annotation (a list of images alone)"
        expected = "COCO annotations with 'caption' or 'bbox'"
        raise DataError(source.name, expected, received, "name the file that holds them")
    images = images_of(source.path, [str(image["file_name"]) for image in content["images"]], "COCO", root)
    names = {entry["id"]: str(entry["name"]) for entry in content.get("categories") or []}
    rows: list[Row] = []
    numbers: list[int] = []
    for number, image in enumerate(content["images"], 1):
        place = images.find(str(image["file_name"]), words_of(source.path))
        row: Row = {"image": place or str(image["file_name"])}
        if captions:
            row["caption"] = [str(mark["caption"]) for mark in marks[image["id"]] if mark.get("caption")]
            if not row["caption"]:
                source.unused.add("images without a caption", f"{source.name}, image {number}")
                continue
        else:
            where = f"{source.name}, image {number}"
            row["boxes"] = _boxes(marks[image["id"]], names, image, images, place, source, where)
        rows.append(row)
        numbers.append(number)
    for name in _OTHERS[:3]:
        held = sum(bool(mark.get(name)) for received in marks.values() for mark in received)
        source.unused.add(f"annotations with '{name}', of which only the box is used", source.name, held)
    return table_of(source, images.root, rows, numbers, "image")


def _boxes(
    marks: list[dict[str, Any]],
    names: dict[Any, str],
    image: dict[str, Any],
    images: Images,
    place: str | None,
    source: Source,
    where: str,
) -> list[Row]:
    result: list[Row] = []
    for mark in marks:
        box = mark.get("bbox")
        if mark.get("iscrowd"):
            source.unused.add("boxes around crowds (iscrowd)", where)
        elif not box or len(box) != 4:
            source.unused.add("annotations without a box", where)
        else:
            if mark.get("category_id") not in names:
                received = f"category_id {mark.get('category_id')!r}, which 'categories' does not name"
                raise DataError(
                    where, "a category that the file names", received, "export the file with its categories"
                )
            width, height = size_of(images, place, image.get("width"), image.get("height"), where)
            x, y, wide, high = (float(side) for side in box)
            sides = fraction_box((x, y, x + wide, y + high), width, height)
            if sides is None:
                source.unused.add("boxes without an area inside the image", where)
            else:
                result.append({"label": names[mark["category_id"]], "box": sides})
    return result
