"""Lists and objects inside a cell, in the layouts of well-known data sets, as columns that tasks read.

- ``translation: {"en": ..., "zh": ...}`` becomes the columns ``en`` and ``zh``;
- ``answers: {"text": [...], "answer_start": [...]}`` becomes ``answers`` and ``answer_start``;
- ``choices: {"text": [...], "label": [...]}`` becomes ``choices`` (what the labels say, the answer's letter says too);
- ``answers: [{"answer", "answer_confidence", "answer_id"}]`` (VQAv2) becomes texts, the one most people gave first;
- ``images: ["0.png"]`` becomes the image; several stay a list, which the check lists as a bad row;
- ``messages`` with images inside them, or beside them, becomes turns of text and the column ``image``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rebus.data import names
from rebus.data.columns import arrow_column, is_image_struct
from rebus.data.image_sources import SIGNATURES, is_base64_image
from rebus.data.lists import looks_like_list, parse_column, parse_value
from rebus.data.messages import turns_of
from rebus.data.names import IMAGE_ENDINGS
from rebus.data.readers.conversations import IMAGES, image_cell, images_of, with_image
from rebus.data.table import Table
from rebus.errors import DataError
from rebus.recipe import Kind

_OBJECTS = (*names.TRANSLATION, *names.CHOICES, *names.ANSWER)  # columns that such objects stand in
_CODE = re.compile(r"[a-z]{2,3}([_-][A-Za-z]{2,4})?")
_TEXT_FIELDS = ("answer", "caption", "raw", "text", "sentence", "value")  # of an object that is one text with remarks
_SAMPLE = 200


def flattened(table: Table) -> Table:
    """The same rows, such lists and objects as columns; others stay as they are."""
    for name in table.columns:
        column = table.stored.column(name)
        if pa.types.is_string(column.type) and names.named(name, _OBJECTS):
            column = _objects(column)
        if pa.types.is_struct(column.type) and names.named(name, IMAGES) and not is_image_struct(column.type):
            table = _image_objects(table, name)
        elif pa.types.is_struct(column.type):
            table = _struct(table, name, column)
        elif names.named(name, (*names.ANSWER, *names.CAPTION)):
            table = _texts(table, name)
        elif names.named(name, IMAGES):
            table = _single_images(table, name)
    return _conversations(table)


def _objects(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of text as objects, if each of its cells writes one."""
    first = next((cell for chunk in column.chunks for cell in chunk if cell.is_valid), None)
    if first is None or not first.as_py().lstrip().startswith("{"):
        return column
    parsed = parse_column(column.to_pylist())[0]
    try:
        result = pa.array(parsed) if parsed is not None else column
    except pa.ArrowException:
        return column  # of several kinds
    return pa.chunked_array([result]) if isinstance(result, pa.StructArray) else column


def _struct(table: Table, name: str, column: pa.ChunkedArray) -> Table:
    kind = column.type
    fields = [kind.field(i).name for i in range(kind.num_fields)]
    parts = _parts(name, fields)
    if parts is None:
        return table
    others = sorted(set(fields) - set(parts) - {"label"})
    if others:
        table.unused.add(f"cells of '{name}' with {', '.join(others)}", table.places.where(0), len(column))
    arrow = table.stored
    at = arrow.column_names.index(name)
    arrow = arrow.remove_column(at)
    for field, wanted in reversed(parts.items()):
        free = wanted if wanted not in arrow.column_names else f"{name}.{wanted}"
        arrow = arrow.add_column(at, free, pc.struct_field(column, field))
    source = dict(table.source)
    if name in arrow.column_names:
        source[name] = source.get(name, table.stored.column(name))
    return replace(table, stored=arrow, source=source)


def _parts(name: str, fields: list[str]) -> dict[str, str] | None:
    """Field: name of its column; None where the object is none of the known ones."""
    if names.named(name, names.TRANSLATION) and len(fields) >= 2 and all(map(_CODE.fullmatch, fields)):
        return {field: field for field in fields}
    if set(fields) == {"text", "answer_start"}:
        return {"text": name, "answer_start": "answer_start"}
    if names.named(name, names.CHOICES) and set(fields) == {"text", "label"}:
        return {"text": name}
    if names.named(name, (*names.ANSWER, *names.CAPTION)) and not {"bytes", "path"} <= set(fields):
        text = next((field for field in _TEXT_FIELDS if field in fields), None)
        return {text: name} if text is not None else None
    return None


def _texts(table: Table, name: str) -> Table:
    """A column of lists of objects that are one text each, as lists of texts, the most frequent first."""
    cells = _lists(table.stored.column(name), _are_objects)
    if cells is None:
        return table
    fields = {field for cell in cells for item in cell or [] for field in item}
    text = next((field for field in _TEXT_FIELDS if field in fields), None)
    if text is None or "box" in fields or "bbox" in fields:
        return table
    others = sorted(fields - {text})
    if others:
        place = table.places.where(0)
        table.unused.add(f"cells of '{name}' with {', '.join(others)} beside '{text}'", place, len(cells))
    result: list[Any] = []
    for cell in cells:
        items = [str(item[text]) for item in cell or [] if item.get(text) is not None]
        counts = Counter(items)
        result.append(None if cell is None else sorted(items, key=lambda entry: -counts[entry]))
    return _with(table, name, result)


