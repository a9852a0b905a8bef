"""Which reader a path needs, told by its name (and for a folder by what lies in it)."""

from __future__ import annotations

import os
from pathlib import Path

from rebus.catalogue import Note
from rebus.data.names import IMAGE_ENDINGS
from rebus.data.readers.arrow import read_parquet, read_saved_dataset
from rebus.data.readers.conll import read_conll
from rebus.data.readers.delimited import read_delimited
from rebus.data.readers.folders import METADATA, read_folder
from rebus.data.readers.json_lines import read_json, read_json_lines
from rebus.data.readers.nested import flattened
from rebus.data.readers.plain_text import read_plain_text
from rebus.data.readers.sheets import EXCEL, OTHERS, read_sheet
from rebus.data.readers.source import Source
from rebus.data.table import Table
from rebus.data.tars.finding import folder_of, tar_paths, tars_in
from rebus.data.tars.table import read_tars
from rebus.errors import DataError, nearest
from rebus.recipe import Data

FORMATS = {
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".tab": read_delimited,
    ".psv": read_delimited,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json,
    ".parquet": read_parquet,
    **dict.fromkeys((*EXCEL, *OTHERS), read_sheet),
    ".txt": read_plain_text,
    ".text": read_plain_text,
    ".md": read_plain_text,
    ".conll": read_conll,
    ".bio": read_conll,
    ".iob": read_conll,
    ".iob2": read_conll,
}


def read_table(data: Data) -> Table:
    """Read what ``data.path`` names. See ``rebus.data.readers.read_table``."""
    tars = tar_paths(data.path) if "://" not in data.path[:12] else None
    path = Path(data.path) if tars is not None and tars[0].is_file() else _existing(data.path)
    if tars is not None:
        table = read_tars(tars, data, folder_of(data.path))
    else:
        table = _read_folder(path, data) if path.is_dir() else read_file(path, data)
    if not len(table):
        raise DataError(
            where=path,
            expected="at least one row",
            found=f"none (all {len(table.skipped)} were broken)" if table.skipped else "none",
            do=str(table.skipped[0]) if table.skipped else "check that this is the right file and that it is complete",
        )
    return flattened(table)


def read_file(path: Path, data: Data) -> Table:
    """Read one file by its name's ending. Raises DataError."""
    reader = FORMATS.get(path.suffix.lower())
    if reader is None:
        kinds = Note("hint.table_kinds")
        raise DataError.of("problem.table_ending", where=path.name, kinds=kinds, ending=path.suffix)
    source = Source(path, data)
    table = reader(source)
    table.notes[:0] = source.notes
    table.warnings[:0] = source.warnings
    table.unused.update(source.unused)
    return table


def _read_folder(path: Path, data: Data) -> Table:
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        return read_saved_dataset(path)
    if not any((path / name).is_file() for name in METADATA) and (tars := tars_in(path)):
        table = read_tars(tars, data, path, whole=True)
        loose = sorted(item.name for item in path.iterdir() if item.suffix.lower() in IMAGE_ENDINGS)
        if loose:
            table.unused.add("images beside the tar archives", f"{path.name}/{loose[0]}", len(loose))
        return table
    return read_folder(path, data, read_file, tuple(FORMATS))


def _existing(text: str) -> Path:
    if not text:
        raise DataError("data.path", "a table or a folder", "nothing", "name one, e.g. `rebus train pets.csv`")
    if "://" in text[:12]:
        raise DataError.of("problem.table_remote", where=text)
    path = Path(os.path.expanduser(text))
    try:
        if path.is_dir() or path.is_file():
            return path
        there = path.exists()
        beside = [item.name for item in path.parent.iterdir()][:10_000] if path.parent.is_dir() else []
    except (OSError, ValueError) as error:
        raise DataError(repr(text), "a path that can be read", str(error), "check the path") from error
    if there:
        raise DataError(path, "a file or a folder", "a device or a pipe", "save the table to a file first")
    hint = nearest(path.name, beside)
    do = hint if hint.startswith("did") else Note("hint.check_path")
    raise DataError.of("problem.table_none", where=str(path), kinds=Note("hint.table_kinds"), do=do)
