"""``rebus index``: a collection's images and texts as vectors, and only those that are new.

Letters: N images or texts, D numbers of a vector.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebus import recipe
from rebus.checkpoints.hf_load import is_checkpoint
from rebus.checkpoints.run_folder import Run
from rebus.data.declared import Columns
from rebus.data.image_sources import image_bytes, image_path
from rebus.data.kinds import infer_kinds
from rebus.data.readers import read_table
from rebus.data.table import Table
from rebus.errors import DataError, ImageError, RunError
from rebus.inference.embedding import shared_space
from rebus.inference.predictor import Predictor
from rebus.loop.lines import locked
from rebus.retrieval.index import Collection, Entry, Finder, Vectors, load_index, make_lists, save_index
from rebus.tasks.cells import as_texts, missing

Log = Callable[[str], None]
FOLDER = "index"  # in a Run
SAVED_EVERY = 20_000  # new images, so that an interrupted run need not begin again
_TOLD = 5  # broken images that are named


@dataclass(frozen=True)
class IndexSummary:
    """What indexing did.

    Attributes:
        folder: of the index.
        images: in it.
        texts: in it.
        added: embedded now.
        kept: known from before, unchanged.
        removed: gone from the collection.
        broken: could not be read; index.json lists them.
        how: what will compare.
        seconds: it took.
    """

    folder: Path
    images: int
    texts: int
    added: int
    kept: int
    removed: int
    broken: int
    how: str
    seconds: float


def index_run(
    run: str | Path,
    data: str | Path,
    *,
    out: str | Path | None = None,
    kinds: Mapping[str, recipe.Kind] | None = None,
    log: Log = lambda _: None,
) -> IndexSummary:
    """Embed a collection; what an earlier index of the same model holds unchanged is not embedded again.

    Args:
        run: a Run, or a checkpoint of another project (which needs ``out``).
        data: a folder of images, or a table with images, texts or both.
        out: folder of the index; None: ``index/`` in the Run.
        kinds: column: kind, where the guess is wrong.
        log: prints a line for people.

    Raises:
        RebusError: the model or the collection cannot be read, the model reads nothing that is in it, or no image
            of it can be read.
    """
    folder = index_folder(run, out)
    with locked(folder):
        return _index(folder, run, data, kinds, log)


def _index(
    folder: Path, run: str | Path, data: str | Path, kinds: Mapping[str, recipe.Kind] | None, log: Log
) -> IndexSummary:
    started = time.time()
    predictor = Predictor.open(run)
    settings = predictor.recipe.data.model_copy(update={"path": str(data), "kinds": dict(kinds or {})})
    table = read_table(settings)
    collection = Collection(fingerprint(predictor), str(Path(data).resolve()), str(table.root.resolve()))
    wanted = collect(predictor, table, kinds or {})
    known = _known(folder, collection, log)
    added = kept = 0
    for kind in ("image", "text"):
        fresh: list[Vectors] = []
        for entry, vectors in _embedded(predictor, wanted[kind], table, collection, known):
            collection.entries[kind] += entry
            fresh.append(vectors)
            added += sum(item.digest not in known for item in entry)
            kept += sum(item.digest in known for item in entry)
            if kind == "image" and added // SAVED_EVERY > (added - len(entry)) // SAVED_EVERY:
                collection.vectors[kind] = np.concatenate(fresh)
                save_index(folder, replace(collection, whole=False))
                log(f"{added:,} images embedded; interrupted now, indexing would go on from here")
        collection.vectors[kind] = np.concatenate(fresh) if fresh else np.zeros((0, 0), dtype=np.float32)
    if not (collection.count("image") or collection.count("text")):
        first = collection.broken[0] if collection.broken else None
        received = f"none; the first: {first['found']}" if first else "none"
        raise DataError(data, "images or texts that can be read", received, "name another folder or table")
    for kind, vectors in collection.vectors.items():
        if (lists := make_lists(vectors, log)) is not None:
            collection.lists[kind] = lists
    save_index(folder, collection)
    removed = len(set(known) - {entry.digest for entries in collection.entries.values() for entry in entries})
    how = next(Finder(v, collection.lists.get(kind)).how for kind, v in collection.vectors.items() if len(v))
    for told_wrong in collection.broken[:_TOLD]:
        log(f"not indexed: {told_wrong['where']}: {told_wrong['found']}")
    return IndexSummary(
        folder,
        collection.count("image"),
        collection.count("text"),
        added,
        kept,
        removed,
        len(collection.broken),
        how,
        time.time() - started,
    )


def index_folder(run: str | Path, out: str | Path | None) -> Path:
    """Where an index is. Raises RunError for a checkpoint of another project without a folder named."""
    if out is not None:
        return Path(out)
    if is_checkpoint(run):
        do = "name a folder: --out DIR with `rebus index`, --index DIR with `rebus find`"
        raise RunError(run, "a Run, which keeps its index", "a checkpoint of another project", do)
    return Run.open(run).folder / FOLDER


def fingerprint(predictor: Predictor) -> str:
    """What tells a model from any other: a hash of its weights and of how it sees."""
    digest = hashlib.blake2b(predictor.recipe.image.model_dump_json(exclude={"augment"}).encode(), digest_size=16)
    for name, tensor in sorted(predictor.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Wanted:
    """Something to embed: its entry without digest, and its value in the table."""

    entry: Entry
    value: Any


def collect(predictor: Predictor, table: Table, kinds: Mapping[str, recipe.Kind]) -> dict[str, list[Wanted]]:
    """The different images and texts of a table that the model can read.

    Raises:
        DataError: there is no such column.
    """
    model = predictor.model
    columns = Columns(table.columns, infer_kinds(table, {c: k for c, k in kinds.items() if c in table.columns}))
    paired = [task for task in predictor.tasks.values() if task.answers == "likeness" and "image" in task.roles]
    own = paired[0].settings.columns if paired else {}
    named = {role: column for role, column in own.items() if column in table.columns and column not in kinds}
    image = named.get("image", columns.image) if model.image is not None else None
    reads = model.text is not None or model.decoder is not None
    text = named.get("text", columns.caption) if reads and (shared_space(model) or model.image is None) else None
    if image is None and text is None:
        wanted = " or ".join(["images"] * (model.image is not None) + ["texts"] * reads)
        received = ", ".join(f"{column} ({kind})" for column, kind in columns.kinds.items())
        do = "name it: --kind COLUMN=image or --kind COLUMN=text"
        raise DataError(table.name, f"a column of {wanted}, which the model reads", received, do)
    wording = table.column(text) if text is not None else [None] * len(table)
    wanted_of: dict[str, list[Wanted]] = {"image": [], "text": []}
    if image is not None:
        seen: dict[Any, None] = {}
        for row, value in enumerate(table.column(image)):
            if missing(value) or value in seen:
                continue
            seen[value] = None
            shown = " / ".join(as_texts(wording[row]))[:200]
            is_path = isinstance(value, str) and len(value) < 1024
            name = value if is_path else f"{table.where(row)}, column '{image}'"
            wanted_of["image"].append(Wanted(Entry("image", name, table.where(row), shown), value))
    texts: dict[str, int] = {}
    for row, value in enumerate(wording):
        for item in as_texts(value):
            texts.setdefault(item, row)
    wanted_of["text"] = [Wanted(Entry("text", item, table.where(row)), item) for item, row in texts.items()]
    return wanted_of


def _known(folder: Path, collection: Collection, log: Log) -> dict[str, tuple[Entry, Vectors]]:
    """Digest: entry and vector of an earlier index of the same model; empty where there is none."""
    try:
        before = load_index(folder, "")
    except RunError as error:
        if "none" not in error.found:
            log(f"the index that was here is made anew, as it is {error.found}")
        return {}
    if before.model != collection.model:
        log("the index that was here is made anew, as another model made it")
        return {}
    if before.data != collection.data:
        log(f"the index that was here was of {before.data}")
    return {
        entry.digest: (entry, before.vectors[kind][place])
        for kind in ("image", "text")
        for place, entry in enumerate(before.entries[kind])
    }


def _embedded(
    predictor: Predictor,
    wanted: Sequence[Wanted],
    table: Table,
    collection: Collection,
    known: Mapping[str, tuple[Entry, Vectors]],
) -> Iterator[tuple[list[Entry], Vectors]]:
    """Entries with their vectors, a portion at a time; broken images go to ``found.broken``."""
    unchanged = {(entry.name, entry.size, entry.time): entry for entry, _ in known.values() if entry.size >= 0}
    for start in range(0, len(wanted), predictor.batch_size):
        entries: list[Entry] = []
        vectors: list[Vectors | None] = []
        fresh: list[Any] = []
        for item in wanted[start : start + predictor.batch_size]:
            try:
                entry, content = _identified(item, table.root, unchanged)
                new = entry.digest not in known
                shown = _opened(predictor, content, entry) if new else None
            except ImageError as error:
                collection.broken.append(error.as_dict())
                continue
            entries.append(entry)
            vectors.append(None if new else known[entry.digest][1])
            if new:
                fresh.append(shown)
        if not entries:
            continue
        result = iter(_vectors(predictor, entries[0].kind, fresh))
        yield entries, np.stack([next(result) if vector is None else vector for vector in vectors])


def _identified(wanted: Wanted, root: Path, unchanged: Mapping[Any, Entry]) -> tuple[Entry, Any]:
    """The entry with size, time and digest, and its content; a file that has not changed is not read."""
    entry = wanted.entry
    if entry.kind == "text":
        return replace(entry, digest=_digest(wanted.value.encode("utf-8", "surrogatepass"), "text")), wanted.value
    content = image_bytes(wanted.value, entry.place)
    if content is None:
        path = image_path(wanted.value, root, entry.place)
        stat = path.stat()
        entry = replace(entry, size=stat.st_size, time=stat.st_mtime_ns)
        before = unchanged.get((entry.name, entry.size, entry.time))
        if before is not None:
            return replace(entry, digest=before.digest), None
        try:
            content = path.read_bytes()
        except OSError as error:
            received = f"'{error.strerror or error}'"
            raise ImageError(entry.place, "an image that can be read", received, "check its permissions") from error
    return replace(entry, digest=_digest(content, "image")), content


def _opened(predictor: Predictor, content: Any, entry: Entry) -> Any:
    """An image's square, or the text."""
    if entry.kind == "text":
        return content
    square: NDArray[np.uint8] = predictor.open_image(content, Path(), entry.place)
    return square


def _vectors(predictor: Predictor, kind: str, fresh: list[Any]) -> Vectors:
    if not fresh:
        return np.zeros((0, 0), dtype=np.float32)
    return predictor.embed(fresh) if kind == "text" else predictor.embed_images(fresh)


def _digest(content: bytes, kind: str) -> str:
    return hashlib.blake2b(content, digest_size=16, person=kind.encode()).hexdigest()
