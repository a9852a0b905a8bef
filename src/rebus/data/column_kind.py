"""The kind of one column, from its name, its type and a sample of its values; and why."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rebus.catalogue import Note
from rebus.data import cells, names
from rebus.data.columns import is_image_struct
from rebus.data.image_sources import SIGNATURES, image_path, is_base64_image
from rebus.data.lists import parse_list
from rebus.data.messages import is_turn
from rebus.data.names import IMAGE_ENDINGS
from rebus.data.table import Table, entries
from rebus.data.tabular_cells import are_dates, unit_of
from rebus.errors import ImageError
from rebus.recipe import Kind, recognised_kind

_SAMPLE = 2000
_NEARLY = 0.95  # of a column's cells, for it to hold numbers
_SEPARATORS = re.compile(r"[|;；]")
_FEW = 20  # whole numbers that may be classes though a column's name says that it is a number
_CODE = re.compile(r"(?=.*\d)[A-Za-z0-9_\-./:]+")
_PATH = re.compile(r"\S+")
_PLAIN = re.compile(r"[\w.,:/@%+-]+")  # what a shell leaves as it is
_WRITTEN = (  # columns that hold texts, whatever these look like
    *(*names.QUESTION, *names.ANSWER, *names.CAPTION, *names.INSTRUCTION, *names.OUTPUT, *names.CHOSEN),
    *names.REJECTED,
)
_PASSED_ON = (*names.SOURCE, *names.TRANSLATED, *names.LANGUAGES)  # texts that a model writes anew
_BOX_FIELDS = {"box", "bbox"}
_TAG_FIELDS = {"tag", "label"}
_SPAN_FIELDS = {"start", "end"}
_TURN_FIELDS = ({"role", "content"}, {"from", "value"})


@dataclass(frozen=True)
class Guess:
    """A column's kind and the reason in a few words; ``alternative`` is the kind that it nearly is."""

    kind: Kind
    why: str
    alternative: Kind | None = None


def guess_kind(table: Table, name: str, *, by_name: bool = True) -> Guess:
    """The kind of a column, a pure function of its name and values; not ``by_name``: whatever its name describes."""
    column = table.arrow_column(name)
    kind = column.type
    if column.null_count == len(column):
        return Guess("ignore", Note("reason.it_is_empty"))
    if is_image_struct(kind):
        return Guess("image", Note("reason.it_holds_images"))
    sample = _sample(column)
    if (modality := recognised_kind(name, sample)) is not None:
        return Guess(modality, Note("reason.modality", modality=modality))
    if names.numbers_classes(name) and _are_few(column):
        return Guess("category", Note("reason.few_named", different=_different(column), rows=len(column)))
    if by_name and names.is_metadata(name) and not _is_source(table, name):
        if _names_images(table, name, sample):
            return Guess("image", Note("reason.names_of_image_files_and"))
        return Guess("ignore", Note("reason.its_name_says_that"))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        images = sum(value.startswith(SIGNATURES) or value[4:8] == b"ftyp" for value in sample)
        return (
            Guess("image", Note("reason.its_bytes_are_images"))
            if 2 * images >= len(sample)
            else Guess("ignore", Note("reason.its_bytes_are_no"))
        )
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _several_images(table, name, sample) or _list(name, kind.value_type)
    if pa.types.is_boolean(kind):
        return Guess("category", Note("reason.true_or_false"))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _number(name, column, sample)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _string(
            table, name, column, [value for value in sample if not cells.is_blank(value, cells.EXPORTED_BLANKS)]
        )
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind) or pa.types.is_time(kind):
        return Guess("date", Note("reason.dates"))
    return Guess("ignore", Note("reason.unread_type", type=str(kind)))


def _different(column: pa.ChunkedArray) -> int:
    return int(pc.count_distinct(column, mode="only_valid").as_py())


