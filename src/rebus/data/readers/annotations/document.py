"""Which annotation format a JSON document or a folder is in; nothing here reads one itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rebus.data.columns import arrow_table
from rebus.data.names import IMAGE_ENDINGS, split_in_name, split_word
from rebus.data.readers.annotations.boxes import Images, Row
from rebus.data.readers.annotations.coco import is_coco, read_coco
from rebus.data.readers.annotations.label_studio import is_label_studio, read_label_studio
from rebus.data.readers.annotations.vqa import is_answers, is_questions, read_vqa
from rebus.data.readers.annotations.xml_boxes import cvat_rows, parse_xml, voc_row
from rebus.data.readers.annotations.yolo import class_names, has_keypoints, is_yolo, label_files, read_boxes
from rebus.data.readers.source import Source
from rebus.data.readers.split_folders import layout_of
from rebus.data.table import Places, Table
from rebus.errors import DataError
from rebus.recipe import Data

_MOST = 2**31  # bytes of a document that is looked at for its layout


def document_table(content: Any, source: Source, root: Path | None = None) -> Table | None:
    """The table of a JSON document in a known format; None where it is in none.

    Args:
        content: the document.
        source: its file.
        root: the folder of the images, where it is known.

    Raises:
        DataError: it is in one and cannot be read, or the file that belongs to it is not there.
    """
    known = (is_questions, is_answers, is_coco, is_label_studio)
    if any(matches(content) for matches in known):
        content = json.loads(source.read_text())  # numbers as numbers, not as they are written
    if is_questions(content) or (is_answers(content) and not is_coco(content)):
        return _vqa(content, source, root)
    if is_coco(content):
        return read_coco(content, source, root)
    if isinstance(content, dict) and {"shapes", "imagePath"} <= set(content):
        do = "convert it to COCO, YOLO or Pascal VOC"
        raise DataError(source.name, "a table, or annotations that are read", "LabelMe's file of one image", do)
    return read_label_studio(content, source, root) if is_label_studio(content) else None


def folder_table(folder: Path, files: list[Path], data: Data) -> list[tuple[Table, str]]:
    """The tables of a folder in a known format, each with its split or ""; none where it is in none.

    Raises:
        DataError: it is in one and cannot be read.
    """
    images = [path for path in files if path.suffix.lower() in IMAGE_ENDINGS]
    if not images:
        return []
    documents = [path for path in files if path.suffix.lower() == ".json" and len(path.parts) <= 3]
    items = []
    for path in documents:
        source = Source(folder / path, data)
        content = _content(source.path)
        if is_answers(content) and not is_coco(content):
            continue  # read with its questions
        table = document_table(content, source, folder) if content is not None else None
        if table is not None:
            table.unused.update(source.unused)
            items.append((table, split_word(path.parent.name) or split_in_name(path.stem) or ""))
    if items:
        twice = next((split for _, split in items if [word for _, word in items].count(split) > 1), None)
        if twice is not None:
            names = ", ".join(table.name for table, split in items if split == twice)
            do = f"name the one to read, e.g. {folder / items[0][0].name}"
            raise DataError(folder, "one annotation file, or one a split", names, do)
        return items
    if any(path.suffix.lower() == ".xml" for path in files):
        table = _xml(folder, files)
        if table is not None:
            return [(table, "")]
    labels = label_files(files, images)
    if labels and is_yolo(folder, labels):
        return [(_yolo(folder, files, images, labels, data), "")]
    return []


def _vqa(content: Any, source: Source, root: Path | None) -> Table:
    wanted, kind = (is_answers, "answers") if is_questions(content) else (is_questions, "questions")
    own = _ids(content)
    for path in sorted(source.path.parent.glob("*.json")):
        other = _content(path) if path != source.path else None
        if other is not None and wanted(other) and not is_coco(other) and own & _ids(other):
            both = (content, other) if kind == "answers" else (other, content)
            return read_vqa(*both, source, root)
    has = "questions without their answers" if kind == "answers" else "answers without their questions"
    raise DataError(source.name, "VQAv2's two files", has, f"put the file of {kind} into the same folder")


def _ids(content: dict[str, Any]) -> set[Any]:
    entries = content.get("questions") or content.get("annotations") or []
    return {entry.get("question_id") for entry in entries if isinstance(entry, dict)}


def _content(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes()) if path.stat().st_size < _MOST else None
    except (OSError, ValueError, RecursionError):
        return None


def _xml(folder: Path, files: list[Path]) -> Table | None:
    paths = [path for path in files if path.suffix.lower() == ".xml"]
    first = parse_xml(folder / paths[0])
    opened = Images(folder)
    table = Table(pa.table({}), folder, Places(()), name=folder.name)
    rows: list[Row] = []
    names: list[str] = []
    if first.tag == "annotations":
        for path in paths:
            result = cvat_rows(folder / path, parse_xml(folder / path), opened, table.unused)
            rows, names = [*rows, *result], [*names, *[path.as_posix()] * len(result)]
    elif first.tag == "annotation":
        for path in paths:
            root = parse_xml(folder / path)
            if root.tag == "annotation":
                rows.append(voc_row(folder / path, root, opened, table.unused))
                names.append(path.as_posix())
    else:
        return None
    named = {row["image"] for row in rows}
    images = [path.as_posix() for path in files if path.suffix.lower() in IMAGE_ENDINGS]
    others = [name for name in images if name not in named]
    table.unused.add("images that no XML file names", f"{folder.name}/{others[0]}" if others else "", len(others))
    splits = _image_sets(folder, files)
    if splits:
        kept = [at for at, row in enumerate(rows) if Path(row["image"]).stem in splits]
        table.unused.add("images that no list in ImageSets names", folder.name, len(rows) - len(kept))
        rows = [{**rows[at], "split": splits[Path(rows[at]["image"]).stem]} for at in kept]
        names = [names[at] for at in kept]
    return _table(folder, rows, names, table)


def _image_sets(folder: Path, files: list[Path]) -> dict[str, str]:
    """Stem of an image: its split, as VOC's lists ``ImageSets/Main/train.txt`` say."""
    result: dict[str, str] = {}
    for path in files:
        split = split_word(path.stem)
        if path.suffix == ".txt" and split is not None and "imagesets" in path.as_posix().casefold():
            result |= {line.split()[0]: split for line in (folder / path).read_text().split("\n") if line.strip()}
    return result


