"""Archives as one table, without unpacking: small fields in Arrow columns, images as places in the archives.

The table is built once and kept (see ``cache``) until an archive changes. It does not know what columns mean.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rebus.data.columns import arrow_table
from rebus.data.corpus.making.ordered import in_order
from rebus.data.names import split_in_name, split_word
from rebus.data.table import Places, Table
from rebus.data.tars import cache
from rebus.data.tars.manifest import FILE, TarManifest
from rebus.data.tars.merge import merged
from rebus.data.tars.samples import Columns, Row, UnsortedError, is_image, rows_of, samples
from rebus.errors import DataError, RunError
from rebus.recipe import Data, Kind

_VERSION = 2
_BATCH = 16_384  # rows turned into Arrow at a time
_FILE, _NUMBER = "__file__", "__sample__"  # where a row came from; no columns of the table
_MOST_IMAGES = 32  # columns of images
_KEPT = 1000  # reasons that are kept


@dataclass
class _Read:
    """What one archive holds."""

    parts: list[pa.Table] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    images: set[str] = field(default_factory=set)
    broken: list[DataError] = field(default_factory=list)


def read_tars(paths: Sequence[Path], data: Data, root: Path, *, whole: bool = False) -> Table:
    """The table of some archives.

    Args:
        paths: of the archives, in the order of the rows.
        data: encoding of names, what to do with what is broken, processes that read.
        root: a folder above all of them, from which their names in values start.
        whole: these are all archives there, so that they are those of an index.json.

    Raises:
        DataError: an archive is missing, damaged or holds what is not read; the archive and the sample are named.
        RunError: index.json is damaged, or says that the archives are not all written.
    """
    root = root.absolute()
    manifest = TarManifest.load(root)
    names = [path.absolute().relative_to(root).as_posix() for path in paths]
    sizes = [_stat(path) for path in paths]
    if manifest is not None:
        _check_listed(root, manifest, {name: size for name, (size, _) in zip(names, sizes, strict=True)}, whole)
    columns = manifest.columns if manifest is not None else Columns()
    entries = (_VERSION, str(root), list(zip(names, sizes, strict=True)), astuple(columns), data.encoding, data.on_bad)
    fingerprint = hashlib.sha256(repr(entries).encode()).hexdigest()
    file = cache.cache_file(str(root), *names)
    result = cache.load(file, fingerprint)
    if result is None:
        result = cache.store(file, *_build(root, names, columns, data, fingerprint))
    arrow, facts = result
    kinds: dict[str, Kind] = dict.fromkeys(facts["images"], "image")
    if manifest is not None:
        listed = {name: kind for name, kind in manifest.kinds.items() if name in facts["columns"]}
        kinds = listed
    places = Places(tuple(names), "sample", _numpy(arrow, _FILE), _numpy(arrow, _NUMBER))
    skipped = [DataError(**parts) for parts in facts["skipped"]]
    arrow = arrow.select([name for name in dict.fromkeys((*kinds, *facts["columns"])) if name in facts["columns"]])
    return Table(arrow, root, places, name=root.name, skipped=skipped, kinds=kinds)


def _build(
    root: Path, names: list[str], columns: Columns, data: Data, fingerprint: str
) -> tuple[pa.Table, str, dict[str, Any]]:
    def work(name: str) -> _Read:
        return _read(root / name, name, columns, data)

    parts: list[pa.Table] = []
    passed_over: Counter[str] = Counter()
    images: dict[str, None] = {}
    skipped: list[DataError] = []
    for number, item in enumerate(in_order(work, names, data.workers)):
        for part in item.parts:
            parts.append(part.append_column(_FILE, pa.array(np.full(len(part), number, dtype=np.int64))))
        passed_over += item.passed_over
        images |= dict.fromkeys(sorted(item.images))
        skipped += item.broken
    if not parts:
        text = ", ".join(f"{count} '{ending}'" for ending, count in passed_over.most_common(5)) or "nothing"
        do = "name them KEY.jpg, KEY.txt, KEY.cls or KEY.json, as WebDataset does"
        raise DataError(root / names[0], "samples with images, texts, classes or JSON", text, do)
    if len(images) > _MOST_IMAGES:
        received = f"{len(images)} kinds of them: {', '.join(list(images)[:4])}, ..."
        do = "rename the files: what follows the first point of a name says which image of a sample it is"
        raise DataError(root, f"at most {_MOST_IMAGES} images a sample", received, do)
    skipped += [
        DataError(root.name, "members that are read", f"{count} of '{ending}'", "convert them if they are needed")
        for ending, count in passed_over.most_common()
    ]
    arrow = _with_split(merged(parts, root.name), names)
    facts = {
        "images": list(images),
        "columns": [name for name in arrow.column_names if name not in (_FILE, _NUMBER)],
        "skipped": [error.as_dict() for error in _shortened(root, skipped)],
    }
    return arrow, fingerprint, facts


def _read(path: Path, name: str, columns: Columns, data: Data) -> _Read:
    """One archive; a second time, held as a whole, where a key's members do not stand together."""
    try:
        return _gathered(path, name, columns, data, gather=False)
    except UnsortedError:
        return _gathered(path, name, columns, data, gather=True)


