"""Folders: tables in parts, images with a metadata file, class folders, images with same-named texts, texts.

The layout is told by what lies in the folder, in this order: a metadata file (Hugging Face's imagefolder convention: a
column ``file_name``), table files, images, text files. Sub-folders named train, valid or test become the column
``split``.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rebus.data.cells import number
from rebus.data.lists import parse_value
from rebus.data.names import IMAGE_ENDINGS, split_in_name, split_word
from rebus.data.readers.annotations import folder_table
from rebus.data.readers.arrow import merge_splits
from rebus.data.readers.sheets import EXCEL, OTHERS
from rebus.data.readers.source import Source
from rebus.data.readers.split_folders import layout_of
from rebus.data.table import Places, Table, stacked_source
from rebus.data.unused import Unused
from rebus.errors import DataError
from rebus.recipe import Data

_UNREAD_IMAGES = (".svg", ".heic", ".heif", ".eps", ".psd", ".jxl", ".raw", ".cr2", ".nef")
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_TABLES = (".csv", ".tsv", ".tab", ".psv", ".jsonl", ".ndjson", ".json", ".parquet", *EXCEL, *OTHERS)
_NOT_TABLES = {"dataset_info.json", "dataset_infos.json", "config.json", "package.json", "check.json"}
_NOT_TEXT = re.compile(r"(?:readme|licen[cs]e|copying|credits|authors|changelog|notice|requirements)\b", re.I)
_ReadFile = Callable[[Path, Data], Table]


def read_folder(folder: Path, data: Data, read_file: _ReadFile, endings: tuple[str, ...]) -> Table:
    """Read a folder of images, texts or tables.

    Args:
        folder: where to look; hidden files are passed over.
        data: how to read tables and texts.
        read_file: reads one table file.
        endings: the endings of files that ``read_file`` reads.

    Returns:
        Columns ``image`` and, where the layout says them, ``label``, ``caption``, ``folder`` and ``split``; or
        ``text`` instead of ``image``; or the columns of the table files.

    Raises:
        DataError: nothing in it is read, or several tables lie in it and none is named for a split.
    """
    files = _walk(folder)
    top = [path for path in files if len(path.parts) == 1]
    metadata = [path for path in files if path.name in METADATA and len(path.parts) <= 2]
    if metadata:
        return _with_metadata(folder, metadata, files, data, read_file)
    annotated = folder_table(folder, files, data)
    if annotated:
        return _stack(folder, annotated) if len(annotated) > 1 or annotated[0][1] else annotated[0][0]
    tables = [path for path in top if path.suffix.lower() in _TABLES and path.name not in _NOT_TABLES]
    if tables:
        return _tables(folder, tables, data, read_file)
    images = [path for path in files if path.suffix.lower() in IMAGE_ENDINGS]
    if images:
        return _images(folder, images, files, data)
    if any(
        path.parts[0] == "data" and path.suffix.lower() in _TABLES for path in files
    ):  # as repositories of data have it
        return read_folder(folder / "data", data, read_file, endings)
    texts = [
        path for path in files if path.suffix.lower() in (".txt", ".text", ".md") and not _NOT_TEXT.match(path.name)
    ]
    if texts:
        return _texts(folder, texts, files, data)
    shown = ", ".join(sorted({path.suffix or path.name for path in files})[:8])
    raise DataError(
        folder,
        "images, text files or a table (CSV, TSV, JSONL, JSON, Parquet)",
        f"only files such as {shown}" if files else "an empty folder",
        "name the folder that holds them, or the table itself",
    )


def _walk(folder: Path) -> list[Path]:
    """All files below, relative, sorted; links are followed, once each."""
    result: list[Path] = []
    seen: set[str] = set()
    for at, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(at)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        result += [Path(at, name).relative_to(folder) for name in sorted(names) if not name.startswith(".")]
    return sorted(result)


def _tables(folder: Path, paths: list[Path], data: Data, read_file: _ReadFile) -> Table:
    if len(paths) == 1:
        return read_file(folder / paths[0], data)
    splits = {path: split_in_name(path.stem) for path in paths}
    named = [path for path in paths if splits[path]]
    if not named:
        raise DataError(
            folder,
            "one table, or tables named train, valid and test",
            ", ".join(path.name for path in paths[:6]) + (" and more" if len(paths) > 6 else ""),
            f"name the one to read, e.g. {folder / paths[0].name}",
        )
    parts = [(read_file(folder / path, data), splits[path] or "") for path in named]
    _refuse_other_columns(folder, parts)
    table = _stack(folder, parts)
    others = [path.name for path in paths if not splits[path]]
    if others:
        table.unused.add(
            f"tables named for no split ({', '.join(others[:3])})", f"{folder.name}/{others[0]}", len(others)
        )
    return table


def _refuse_other_columns(folder: Path, parts: list[tuple[Table, str]]) -> None:
    """Tables of one split have the same columns; another split may lack some, e.g. what is to be predicted."""
    first, _ = parts[0]
    for part, split in parts[1:]:
        same = next(other for other, word in parts if word == split)
        known, own = set(first.columns) - {"split"}, set(part.columns) - {"split"}
        alike = (
            set(same.columns) - {"split"} == own
            if same is not part
            else 2 * len(known & own) >= min(len(known), len(own))
        )
        if not alike:
            other = same if same is not part else first
            raise DataError(
                folder,
                "tables with the same columns (a held-out one may lack what is to be predicted)",
                f"{other.name} with {', '.join(other.columns[:6])}; {part.name} with {', '.join(part.columns[:6])}",
                "name the one to read, or move the others elsewhere",
            )


def _stack(folder: Path, parts: list[tuple[Table, str]]) -> Table:
    """Tables end to end with the column ``split``; each row keeps its own file and number."""
    tables = {f"{number}": part.stored for number, (part, _) in enumerate(parts)}
    try:
        merged = merge_splits(tables)
    except (pa.ArrowException, ValueError) as error:
        message = " ".join(str(error).split())[:200]
        names = ", ".join(part.name for part, _ in parts)
        raise DataError(
            folder, "tables with the same columns", f"{names}: {message}", "make their columns alike"
        ) from error
    arrow, file_of, _ = merged
    words = [split for part, split in parts for _ in range(len(part))]
    arrow = arrow.drop_columns(["split"])
    if any(words):
        arrow = arrow.append_column("split", pa.array(words, pa.string()))
    numbers = [_numbers(part) for part, _ in parts]
    files = tuple(part.places.files[0] for part, _ in parts)
    skipped = [error for part, _ in parts for error in part.skipped]
    places = Places(files, parts[0][0].places.word, file_of, np.concatenate(numbers))
    notes, warnings = [
        [message for part, _ in parts for message in getattr(part, key)] for key in ("notes", "warnings")
    ]
    source = stacked_source([part for part, _ in parts])
    table = Table(
        arrow, folder, places, name=folder.name, skipped=skipped, notes=notes, warnings=warnings, source=source
    )
    for part, _ in parts:
        table.unused.update(part.unused)
    kinds = {name: kind for part, _ in parts for name, kind in part.kinds.items()}
    return replace(table, kinds=kinds, unlabelled=frozenset().union(*(part.unlabelled for part, _ in parts)))


def _numbers(part: Table) -> Any:
    return np.arange(1, len(part) + 1, dtype=np.int64) if part.places.numbers is None else part.places.numbers


def _with_metadata(folder: Path, metadata: list[Path], files: list[Path], data: Data, read_file: _ReadFile) -> Table:
    parts = []
    for path in metadata:
        part = read_file(folder / path, data)
        inner = path.parent.as_posix()
        places = Places((path.as_posix(),), part.places.word, None, part.places.numbers)
        part = replace(part, root=folder, places=places, name=path.name)
        if "file_name" in part.columns:
            names = part.column("file_name")
            if inner != ".":
                names = [f"{inner}/{name}" if isinstance(name, str) else name for name in names]
            arrow = part.stored.drop_columns(["file_name"])
            target = "file_name" if "image" in arrow.column_names else "image"
            arrow = arrow.add_column(0, target, pa.array(names, pa.string()))
            part = replace(part, stored=arrow, source={k: v for k, v in part.source.items() if k != target})
        parts.append((part, split_word(inner) or ""))
    table = parts[0][0] if len(parts) == 1 and not parts[0][1] else _stack(folder, parts)
    if "image" in table.columns:
        known = set(table.column("image"))
        unnamed = [path for path in files if path.suffix.lower() in IMAGE_ENDINGS and path.as_posix() not in known]
        if unnamed:
            place = f"{folder.name}/{unnamed[0].as_posix()}"
            table.unused.add("images that no row of the metadata file names", place, len(unnamed))
    return table


def _images(folder: Path, images: list[Path], files: list[Path], data: Data) -> Table:
    texts = {path.with_suffix(""): path for path in files if path.suffix.lower() == ".txt"}
    layout = layout_of(folder, images, "images")
    images = layout.files
    columns: dict[str, list[Any]] = {"image": [path.as_posix() for path in images], **layout.columns()}
    captions = [texts.get(path.with_suffix("")) for path in images]
    result: Counter[str] = Counter()
    if any(captions):
        if len(set(columns.get("label", []))) == 1:
            del columns["label"]  # one folder that only holds the images
        texts_beside = [None if path is None else _content(folder, path, data, result) for path in captions]
        columns[_text_column(folder, texts_beside)] = texts_beside
    places = Places(tuple(f"{folder.name}/{path.as_posix()}" for path in images), "", np.arange(len(images)))
    _count_others(folder, files, {*images, *(path for path in captions if path)}, layout.unused)
    unused, warnings = layout.unused, layout.warnings
    notes = [f"{folder.name}: {count} files {words}" for words, count in result.items()]
    return Table(_strings(columns), folder, places, name=folder.name, unused=unused, notes=notes, warnings=warnings)


_FIELDS = re.compile(r"[\s,;]+")


def _text_column(folder: Path, texts: list[str | None]) -> str:
    """What texts beside images are: captions, or a number each. Raises DataError where they are rows of numbers."""
    known = [text for text in texts if text]
    numbers = [[number(word) is not None for word in text.split()] for text in known]
    if known and all(len(words) == 1 and words[0] for words in numbers):
        return "value"
    objects = sum(isinstance(parse_value(text), dict) for text in known)
    if known and 2 * objects > len(known):
        raise DataError(
            folder,
            "texts that describe the images of the same name",
            f"objects in JSON, such as '{known[0][:60]}'",
            "write a file metadata.jsonl with an object a line and the image's name as file_name",
        )
    numbers = [[number(word) is not None for word in _FIELDS.split(text.strip())] for text in known]
    rows = sum(len(words) >= 4 and 2 * sum(words) > len(words) for words in numbers)
    if known and 2 * rows > len(known):
        raise DataError(
            folder,
            "texts that describe the images of the same name, or YOLO label files (class x y width height)",
            f"rows of numbers, such as '{known[0][:60]}'",
            "convert them to YOLO, Pascal VOC or COCO, or move them elsewhere",
        )
    return "caption"


def _count_others(folder: Path, files: list[Path], used: set[Path], unused: Unused) -> None:
    """Count the files that are neither images of the table nor their captions."""
    for path in files:
        ending = path.suffix.lower()
        if path in used or _NOT_TEXT.match(path.name) or ending in IMAGE_ENDINGS:
            continue
        kind = f"files ending in '{ending}'" if ending else "files without an ending"
        if ending in _UNREAD_IMAGES:
            kind = f"images in a format that is not read ({ending}); convert them to PNG"
        elif ending == ".txt":
            kind = "texts without an image of the same name"
        unused.add(kind, f"{folder.name}/{path.as_posix()}")


def _texts(folder: Path, texts: list[Path], files: list[Path], data: Data) -> Table:
    layout = layout_of(folder, texts, "texts")
    _count_others(folder, files, set(texts), layout.unused)
    texts = layout.files
    result: Counter[str] = Counter()
    columns = {"text": [_content(folder, path, data, result) for path in texts], **layout.columns()}
    places = Places(tuple(f"{folder.name}/{path.as_posix()}" for path in texts), "", np.arange(len(texts)))
    unused, warnings = layout.unused, layout.warnings
    notes = [f"{folder.name}: {count} files {words}" for words, count in result.items()]
    return Table(_strings(columns), folder, places, name=folder.name, unused=unused, notes=notes, warnings=warnings)


def _content(folder: Path, path: Path, data: Data, counterstr: Counter[str]) -> str | None:
    """A text file's text; what its reader says is counted in ``counterstr``."""
    full = folder / path
    if full.stat().st_size == 0:
        return None  # the check reports it as an empty cell of this row
    source = Source(full, data)
    text = source.read_text().strip()
    counterstr.update(note.removeprefix(f"{source.name}: ") for note in source.notes)
    return text


def _strings(columns: dict[str, list[Any]]) -> pa.Table:
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
