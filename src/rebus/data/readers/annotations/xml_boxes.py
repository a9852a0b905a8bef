"""Boxes in XML: Pascal VOC (a file an image) and CVAT for images (one file).

Source: Everingham et al. 2010, "The Pascal Visual Object Classes (VOC) Challenge".
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from rebus.data.readers.annotations.boxes import Images, Row, fraction_box, size_of
from rebus.data.unused import Unused
from rebus.errors import DataError

_VOC = ("xmin", "ymin", "xmax", "ymax")
_CVAT = ("xtl", "ytl", "xbr", "ybr")


def parse_xml(path: Path) -> ElementTree.Element:
    """A file's topmost element. Raises DataError where it is no XML, or declares a document type."""
    text = path.read_bytes()
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise DataError(path, "XML without declarations", "a document type, which may expand without end", "remove it")
    try:
        return ElementTree.fromstring(text)  # noqa: S314 - without declarations nothing expands
    except ElementTree.ParseError as error:
        raise DataError(path, "XML", f"something else ({error})", "export it again") from error


def voc_row(path: Path, root: ElementTree.Element, images: Images, unused: Unused) -> Row:
    """One image with its boxes. Raises DataError where an object has no name or no box."""
    where = path.name
    named = root.findtext("filename") or path.stem
    place = images.find(named) or images.find(path.stem)
    width, height = size_of(images, place, root.findtext("size/width"), root.findtext("size/height"), where)
    boxes: list[Row] = []
    for thing in root.iter("object"):
        sides = [thing.findtext(f"bndbox/{side}") for side in _VOC]
        label = thing.findtext("name")
        if label is None or any(side is None for side in sides):
            raise DataError(where, "Pascal VOC: an object with name and bndbox", "one without", "export it again")
        _add(boxes, label, [float(side or 0) for side in sides], (width, height), unused, where)
    return {"image": place or named, "boxes": boxes}


def cvat_rows(path: Path, root: ElementTree.Element, images: Images, unused: Unused) -> list[Row]:
    """The images of a CVAT file with their boxes. Raises DataError where it holds a video's tracks."""
    if root.find("track") is not None:
        raise DataError(path, "CVAT for images", "CVAT for video (tracks)", "export it as 'CVAT for images'")
    rows = []
    for number, image in enumerate(root.iter("image"), 1):
        where = f"{path.name}, image {number}"
        named = image.get("name") or ""
        place = images.find(named)
        size = size_of(images, place, image.get("width"), image.get("height"), where)
        boxes: list[Row] = []
        for shape in image:
            if shape.tag == "box":
                sides = [float(shape.get(side) or 0) for side in _CVAT]
                _add(boxes, shape.get("label") or "", sides, size, unused, where)
            else:
                unused.add(f"CVAT shapes of the type '{shape.tag}'", where)
        rows.append({"image": place or named, "boxes": boxes})
    return rows


def _add(
    boxes: list[Row], label: str, sides: list[float], size: tuple[float, float], unused: Unused, where: str
) -> None:
    box = fraction_box(sides, *size)
    if box is None or not label.strip():
        unused.add("boxes without an area or a label", where)
    else:
        boxes.append({"label": label.strip(), "box": box})