def _gathered(path: Path, name: str, columns: Columns, data: Data, *, gather: bool) -> _Read:
    read = _Read()
    rows: list[Row] = []
    numbers: list[int] = []

    def flush() -> None:
        if rows:
            listed = {key: [row.get(key) for row in rows] for key in dict.fromkeys(key for row in rows for key in row)}
            known = list(numbers)
            arrow = arrow_table(listed, lambda row: f"{name}, sample {known[row]}", name)
            read.parts.append(arrow.append_column(_NUMBER, pa.array(known, pa.int64())))
            rows.clear()
            numbers.clear()

    try:
        for sample in samples(path, name, read.passed_over, gather=gather, encoding=data.encoding):
            try:
                result = rows_of(sample, name, columns)
            except DataError as error:
                if data.on_bad == "refuse":
                    raise
                read.broken.append(error)
                continue
            read.images |= {key for ending in sample.files if is_image(ending) for key in _column(ending, columns)}
            rows += result
            numbers += [sample.number] * len(result)
            if len(rows) >= _BATCH:
                flush()
    except DataError as error:  # of the archive itself: what was whole before the damage is kept
        if data.on_bad == "refuse":
            raise
        read.broken.append(error)
    flush()
    return read


def _column(ending: str, columns: Columns) -> tuple[str]:
    before = ending.rpartition(".")[0]
    return (columns.images.get(before) or before or columns.image,)


def _with_split(arrow: pa.Table, names: list[str]) -> pa.Table:
    """The column ``split`` where all archives' names or folders say one and no row does."""
    splits = [split_word(name.split("/")[0]) or split_in_name(name.rsplit("/", 1)[-1]) for name in names]
    if "split" in arrow.column_names or not all(splits):
        return arrow
    words = np.array(splits, dtype=object)[arrow.column(_FILE).to_numpy()]
    return arrow.append_column("split", pa.array(words, pa.string()))


def _numpy(arrow: pa.Table, column: str) -> Any:
    return arrow.column(column).chunk(0).to_numpy(zero_copy_only=True)


def _stat(path: Path) -> tuple[int, int]:
    try:
        result = path.stat()
    except OSError as error:
        raise DataError(path, "a tar archive", f"'{error.strerror or error}'", "check the path") from error
    return result.st_size, result.st_mtime_ns


def _check_listed(root: Path, manifest: TarManifest, sizes: dict[str, int], whole: bool) -> None:
    """Refuse archives that are not those of index.json."""
    again = "make them again with the same `rebus data shard`, which goes on where it was"
    if not manifest.finished:
        raise RunError(root / FILE, "archives that are all written", "a writing that was cut off", again)
    listed = {shard.url: shard.filesize for shard in manifest.shards}
    for name, size in sizes.items():
        if name in listed and listed[name] != size:
            raise DataError(root / name, f"{listed[name]:,} bytes, as {FILE} says", f"{size:,}", f"copy it, or {again}")
    if not whole:
        return
    missing, strange = sorted(set(listed) - set(sizes)), sorted(set(sizes) - set(listed))
    if missing:
        received = f"{len(missing)} missing, the first '{missing[0]}'"
        raise DataError(root, f"the {len(listed)} archives of {FILE}", received, f"copy them, or {again}")
    if strange:
        do = f"move it to another folder, or remove {FILE} to read all archives"
        raise DataError(root / strange[0], f"only archives that {FILE} names", f"{len(strange)} others", do)


def _shortened(root: Path, skipped: list[DataError]) -> list[DataError]:
    left = len(skipped) - _KEPT
    if left <= 0:
        return skipped
    return [*skipped[:_KEPT], DataError(root.name, "whole samples", f"{left:,} more that are not", skipped[-1].do)]