def _single_images(table: Table, name: str) -> Table:
    """A column of lists of images, as one image a row where each list holds one."""
    cells = _lists(table.stored.column(name), _are_images)
    return table if cells is None else _as_image(table, name, [image_cell(images_of(cell)) for cell in cells])


def _image_objects(table: Table, name: str) -> Table:
    """A column of objects such as ``{"url": "0.png"}``, as images where each holds one."""
    cells = table.stored.column(name).to_pylist()
    items = [cell for cell in cells[:_SAMPLE] if images_of(cell)]
    return _as_image(table, name, [image_cell(images_of(cell)) for cell in cells]) if _are_images(items) else table


def _conversations(table: Table) -> Table:
    """Columns of turns with images inside them or beside them, as turns of text and an image."""
    arrow = table.stored
    turns = [name for name in table.columns if names.named(name, (*names.MESSAGES, "prompt", "completion"))]
    cells = {name: result for name in turns if (result := _lists(arrow.column(name), _are_turns)) is not None}
    first = next(iter(cells), None)
    beside = [
        name for name in table.columns if names.named(name, IMAGES) and arrow.column(name).null_count < len(arrow)
    ]
    named = next(iter(beside), None)
    if first is None or (named is None and not any(_holds_image(cell) for cell in cells[first][:_SAMPLE])):
        return table
    images = [None] * len(arrow) if named is None else arrow.column(named).to_pylist()
    shown: list[Any] = []
    for row, cell in enumerate(cells[first]):
        inside: list[Any] = []
        try:
            text = [] if cell is None else turns_of(cell, table.places.where(row), inside)
            cells[first][row], image = with_image(text, images_of(images[row]) or inside, table.places.where(row))
        except DataError:
            image = images[row]  # the check says what is wrong with the turns
        shown.append(image)
    table = _with(table, first, cells[first])
    return _as_image(table, named or "image", shown)


def _as_image(table: Table, name: str, values: list[Any]) -> Table:
    """The rows with a column of images, a new one first; a list of several stays the kind that it is."""
    kinds: dict[str, Kind] = {**table.kinds, name: "image"}
    if name in table.columns:
        return replace(_with(table, name, values), kinds=kinds)
    stored = table.stored.add_column(0, name, arrow_column(values, name, table.places.where))
    return replace(table, stored=stored, kinds=kinds)


def _with(table: Table, name: str, values: list[Any]) -> Table:
    """The rows with another content of a column, whose cells as the file holds them are kept for ``predict``."""
    at = table.stored.column_names.index(name)
    source = {**table.source, name: table.source.get(name, table.stored.column(name))}
    stored = table.stored.set_column(at, name, arrow_column(values, name, table.places.where))
    return replace(table, stored=stored, source=source)


def _lists(column: pa.ChunkedArray, wanted: Callable[[list[Any]], bool]) -> list[Any] | None:
    """A column's lists, also where they are written as text; None where a sample's are not of the wanted kind."""
    kind = column.type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not (text or pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return None
    sample = [value for value in column.slice(0, _SAMPLE).to_pylist() if value]
    if text:
        if not sample or not all(looks_like_list(value) for value in sample):
            return None
        sample = [parse_value(value) for value in sample]
    full = [value for value in sample if value]
    if not full or not all(isinstance(value, list) and wanted(value) for value in full):
        return None
    cells = column.to_pylist()
    if text:
        cells = [parse_value(value) if value and looks_like_list(value) else None for value in cells]
    return [cell if isinstance(cell, list) else None for cell in cells]


def _are_objects(items: list[Any]) -> bool:
    return all(isinstance(item, dict) for item in items)


def _are_images(items: list[Any]) -> bool:
    return all(_is_image(item) for item in items)


def _is_image(item: Any) -> bool:
    if isinstance(item, dict):
        held = images_of(item)
        return {"bytes", "path"} <= set(item) or (bool(held) and _is_image(held[0]))
    if isinstance(item, list):
        return bool(item) and _are_images(item)
    if isinstance(item, bytes):
        return item.startswith(SIGNATURES)
    if not isinstance(item, str):
        return False
    return item.lower().split("?")[0].endswith(IMAGE_ENDINGS) or item[:11] == "data:image/" or is_base64_image(item)


def _are_turns(items: list[Any]) -> bool:
    return all(isinstance(item, dict) and {"role", "from"} & set(item) for item in items)


def _holds_image(cell: Any) -> bool:
    """Whether a turn holds a list of parts with something else than text among them."""
    contents = [turn.get("content") for turn in cell or [] if isinstance(turn, dict)]
    return any(
        isinstance(part, dict) and ("image" in str(part.get("type")) or part.get("image") is not None)
        for content in contents
        if isinstance(content, list)
        for part in content
    )
