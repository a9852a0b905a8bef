"""Digests of the files in a finished Run (digests.json): what tells a damaged file from the one that was written.

A file is of one of three sorts. Of what the model is made of (weights, settings, tokenizer) a change is refused when
the Run is opened. Results (figures, plots) are compared by ``rebus verify`` only. The report and the card may be edited
by people: a change is mentioned. Checkpoints, shards and indexes have manifests of their own and are not listed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rebus import atomic, cache
from rebus.errors import RunError

FILE = "digests.json"
VERSION = 1
EDITABLE = {"report.html", "README.md"}
RESULTS = EDITABLE | {
    "check.json",
    "demo.json",
    "evaluation.json",
    "explain.json",
    "fingerprint.json",
    "inference.json",
    "loop.json",
    "metrics.jsonl",
    "plan.jsonl",
    "stages.json",
}
_MODEL = re.compile(r"(adapter/|\d+_\w+/)?[^/]+\.(safetensors|json|yaml|jinja|model)|(vocab|merges)\.txt")

Sort = Literal["model", "result", "editable"]
Entries = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Difference:
    """A file that is not as it was written.

    Attributes:
        name: below the Run's folder.
        sort: what a change means.
        found: what is wrong with it.
    """

    name: str
    sort: Sort
    found: str


def sort_of(name: str) -> Sort | None:
    """What a change of a file means; None: the file is not listed."""
    if name in EDITABLE:
        return "editable"
    if name in RESULTS or name.startswith("plots/"):
        return "result"
    return "model" if name != FILE and _MODEL.fullmatch(name) else None


def write_digests(folder: Path) -> None:
    """List every file of a Run as it is now. Raises RunError: a file cannot be read or written."""
    _write(folder, {name: _entry(folder / name) for name in _listed(folder)})


@contextmanager
def renewed(folder: Path) -> Iterator[None]:
    """Within this context results may be written; afterwards digests.json knows those that have changed.

    Nothing is done for a Run without digests.json. Until the end results stand in no list, so that a process that dies
    on the way leaves nothing that looks damaged.
    """
    before = read_digests(folder)
    if before is None:
        yield
        return
    old = {name: _stamp(folder / name) for name in _listed(folder)}
    _write(folder, {name: entry for name, entry in before.items() if sort_of(name) == "model"})
    try:
        yield
    finally:
        after = {name: entry for name, entry in before.items() if sort_of(name) == "model" or (folder / name).exists()}
        for name in _listed(folder):
            if sort_of(name) != "model" and (name not in before or old.get(name) != _stamp(folder / name)):
                after[name] = _entry(folder / name)
        _write(folder, after)


def check_model(folder: Path) -> None:
    """Refuse a Run whose model is not as training left it.

    Every file is read once on a machine; after that its size, its times and its place on the disk are compared. Runs
    without digests.json, made by earlier versions, are taken as they are.

    Raises:
        RunError: a file is missing or differs, or digests.json is damaged.
    """
    entries = read_digests(folder)
    if entries is None:
        return
    listed = {name: entry for name, entry in entries.items() if sort_of(name) == "model"}
    stamps = {name: _stamp(folder / name) for name in listed}
    place = hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
    note = cache.file("verified", place[:2])  # 256 places in all, shared by all Runs: another Run's is read again
    known = hashlib.sha256(json.dumps([place, listed, stamps], sort_keys=True).encode()).hexdigest()
    if note is not None and cache.read_text(note) == known:
        return
    for item in _differences(folder, listed):
        raise RunError(
            folder / item.name,
            "the file that training left (digests.json)",
            item.found,
            "restore the file from a copy, or train again (`rebus verify` reads every file); if the change was meant, "
            "delete digests.json",
        )
    if note is not None:
        cache.write_text(note, known)


@dataclass(frozen=True)
class Verification:
    """What came of reading every file of a Run.

    Attributes:
        files: how many were compared.
        differences: those that are not as they were written.
    """

    files: int
    differences: list[Difference]

    @property
    def whole(self) -> bool:
        """Whether nothing differs but what people may edit."""
        return all(item.sort == "editable" for item in self.differences)


def verify_files(folder: Path) -> Verification:
    """Read and compare every listed file.

    Raises:
        RunError: the Run has no digests.json, or it is damaged.
    """
    entries = read_digests(folder)
    if entries is None:
        raise RunError(
            folder,
            "a finished Run with digests.json",
            "none",
            "Runs of earlier versions and unfinished ones have none; finish it with `rebus train --resume`",
        )
    return Verification(len(entries), list(_differences(folder, entries)))


def read_digests(folder: Path) -> Entries | None:
    """Name: size and SHA-256 of each listed file; None where there is no list. Raises RunError: it is damaged."""
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        entries: Entries = content["files"]
        if content["version"] != VERSION or content["digest"] != _digest_of(entries) or not _well_formed(entries):
            raise ValueError("another content than was written")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        do = "restore the folder from a copy; or delete this file, and nothing is compared any more"
        raise RunError(path, "the list of the Run's files", f"a damaged file ({error})", do) from error
    return entries


def _well_formed(entries: Entries) -> bool:
    """Whether every entry names a file of the Run, with its size."""
    return all(
        sort_of(name) is not None and ".." not in name.split("/") and type(entry["bytes"]) is int
        for name, entry in entries.items()
    )


def _differences(folder: Path, entries: Entries) -> Iterator[Difference]:
    for name, entry in sorted(entries.items()):
        path, sort = folder / name, sort_of(name) or "model"
        try:
            size = path.stat().st_size
            if size != entry["bytes"]:
                yield Difference(name, sort, f"{size:,} bytes instead of {entry['bytes']:,}")
            elif _entry(path) != entry:
                yield Difference(name, sort, "another content of the same size")
        except FileNotFoundError:
            yield Difference(name, sort, "no such file")
        except OSError as error:
            yield Difference(name, sort, f"'{error.strerror or error}'")


def _listed(folder: Path) -> list[str]:
    result = [*folder.glob("*"), *folder.glob("plots/*"), *folder.glob("adapter/*"), *folder.glob("[0-9]_*/*")]
    names = (path.relative_to(folder).as_posix() for path in result if path.is_file() and not path.name.startswith("."))
    return sorted(name for name in names if sort_of(name) is not None)


def _entry(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def _stamp(path: Path) -> list[int] | None:
    """What changes when a file is written: size, times, place on the disk; None where it cannot be looked at."""
    try:
        result = path.stat()
    except OSError:
        return None
    return [result.st_size, result.st_mtime_ns, result.st_ctime_ns, result.st_ino]


def _write(folder: Path, entries: Entries) -> None:
    rest = dict(sorted(entries.items()))
    atomic.write_json(folder / FILE, {"version": VERSION, "digest": _digest_of(rest), "files": rest})


def _digest_of(entries: Entries) -> str:
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()
