"""Label Studio's JSON export: choices, boxes, spans, texts and numbers, with what they were given for.

What is read of a task is its first annotation that was not cancelled.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from rebus.data.names import IMAGE_ENDINGS
from rebus.data.readers.annotations.boxes import Images, Row, fraction_box, table_of
from rebus.data.readers.source import Source
from rebus.data.table import Table
from rebus.errors import DataError

_COLUMNS = {  # type of a result: the column of its values
    "choices": "labels",
    "rectanglelabels": "boxes",
    "labels": "entities",
    "textarea": "output",
    "number": "score",
    "rating": "score",
}


def is_label_studio(rows: Any) -> bool:
    """Whether a list holds Label Studio's tasks."""
    first = rows[0] if isinstance(rows, list) and rows else None
    if not isinstance(first, dict) or not isinstance(first.get("data"), dict):
        return False
    return any(isinstance(first.get(key), list) for key in ("annotations", "completions", "predictions"))


def read_label_studio(tasks: list[dict[str, Any]], source: Source, root: Path | None = None) -> Table:
    """One row a task: its data, and a column for each kind of result.

    Args:
        tasks: the document.
        source: its file.
        root: the folder of the images; None: the file's own.

    Raises:
        DataError: results are of kinds that are not read, or the images are not there.
    """
    images: Images | None = None
    rows: list[Row] = []
    annotated: list[bool] = []
    several = False
    others: set[str] = set()
    missing: list[str] = []
    for number, task in enumerate(tasks, 1):
        where = f"{source.name}, task {number}"
        row: Row = {}
        for name, value in (task.get("data") or {}).items():
            if isinstance(value, str) and _is_image(value):
                images = images or Images(root or source.path.parent)
                place = _place(images, value)
                missing += [value] if place is None else []
                row["image"] = place or value
            else:
                row[name] = value
        results = _results(task, source, where)
        for result in results or []:
            kind = str(result.get("type"))
            value = result.get("value") or {}
            if kind not in _COLUMNS:
                others.add(kind)
                source.unused.add(f"results of the type '{kind}'", where)
                continue
            several = _add(row, kind, value, result, source, where) or several
        rows.append(row)
        annotated.append(results is not None)
    if missing and images is not None and len(missing) == sum("image" in row for row in rows):
        received = f"none of {len(missing)} in '{source.path.parent}' or below"
        do = "put the folder of images beside the file"
        raise DataError(
            source.path, f"the images that this Label Studio export names, e.g. '{missing[0]}'", received, do
        )
    if not any(set(_COLUMNS.values()) & set(row) for row in rows):
        received = f"results of {', '.join(sorted(others))}" if others else "no annotation"
        raise DataError(
            source.name, f"a Label Studio export with {', '.join(_COLUMNS)}", received, "export other labels"
        )
    seen = any("image" in row for row in rows)
    for row in rows:
        if "labels" in row and not several:
            row["label"] = row.pop("labels")[0]
        if "output" in row and seen:
            row["caption"] = row.pop("output")
    for column in ("boxes", "entities"):  # none of them in a task that was annotated
        if any(column in row for row in rows):
            for row, done in zip(rows, annotated, strict=True):
                if done:
                    row.setdefault(column, [])
    base = images.root if images else source.path.parent
    table = table_of(source, base, rows, list(range(1, len(rows) + 1)), "task")
    return replace(table, unlabelled=frozenset({"label", "caption", *_COLUMNS.values()} & set(table.columns)))


def _results(task: dict[str, Any], source: Source, where: str) -> list[dict[str, Any]] | None:
    """What the first annotation says; None where there is none."""
    built = task.get("annotations", task.get("completions")) or []
    usable = [item for item in built if not item.get("was_cancelled")]
    source.unused.add("annotations after a task's first", where, max(0, len(usable) - 1))
    source.unused.add("annotations that were cancelled", where, len(built) - len(usable))
    source.unused.add("predictions of a model", where, len(task.get("predictions") or []))
    if not usable:
        return None
    results = usable[0].get("result") or []
    return [result for result in results if isinstance(result, dict)]


def _add(row: Row, kind: str, value: dict[str, Any], result: dict[str, Any], source: Source, where: str) -> bool:
    """Add a result to its row; whether it is more than one label."""
    column = _COLUMNS[kind]
    if kind == "choices":
        row.setdefault(column, []).extend(str(choice) for choice in value.get("choices") or [])
        return len(row[column]) > 1
    if kind == "rectanglelabels":
        x, y = float(value["x"]), float(value["y"])
        box = fraction_box((x, y, x + float(value["width"]), y + float(value["height"])), 100, 100)
        label = next(iter(value.get("rectanglelabels") or []), None)
        if value.get("rotation"):
            source.unused.add("rotations of boxes", where)
        if box is None or label is None:
            source.unused.add("boxes without an area or a label", where)
        else:
            row.setdefault(column, []).append({"label": str(label), "box": box})
    elif kind == "labels":
        for label in value.get("labels") or []:
            span = {"start": int(value["start"]), "end": int(value["end"]), "label": str(label)}
            row.setdefault(column, []).append(span)
    elif kind == "textarea":
        row.setdefault(column, " ".join(map(str, value.get("text") or [])))
    else:
        row.setdefault(column, value.get(kind))
    return False


def _is_image(value: str) -> bool:
    return _file(value).lower().endswith(IMAGE_ENDINGS)


def _place(images: Images, value: str) -> str | None:
    """The file of an image that was uploaded (``/data/upload/1/3fa2-cat.png``) or served from a folder (``?d=``)."""
    name = os.path.basename(_file(value))
    return images.find(_file(value)) or (images.find(name.split("-", 1)[1]) if "-" in name else None)


def _file(value: str) -> str:
    parts = urlsplit(value)
    return unquote(next(iter(parse_qs(parts.query).get("d", [])), parts.path))
