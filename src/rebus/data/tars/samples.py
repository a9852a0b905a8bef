"""Members of an archive to rows: what belongs to one sample, and which column each of its files is.

It does not know where archives lie nor what is learned. A sample with several rows (several texts of one image) has
a list of objects in its JSON.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from rebus.data.image_sources import member_value
from rebus.data.names import IMAGE_ENDINGS
from rebus.data.readers.json_literals import DECODER, typed
from rebus.data.tars.archive import Member, members
from rebus.errors import DataError

_NAME = re.compile(r"((?:.*/|)[^./][^./]*)[.]([^/]*)", re.S)  # WebDataset's rule: up to the first point
_IMAGES = tuple(ending[1:] for ending in IMAGE_ENDINGS)
_TEXTS, _CLASSES = ("txt", "text"), ("cls", "class", "cls2")
_COUNTS = ("count", "index", "inx", "id")
LARGEST = 16_000_000  # bytes of a text or JSON member
_WHOLE = re.compile(r"[+-]?\d{1,18}")
Row = dict[str, Any]


@dataclass(frozen=True)
class Columns:
    """What members' endings stand for.

    Attributes:
        image: column of ``key.jpg``.
        text: column of ``key.txt``.
        label: column of ``key.cls``.
        images: word before an image's ending: its column, where the archive was written by Rebus.
        exact: texts are taken as they are; else blank ends are cut off and an empty one is none.
    """

    image: str = "image"
    text: str = "caption"
    label: str = "label"
    images: dict[str, str] = field(default_factory=dict)
    exact: bool = False


@dataclass
class Sample:
    """The members of one key, as they were met.

    Attributes:
        key: their name up to the first point.
        number: how manieth sample of the archive, from 1.
        files: ending: member.
    """

    key: str
    number: int
    files: dict[str, Member] = field(default_factory=dict)


class UnsortedError(Exception):
    """A key came back after another one: the archive must be gathered as a whole."""


@lru_cache(maxsize=1)  # asked twice in a row
def split_name(name: str) -> tuple[str, str] | None:
    """(key, ending in lower case) of a member; None for what is no part of a sample (``README``, ``.hidden``)."""
    result = _NAME.fullmatch(name)
    if result is None or name.startswith("__MACOSX/"):
        return None
    if "__" in name:  # WebDataset's own notes
        last = result[1].rsplit("/", 1)[-1]
        if len(last) > 3 and last.startswith("__") and last.endswith("__"):
            return None
    return result[1], result[2].lower()


def is_image(ending: str) -> bool:
    """Whether an ending (``jpg``, ``left.png``) is an image's."""
    return ending.rsplit(".", 1)[-1] in _IMAGES


def is_read(ending: str) -> bool:
    """Whether a member's content goes into the table."""
    return ending.rsplit(".", 1)[-1] in (*_TEXTS, *_CLASSES, *_COUNTS, "json")


def samples(
    path: Path, name: str, passed_over: Counter[str], *, gather: bool, encoding: str | None
) -> Iterator[Sample]:
    """The samples of an archive, in the order in which their keys first appear.

    Args:
        path: the archive.
        name: what messages call it.
        passed_over: endings of members that are not read are counted here.
        gather: hold all samples until the end, so that a key's members may lie anywhere.
        encoding: of names.

    Raises:
        DataError: a damaged archive, or two members of one name.
        UnsortedError: a key came back and ``gather`` is False.
    """
    held: dict[str, Sample] = {}
    known: set[str] = set()
    number = 0

    def wanted(inner: str, size: int) -> bool:
        parts = split_name(inner)
        if parts is None or not is_read(parts[1]):
            return False
        if size > LARGEST:
            do = "keep large content out of the archive's texts"
            raise DataError(f"{name}, '{inner}'", f"at most {LARGEST:,} bytes of text", f"{size:,}", do)
        return True

    sample = None
    try:
        for member in members(path, name, wanted, encoding):
            parts = split_name(member.name)
            if parts is None:
                passed_over["no name before a point"] += 1
                continue
            key, ending = parts
            if not is_image(ending) and not is_read(ending):
                passed_over[f".{ending}"] += 1
            sample = held.get(key)
            if sample is None:
                if key in known:
                    raise UnsortedError
                number += 1
                if not gather:
                    yield from held.values()
                    held.clear()
                    known.add(key)
                sample = held[key] = Sample(key, number)
            if ending in sample.files:
                do = "give each file of a sample its own ending, and each sample its own key"
                raise DataError(f"{name}, sample '{key}'", "each file once", f"'{member.name}' twice", do)
            sample.files[ending] = member
    except DataError:  # the last sample may lack what would have come
        yield from (other for other in held.values() if other is not sample)
        raise
    yield from held.values()


def rows_of(sample: Sample, archive: str, columns: Columns) -> list[Row]:
    """The rows of one sample; none where nothing of it is read.

    Args:
        sample: its members.
        archive: how image values name the archive, and messages too.
        columns: what endings stand for.

    Raises:
        DataError: two images for one column, or JSON or text that cannot be read.
    """
    where = f"{archive}, sample '{sample.key}'"
    entries: list[Row] = [{}]
    plain: Row = {}
    images: Row = {}
    for ending, member in sample.files.items():
        before, _, last = ending.rpartition(".")
        if last in _IMAGES:
            column = columns.images.get(before) or before or columns.image
            if column in images:
                received = f"two: {', '.join(other for other in sample.files if other.rpartition('.')[0] == before)}"
                raise DataError(where, f"one image for the column '{column}'", received, "name them key.left.png, ...")
            images[column] = member_value(archive, member.offset, member.size, member.name)
        elif last == "json":
            found_rows = _json(member, where)
            if before:
                plain[before] = typed(found_rows)
            else:
                listed = found_rows if isinstance(found_rows, list) else [found_rows]
                entries = [{name: typed(value) for name, value in row.items()} for row in listed]
        elif last in _TEXTS:
            text = _text(member, where, "utf-8" if columns.exact else "utf-8-sig")
            plain[before or columns.text] = text if columns.exact else text.strip() or None
        elif last in (*_CLASSES, *_COUNTS):
            text = _text(member, where).strip()
            name = before or (columns.label if last in _CLASSES else last)
            plain[name] = int(text) if _WHOLE.fullmatch(text) else text or None
    if not images and not plain and entries == [{}]:
        return []
    return [{**images, **plain, **row, **images} for row in entries]


def _text(member: Member, where: str, encoding: str = "utf-8-sig") -> str:
    try:
        return (member.content or b"").decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(where, "text in UTF-8", f"'{member.name}', which is not", "write it again as UTF-8") from error


def _json(member: Member, where: str) -> Any:
    try:
        result = DECODER.decode(_text(member, where))
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        message = " ".join(str(error).split())[:100]
        raise DataError(where, "JSON", f"'{member.name}', which is not ({message})", "write it again") from error
    good = isinstance(result, dict) or (
        isinstance(result, list) and result and all(isinstance(o, dict) for o in result)
    )
    if not good:
        raise DataError(where, "an object, or a list of objects (one a row)", f"'{member.name}'", "write one of them")
    return result