def _yolo(folder: Path, files: list[Path], images: list[Path], labels: dict[Path, Path], data: Data) -> Table:
    names, keypoints = class_names(folder, files, data), has_keypoints(folder, files)
    bare = {Path(*(part for part in path.parts if part.casefold() != "images")): path for path in images}
    layout = layout_of(folder, list(bare), "images")
    table = Table(pa.table({}), folder, Places(()), name=folder.name, unused=layout.unused, warnings=layout.warnings)
    source = Source(folder, data, unused=table.unused)
    rows: list[Row] = []
    places = []
    for at, short in enumerate(layout.files):
        image = bare[short]
        label = labels.get(image)
        if label is None:
            place = f"{folder.name}/{image.as_posix()}"
            table.unused.add("images without a label file, taken to show nothing", place)
        boxes = [] if label is None else read_boxes(folder, label, names, keypoints, source)
        row: Row = {"image": image.as_posix(), "boxes": boxes}
        rows.append(row | ({"split": layout.splits[at]} if layout.splits else {}))
        places.append(image.as_posix())
    used = set(labels.values())
    single = [path for path in files if path.suffix == ".txt" and "labels" in path.parts and path not in used]
    table.unused.add("label files without an image", folder.name, len(single))
    return _table(folder, rows, places, table)


def _table(folder: Path, rows: list[Row], names: list[str], like: Table) -> Table:
    places = Places(tuple(f"{folder.name}/{name}" for name in names), "", np.arange(len(names)))
    columns = {key: [row.get(key) for row in rows] for key in rows[0]}
    arrow = arrow_table(columns, places.where, folder.name)
    return replace(like, stored=arrow, places=places, kinds={"boxes": "boxes"})
