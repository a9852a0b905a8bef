"""The whole road for a recipe: is it a table with images, then read it and write archives.

It is what ``rebus data shard`` calls where the source holds images; raw text goes to ``data.corpus.prepare``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from rebus.data.corpus.reading import rows
from rebus.data.corpus.reading.source import looks_like_corpus
from rebus.data.corpus.reading.streams import ending, is_packed
from rebus.data.kinds import infer_kinds
from rebus.data.names import IMAGE_ENDINGS
from rebus.data.readers import read_table
from rebus.data.readers.folders import METADATA
from rebus.data.table import Table
from rebus.data.tars.finding import tar_paths, tars_in
from rebus.data.tars.manifest import TarManifest
from rebus.data.tars.writing import Recode, write_tars
from rebus.recipe import Data, Recipe

_PEEKED = 200  # rows of a table that are looked at
_LINE = 64_000_000


def holds_images(recipe: Recipe) -> bool:
    """Whether what ``data.path`` names is a table with images, by names of files and the first rows.

    Raises:
        DataError: it cannot be read.
    """
    data = recipe.data
    if "image" in data.kinds.values() or tar_paths(data.path) is not None:
        return True
    path = Path(os.path.expanduser(data.path))
    if looks_like_corpus(path):
        return False
    if path.is_dir() and any((path / name).is_file() for name in ("state.json", "dataset_dict.json")):
        return "image" in infer_kinds(read_table(data)).values()  # mapped, not loaded
    if path.is_dir():
        if any((path / name).is_file() for name in METADATA) or tars_in(path):
            return True
        files = (item for item in sorted(path.rglob("*")) if not item.name.startswith("."))
        first = next((item for item in files if item.suffix.lower() in (*IMAGE_ENDINGS, *rows.ENDINGS)), None)
        if first is None or first.suffix.lower() in IMAGE_ENDINGS:
            return first is not None
        path = first
    if not path.is_file() or ending(path) not in rows.ENDINGS or is_packed(path):
        return False  # the road of text says what is wrong
    table = _first_rows(path, data)
    return len(table) > 0 and "image" in infer_kinds(table).values()


def _first_rows(path: Path, data: Data) -> Table:
    if ending(path) in rows.PARQUET:
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            batch = next(file.iter_batches(_PEEKED), None)
            known = batch.to_pylist() if batch is not None else []
    else:
        listed = islice(rows.read_rows(path, path.name, data, _LINE, None), _PEEKED)
        known = [row for _, row in listed if isinstance(row, dict)]
    return Table.from_rows(known, path.parent, path.name)


def make_tars(
    recipe: Recipe,
    folder: str | Path,
    *,
    shard_mb: float = 256.0,
    recode: Recode | None = None,
    shuffle: bool = False,
    rebuild: bool = False,
    log: Callable[[str], None] = lambda _: None,
) -> TarManifest:
    """Archives of the table that ``recipe.data.path`` names. See ``write_tars``.

    Raises:
        DataError, RunError: as ``read_table`` and ``write_tars``.
    """
    table = read_table(recipe.data)
    kinds = infer_kinds(table, recipe.data.kinds)
    if table.skipped:
        log(f"the reader left out {len(table.skipped)} rows or files; the first: {table.skipped[0]}")
    return write_tars(
        table,
        kinds,
        folder,
        recipe.data,
        shard_mb=shard_mb,
        recode=recode,
        shuffle=recipe.seed if shuffle else None,
        rebuild=rebuild,
        log=log,
    )
