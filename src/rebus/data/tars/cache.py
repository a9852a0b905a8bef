"""A table kept as a file in the user's cache folder, to be mapped into memory instead of being made again.

It does not know what the table holds: whoever stores it says by a fingerprint when it is no longer true.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from rebus import cache

_KEY = b"rebus"


def cache_file(*names: str) -> Path | None:
    """Where the table made from ``names`` is kept; other names, another file. None: nothing can be kept."""
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()
    return cache.file("tars", f"{digest[:24]}.arrow")


def load(file: Path | None, fingerprint: str) -> tuple[pa.Table, dict[str, Any]] | None:
    """The table and what was stored with it, mapped from the file.

    None where it is missing, damaged or out of date, or where somebody else may have written it.
    """
    if file is None or not (cache.trusted(file) and cache.whole(file)):
        return None
    try:
        with pa.memory_map(str(file)) as source:
            table = pa.ipc.open_file(source).read_all()
        facts: dict[str, Any] = json.loads(table.schema.metadata[_KEY])
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        return None
    return (table.replace_schema_metadata(None), facts) if facts.get("fingerprint") == fingerprint else None


def store(
    file: Path | None, table: pa.Table, fingerprint: str, facts: dict[str, Any]
) -> tuple[pa.Table, dict[str, Any]]:
    """Write the table and map it from there; where the folder cannot be written it stays in memory."""
    content = {**facts, "fingerprint": fingerprint}
    marked = table.replace_schema_metadata({_KEY: json.dumps(content)})

    def write(beside: Path) -> None:
        with pa.OSFile(str(beside), "wb") as sink, pa.ipc.new_file(sink, marked.schema) as writer:
            writer.write_table(marked)

    if file is not None and cache.store(file, write):
        cache.keep_digest(file)
    return load(file, fingerprint) or (table, content)