def _are_few(column: pa.ChunkedArray) -> bool:
    """Whether a column of words or whole numbers has few different values, as classes have."""
    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)):
        return False
    rows = len(column) - column.null_count
    return bool(2 <= _different(column) <= max(20, rows // 5) and rows >= 2 * _different(column))


def _names_images(table: Table, name: str, sample: list[Any]) -> bool:
    """Whether cells of a column such as ``image_id`` are names of image files, where no other column has images."""
    files = [value for value in sample if isinstance(value, str) and "://" not in value and _looks_like_image(value)]
    others = [other for other in table.columns if names.named(other, names.IMAGE)]
    return bool(sample) and len(files) >= 0.9 * len(sample) and not others


def _sample(column: pa.ChunkedArray) -> list[Any]:
    """Up to 2,000 values that are not null, evenly spaced, so that a sorted file is seen as a whole."""
    known = column.drop_null()
    if len(known) > _SAMPLE:
        known = known.take(pa.array([i * len(known) // _SAMPLE for i in range(_SAMPLE)]))
    values: list[Any] = known.to_pylist()
    return values


def _several_images(table: Table, name: str, sample: list[Any]) -> Guess | None:
    """Where cells are lists of images: that they are."""
    inside = [entry for cell in sample for entry in entries(cell)]
    embedded = bool(inside) and all(isinstance(item, bytes) and item.startswith(SIGNATURES) for item in inside)
    written = bool(inside) and all(isinstance(item, str) for item in inside) and _are_images(table, name, inside)
    return Guess("image", Note("reason.lists_of_images")) if embedded or written else None


def _list(name: str, inner: pa.DataType) -> Guess:
    if pa.types.is_struct(inner):
        fields = {inner.field(i).name for i in range(inner.num_fields)}
        if any(turn <= fields for turn in _TURN_FIELDS):
            return Guess("messages", Note("reason.lists_of_turns"))
        if names.named(name, names.MESSAGES):
            return Guess("messages", Note("reason.its_name"))
        if fields & _BOX_FIELDS:
            return Guess("boxes", Note("reason.lists_of_labels_with"))
        if fields >= _SPAN_FIELDS:
            return Guess("tags", Note("reason.lists_of_spans_with"))
        if fields & _TAG_FIELDS and len(fields) == 2:
            return Guess("tags", Note("reason.lists_of_tokens_with"))
        return Guess("ignore", Note("reason.lists_of_objects"))
    if names.named(name, names.HISTORY) and pa.types.is_list(inner):
        return Guess("messages", Note("reason.pairs_of_turns_before"))
    if names.named(name, names.TAGS) or pa.types.is_list(inner):
        return (
            Guess("tags", Note("reason.a_tag_for_each"))
            if _is_words(inner)
            else Guess("ignore", Note("reason.lists_of_lists_of"))
        )
    if _is_words(inner):
        words = (*names.CAPTION, *names.QUESTION, *names.ANSWER, *names.TEXT, "tokens", "words")
        if names.named(name, words):
            return Guess("text", Note("reason.its_name_several_texts"))
        return Guess("labels", Note("reason.lists_of_words"))
    if names.named(name, names.LABELS):
        return Guess("labels", Note("reason.its_name_several_numbers"))
    return Guess("ignore", Note("reason.lists_of_numbers"))


def _is_words(kind: pa.DataType) -> bool:
    while pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind))


def _number(name: str, column: pa.ChunkedArray, sample: list[Any], style: cells.NumberStyle = "point") -> Guess:
    values = [value for cell in sample if (value := cells.number(cell, style)) is not None]
    whole = all(value.is_integer() for value in values)
    if names.named(name, names.LABEL):
        return _numbered_label(values, whole)
    if names.named(name, names.TARGET):
        return _numbered_target(name, values) if whole else Guess("number", Note("reason.its_name"))
    if names.named(name, _WRITTEN):
        return Guess("text", Note("reason.its_name_numbers_as"))
    distinct = pc.count_distinct(column, mode="only_valid").as_py()
    if distinct == 1 and len(column) > 1:
        return Guess("ignore", Note("reason.every_row_holds_the"))
    if whole and distinct == 2:
        return Guess("category", Note("reason.two_different_whole_numbers"))
    if whole and len(column) > 2 and distinct == len(column) and _counts(column):
        return Guess("ignore", Note("reason.it_counts_the_rows"))
    classes = whole and 3 <= distinct <= 10 and len(column) >= 5 * distinct
    return Guess("number", Note("reason.numbers"), "category" if classes else None)


def _numbered_label(values: list[float], whole: bool) -> Guess:
    """Numbers in a column named as a class: amounts where they are not whole, or most differ and lie far apart."""
    different = set(values)
    if not whole:
        if len(different) > _FEW or len(values) < 5 * len(different):
            return Guess("number", Note("reason.numbers_that_are_not"))
        return Guess("category", Note("reason.numbers_back", count=len(different)), "number")
    if len(values) < 50 or 2 * len(different) <= len(values) or _dense(different, 4):
        return Guess("category", Note("reason.classes", count=len(different)))
    return Guess("number", Note("reason.far_apart", count=len(different), of=len(values)), "category")


def _numbered_target(name: str, values: list[float]) -> Guess:
    """Whole numbers in a column named as what is to be predicted: classes where there are few that come back."""
    different = set(values)
    neutral = names.tidy(name) in names.EITHER
    if len(different) == 2 and _dense(different, 2) and max(different) <= 2 and len(values) > 4:
        return Guess("category", Note("reason.two_different_whole_numbers"), None if neutral else "number")
    if neutral and len(different) == 2 and len(values) > 4:
        return Guess("category", Note("reason.two_different_whole_numbers"), "number")
    few = 2 < len(different) <= _FEW and _dense(different, 1) and len(values) >= 5 * len(different)
    if neutral and few:
        return Guess("category", Note("reason.whole_back", count=len(different)), "number")
    return Guess("number", Note("reason.its_name"))


def _dense(values: set[float], times: int) -> bool:
    return max(values) - min(values) < times * len(values)


def quoted(name: str) -> str:
    """A column's name as a shell takes it inside a flag."""
    return name if _PLAIN.fullmatch(name) else shlex.quote(name)


def _counts(column: pa.ChunkedArray) -> bool:
    values = [cells.number(value) for value in column.to_pylist()]
    known = [value for value in values if value is not None]
    return len(known) == len(values) and all(after == before + 1 for before, after in itertools.pairwise(known))


def _string(table: Table, name: str, column: pa.ChunkedArray, sample: list[str]) -> Guess:
    if not sample:
        return Guess("ignore", Note("reason.it_is_blank"))
    written = cells.numbers(sample)
    least = 0.5 if names.named(name, names.TARGET) else _NEARLY
    if written.share >= least and not any(map(cells.is_code, sample)):
        return _number(name, column, sample, written.style)
    listed = _written_list(sample)
    if listed is not None:
        return _several_images(table, name, sample) or _list(name, listed)
    if _are_images(table, name, sample):
        return Guess(
            "image",
            Note("reason.names_of_image_files") if len(sample[0]) < 300 else Note("reason.images_written_as_base"),
        )
    if all(item in ("true", "false") for item in map(cells.label, sample)):
        return Guess("category", Note("reason.true_or_false"))
    if all(map(_is_turns, sample)):
        return Guess("messages", Note("reason.lists_of_turns_written"))
    if names.named(name, (*_WRITTEN, *names.TEXT)):
        return Guess("text", Note("reason.its_name"))
    if not names.named(name, (*names.LABEL, *names.LABELS, *_PASSED_ON)):
        if are_dates(sample):
            return Guess("date", Note("reason.dates"))
        if (unit := unit_of(sample)) is not None:
            return Guess("number", Note("reason.numbers_of", unit=unit))
    several = _several(sample)
    if several and names.named(name, (*names.LABELS, *names.LABEL)):
        return Guess("labels", Note("reason.its_name_and_labels"))
    mark = cells.separator(sample)
    if mark.sure and not several:
        return Guess("labels", Note("reason.divided", mark=repr(mark.mark)))
    if names.named(name, names.LABEL):
        return Guess("category", Note("reason.its_name"))
    if names.named(name, names.LABELS):
        return Guess("labels", Note("reason.its_name"))
    distinct, rows = pc.count_distinct(column, mode="only_valid").as_py(), len(column) - column.null_count
    if distinct == 1 and len(column) > 1 and rows == len(column):
        return Guess("ignore", Note("reason.every_row_holds_the"))
    if several:
        return Guess("labels", Note("reason.labels_divided_by_or"))
    if distinct == rows and rows >= 5 and all(_CODE.fullmatch(value) for value in sample):
        return Guess("ignore", Note("reason.a_different_code_in"))
    mean_length = sum(map(len, sample)) / len(sample)
    asks = 2 * sum(value.rstrip().endswith(("?", "？")) for value in sample) > len(sample)
    most = rows / 2 if rows < 50 else max(20, rows // 5)
    near = rows >= 10 and 0.75 * most <= distinct <= 1.33 * most and mean_length <= 40 and not asks
    if distinct <= most and mean_length <= 40 and not asks:
        return Guess("category", Note("reason.few", different=distinct, rows=rows), "text" if near else None)
    why = Note("reason.free_near", different=distinct, rows=rows) if near else Note("reason.free_text")
    return Guess("text", why, "category" if near else None)


def _are_images(table: Table, name: str, sample: list[str]) -> bool:
    tidied = [cells.paths(value)[-1] for value in sample if not cells.is_blank(value, cells.BLANKS)]
    share = sum(map(_looks_like_image, tidied)) / max(len(tidied), 1)
    if not names.named(name, names.IMAGE):
        return share >= 0.9
    if share >= 0.5 or any(len(value) < 300 and _is_file(table, value) for value in sample[:20]):
        return True
    return all(_PATH.fullmatch(value) and len(value) < 300 for value in tidied)


def _is_file(table: Table, value: str) -> bool:
    try:
        return image_path(value, table.root).is_file()
    except ImageError:
        return False


def _looks_like_image(value: str) -> bool:
    if value[:11].lower() == "data:image/" or is_base64_image(value):
        return True
    return value.split("?")[0].lower().endswith((*IMAGE_ENDINGS, ".svg", ".heic", ".psd", ".eps")) and "\n" not in value


def _several(sample: list[str]) -> bool:
    """Whether cells hold labels divided by | or ;: many do, the parts are short and return in other cells."""
    divided = [value for value in sample if _SEPARATORS.search(value)]
    if 5 * len(divided) < len(sample) or len(sample) < 2:
        return False
    parts = [part for value in sample for part in cells.labels(value)]
    short = sum(map(len, parts)) <= 30 * len(parts)
    return short and (len(set(parts)) < 0.7 * len(parts) or len(parts) < 10)


def _is_source(table: Table, name: str) -> bool:
    """Whether a column named as a source holds text that another column translates, not where a row comes from."""
    if not names.named(name, names.SOURCE):
        return False
    others = [other for other in table.columns if names.named(other, names.TRANSLATED)]
    return bool(others) and all(_mostly_different(table.arrow_column(column)) for column in (name, *others))


def _mostly_different(column: pa.ChunkedArray) -> bool:
    text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    different = int(pc.count_distinct(column, mode="only_valid").as_py()) if text else 0
    return bool(2 * different > len(column) - column.null_count)


def _is_turns(value: str) -> bool:
    if not value.lstrip().startswith("["):
        return False
    try:
        turns = json.loads(value)
    except ValueError:
        return False
    return isinstance(turns, list) and any(map(is_turn, turns))


def _written_list(sample: list[str]) -> pa.DataType | None:
    """What the lists hold, where every cell writes a list."""
    parsed = [parse_list(value) for value in sample if not cells.is_blank(value)]
    if not parsed or None in parsed:
        return None
    try:
        return pa.array(parsed).type.value_type
    except pa.ArrowException:
        return pa.string()  # of several kinds
