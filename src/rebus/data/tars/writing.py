"""A table with images to tar archives in WebDataset's layout: each whole or not at all, gone on with when cut off.

``key.jpg`` (or the image's own ending) holds the first image, ``key.NAME.jpg`` the others, ``key.json`` the other
columns (a list of objects where several rows share the images), ``key.txt`` and ``key.cls`` the only text and the
only whole-number class once more, for readers that look for those. It does not know what is learned.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from rebus import atomic
from rebus.data.corpus.making.ordered import in_order
from rebus.data.image_sources import open_image
from rebus.data.images import decode_image, read_header
from rebus.data.table import Table
from rebus.data.tars.manifest import Shard, TarManifest
from rebus.data.tars.plan import Layout, Planned, layout_of, plan, stamp
from rebus.data.tars.samples import Columns
from rebus.errors import DataError, ImageError, RunError
from rebus.recipe import Data, Kind

PARTS = ".parts"  # folder of what is known of archives that are written, until all are
_VERSION = 1
_SHOWN = 20
_OURS = re.compile(r"(shard|train|valid|test)-\d{6}\.tar")
_ENDINGS = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif"}
Log = Callable[[str], None]
Format = Literal["jpeg", "png", "webp"]


@dataclass(frozen=True)
class Recode:
    """How images are written anew; upright, without transparency.

    Attributes:
        format: jpeg, png or webp; None: as they are.
        side: the longer side at most, in pixels; None: as it is.
        quality: of jpeg and webp, 1 to 100.
    """

    format: Format | None = None
    side: int | None = None
    quality: int = 90


def write_tars(
    table: Table,
    kinds: dict[str, Kind],
    folder: str | Path,
    data: Data,
    *,
    shard_mb: float = 256.0,
    recode: Recode | None = None,
    shuffle: int | None = None,
    rebuild: bool = False,
    log: Log = lambda _: None,
) -> TarManifest:
    """Write archives and their index.json, or go on with those that were begun, or do nothing where all are there.

    Args:
        table: the rows.
        kinds: column: kind.
        folder: where the archives go.
        data: background, pixel budget, what to do with broken images, processes that write.
        shard_mb: about how large an archive gets, in millions of bytes of images as they are now.
        recode: how images are written anew; None: their own bytes.
        shuffle: seed of an order in which they are dealt; None: the table's.
        rebuild: throw away archives that were made of something else or otherwise.
        log: is told what is done.

    Raises:
        DataError: no column holds images, or a value cannot be written. ImageError: an image is broken and
            ``data.on_bad`` is ``refuse``; the row is named.
        RunError: the folder holds other archives, or cannot be written.
    """
    folder, recode = Path(folder), recode or Recode()
    if recode.side is not None and recode.format is None:
        raise DataError("--side", "--recode jpeg, png or webp beside it", "none", "say how smaller images are saved")
    layout, left = layout_of(table, kinds)
    names = {*layout.images.values(), *layout.others}
    manifest = TarManifest(
        table.name,
        _made_from(table, kinds, data, shard_mb, recode, shuffle),
        {name: kind for name, kind in kinds.items() if name in names},
        Columns(
            layout.images[""],
            layout.text or "caption",
            layout.label or "label",
            {word: name for word, name in layout.images.items() if word},
            exact=True,
        ),
        not_carried=left,
    )
    if left:
        log(f"not carried, as JSON cannot hold them: {', '.join(left)}")
    try:
        before = _begin(folder, manifest, rebuild, log)
        return _write_all(
            table,
            layout,
            folder,
            data,
            manifest,
            before,
            plan(table, layout, int(shard_mb * 1e6), split=data.split.column, shuffle=shuffle),
            recode,
            log,
        )
    except OSError as error:
        raise atomic.explained(folder, error) from error


def _made_from(
    table: Table, kinds: dict[str, Kind], data: Data, shard_mb: float, recode: Recode, shuffle: int | None
) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "source": str(Path(data.path).resolve()) if data.path else table.name,
        "rows": len(table),
        "kinds": dict(kinds),
        "shard_mb": shard_mb,
        "recode": asdict(recode),
        "shuffle": shuffle,
        "background": data.background,
        "split": data.split.column,
        "on_bad": data.on_bad,
    }


def _begin(folder: Path, manifest: TarManifest, rebuild: bool, log: Log) -> TarManifest | None:
    """The index of archives made of the same; other ones are refused, or taken away."""
    folder.mkdir(parents=True, exist_ok=True)
    before = None
    try:
        before = TarManifest.load(folder)
    except RunError:
        if not rebuild:
            raise
    there = sorted(path.name for path in folder.glob("*.tar"))
    ours = {shard.url for shard in before.shards} if before is not None else set()
    strange = [name for name in there if name not in ours and not _OURS.fullmatch(name)]
    if strange or (there and before is None and not rebuild):
        do = "choose another folder" if strange else "choose another folder, or throw these away with --rebuild"
        raise RunError(folder, "an empty folder, or archives that this made", f"'{(strange or there)[0]}'", do)
    if before is not None and before.made_from != manifest.made_from and not rebuild:
        now = manifest.made_from
        key = next(key for key in {**now, **before.made_from} if now.get(key) != before.made_from.get(key))
        received = f"{key} was {before.made_from.get(key)!r}, is {now.get(key)!r}"
        do = "choose another folder, or throw them away with --rebuild"
        raise RunError(folder, "archives of the same source and settings", received, do)
    if rebuild:
        shutil.rmtree(folder / PARTS, ignore_errors=True)
        for name in there:
            (folder / name).unlink()
        before = None
    for stale in folder.glob(".*.tar.*.tmp"):  # of a process that was killed
        stale.unlink(missing_ok=True)
    if before is not None:
        log(f"shards: going on with those in {folder}" if not before.finished else f"shards: looking at {folder}")
    replace(manifest, shards=before.shards if before is not None else []).save(folder)
    return before


def _write_all(
    table: Table,
    layout: Layout,
    folder: Path,
    data: Data,
    manifest: TarManifest,
    before: TarManifest | None,
    planned: list[Planned],
    recode: Recode,
    log: Log,
) -> TarManifest:
    known = {shard.url: shard for shard in before.shards} if before is not None else {}
    known |= {shard.url: shard for path in (folder / PARTS).glob("*.json") for shard in _part(path)}

    def work(planned: Planned) -> dict[str, Any]:
        return _Writer(table, layout, data, recode, planned).write(folder, known.get(planned.name))

    written = 0
    for number, done in enumerate(in_order(work, planned, data.workers), 1):
        shard = Shard(**done["shard"])
        manifest.shards += [shard] if shard.nsamples else []
        manifest.left_out["count"] += shard.left_out
        manifest.left_out["first"] = [*manifest.left_out["first"], *shard.reasons][:_SHOWN]
        written += done["new"]
        log(f"shards: {number} of {len(planned)}, {sum(s.nsamples for s in manifest.shards):,} samples")
    if not manifest.shards:
        do = manifest.left_out["first"][0] if manifest.left_out["first"] else "check the table"
        raise DataError(table.name, "images that can be read", "none", do)
    if not written and before is not None and before.finished:
        log(f"shards: those in {folder} are used again")
    manifest.finished = True
    manifest.save(folder)
    rest = {shard.url for shard in manifest.shards}
    for path in folder.glob("*.tar"):
        if path.name not in rest and path.name in known:  # the table has become smaller
            path.unlink()
    shutil.rmtree(folder / PARTS, ignore_errors=True)
    return manifest


def _part(path: Path) -> list[Shard]:
    try:
        return [Shard(**json.loads(path.read_text(encoding="utf-8")))]
    except (OSError, ValueError, TypeError):
        return []  # written again


class _Writer:
    """Writes one archive."""

    def __init__(self, table: Table, layout: Layout, data: Data, recode: Recode, planned: Planned) -> None:
        self.table, self.layout, self.data, self.recode, self.planned = table, layout, data, recode, planned
        self.left_out, self.reasons = 0, list[str]()

    def write(self, folder: Path, known: Shard | None) -> dict[str, Any]:
        """The archive's facts; written only where what is there is not the same."""
        path, key = folder / self.planned.name, self._key()
        good = known is not None and known.key == key and path.is_file() and path.stat().st_size == known.filesize
        if known is not None and good:
            return {"shard": asdict(known), "new": 0}
        counts, digest = {"samples": 0, "rows": 0}, hashlib.sha256()

        def fill(beside: Path) -> None:
            with open(beside, "wb") as file:
                sink = _Hashing(file, digest)
                with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
                    for number, rows in enumerate(self.planned.samples, self.planned.first):
                        files = self._files(rows)
                        for ending, content in files:
                            entry = tarfile.TarInfo(f"{number:09d}.{ending}")
                            entry.size = len(content)
                            archive.addfile(entry, io.BytesIO(content))
                        counts["samples"] += bool(files)
                        counts["rows"] += len(rows) if files else 0

        atomic.write_with(path, fill)
        size = path.stat().st_size
        shard = Shard(
            self.planned.name,
            counts["samples"],
            counts["rows"],
            size,
            digest.hexdigest(),
            key,
            self.left_out,
            self.reasons,
        )
        if not shard.nsamples:
            path.unlink()
        else:
            atomic.write_json(folder / PARTS / f"{self.planned.name}.json", asdict(shard))
        return {"shard": asdict(shard), "new": 1}

    def _key(self) -> str:
        """A hash of everything the archive is made of; of image files, their place, size and time."""
        digest = hashlib.sha256(
            repr((asdict(self.recode), self.layout, self.data.background, self.data.levels)).encode()
        )
        for rows in self.planned.samples:
            for name in self.layout.images.values():
                try:
                    digest.update(stamp(self.table.value(rows[0], name), self.table, "").encode("utf-8", "replace"))
                except ImageError:
                    digest.update(b"unreadable")
            for row in rows:
                digest.update(self._json({name: self.table.value(row, name) for name in self.layout.others}, row))
        return digest.hexdigest()

    def _files(self, rows: list[int]) -> list[tuple[str, bytes]]:
        """(ending, content) of a sample's members, sorted as in WebDataset; none where an image is left out."""
        layout, table, files = self.layout, self.table, dict[str, bytes]()
        for word, column in layout.images.items():
            value = table.value(rows[0], column)
            if value is None:
                continue
            try:
                ending, content = self._image(value, f"{table.where(rows[0])}, column '{column}'")
            except ImageError as error:
                if self.data.on_bad == "refuse":
                    raise
                self.left_out += len(rows)
                self.reasons += [str(error)] if len(self.reasons) < _SHOWN else []
                return []
            files[f"{word}.{ending}" if word else ending] = content
        message = [{name: table.value(row, name) for name in layout.others} for row in rows]
        whole = [self._json(row, at) for at, row in zip(rows, message, strict=True)]
        text = next((row[layout.text] for row in message if row[layout.text]), None) if layout.text else None
        label = message[0][layout.label] if layout.label else None
        if text is not None:
            files["txt"] = text.encode()
        if label is not None:
            files["cls"] = str(label).encode()
        entries = {
            name: value for name, value in ((layout.text, text), (layout.label, label)) if name and value is not None
        }
        if len(rows) > 1:
            files["json"] = b"[" + b", ".join(whole) + b"]"
        elif entries != message[0]:
            files["json"] = whole[0]
        return sorted(files.items())

    def _image(self, value: Any, where: str) -> tuple[str, bytes]:
        data, recode = self.data, self.recode
        if recode.format is None:
            header = read_header(value, self.table.root, pixel_budget=data.pixel_budget, where=where)
            with open_image(value, self.table.root, where) as opened:
                return _ENDINGS.get(header.format, header.format.lower()), opened.file.read()
        array = decode_image(
            value,
            self.table.root,
            background=data.background,
            levels=data.levels,
            pixel_budget=data.pixel_budget,
            where=where,
            near=recode.side,
        )
        image = Image.fromarray(np.ascontiguousarray(array))
        if recode.side is not None and max(image.size) > recode.side:
            share = recode.side / max(image.size)
            size = (max(1, round(image.width * share)), max(1, round(image.height * share)))
            image = image.resize(size, Image.Resampling.LANCZOS)
        saved = io.BytesIO()
        image.save(saved, recode.format.upper(), quality=recode.quality)
        return _ENDINGS.get(recode.format.upper(), recode.format), saved.getvalue()

    def _json(self, row: dict[str, Any], at: int) -> bytes:
        try:
            return json.dumps(_plain(row), ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, UnicodeEncodeError) as error:
            message = " ".join(str(error).split())[:100]
            do = "correct the value, or mark its column with --kind COLUMN=ignore"
            raise DataError(self.table.where(at), "values that JSON holds", message, do) from error


def _plain(value: Any) -> Any:
    """A value as JSON has it: no number that is none, dates as words."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"a value of type {type(value).__name__}")


class _Hashing:
    """A file that hashes what is written to it."""

    def __init__(self, file: Any, digest: Any) -> None:
        self.file, self.digest = file, digest

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        return int(self.file.write(content))
