"""A table kept as a file in the user's cache folder, to be mapped into memory instead of being made again.

It does not know what the table holds: whoever stores it says by a fingerprint when it is no longer true.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa

from rebus import atomic
from rebus.errors import RunError

_KEY = b"rebus"


def cache_file(*names: str) -> Path:
    """Where the table made from ``names`` is kept; other names, another file."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rebus" / "tars"
    return folder / (hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:24] + ".arrow")


def load(file: Path, fingerprint: str) -> tuple[pa.Table, dict[str, Any]] | None:
    """The table and what was stored with it, mapped from the file; None where it is missing, damaged or out of date."""
    try:
        with pa.memory_map(str(file)) as source:
            table = pa.ipc.open_file(source).read_all()
        facts: dict[str, Any] = json.loads(table.schema.metadata[_KEY])
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        return None
    return (table.replace_schema_metadata(None), facts) if facts.get("fingerprint") == fingerprint else None


def store(file: Path, table: pa.Table, fingerprint: str, facts: dict[str, Any]) -> tuple[pa.Table, dict[str, Any]]:
    """Write the table and map it from there; where the folder cannot be written it stays in memory."""
    content = {**facts, "fingerprint": fingerprint}
    marked = table.replace_schema_metadata({_KEY: json.dumps(content)})

    def write(beside: Path) -> None:
        with pa.OSFile(str(beside), "wb") as sink, pa.ipc.new_file(sink, marked.schema) as writer:
            writer.write_table(marked)

    with contextlib.suppress(RunError, OSError):  # a cache is a courtesy
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        atomic.write_with(file, write)
    return load(file, fingerprint) or (table, content)
