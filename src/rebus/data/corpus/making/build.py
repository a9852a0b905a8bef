"""Documents to shards: cleaned, cut into tokens, dealt to splits and written, once; killed at any moment it goes on.

What is written depends on the source, the tokenizer and the settings only: not on how many processes worked, how often
the work was interrupted, or when. It does not know what a tokenizer is: it is given functions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator
from itertools import dropwhile
from pathlib import Path
from typing import Any

from rebus import atomic
from rebus.catalogue import Note
from rebus.data.corpus.cleaning.cleaner import Cleaner, CleaningReport
from rebus.data.corpus.cleaning.seen import Seen
from rebus.data.corpus.making.dealing import Dealing, survey
from rebus.data.corpus.making.encode import Encoded, EncodeMany, Encoder, EncodeWithOffsets, batches
from rebus.data.corpus.making.ordered import in_order
from rebus.data.corpus.making.writer import PARTS, SplitWriter, WriterState
from rebus.data.corpus.manifest import FILE, Manifest, SplitCount
from rebus.data.corpus.reading.source import CorpusSource
from rebus.data.corpus.shard_file import Header, id_type
from rebus.data.corpus.shards import Shards
from rebus.errors import DataError, RunError
from rebus.recipe import Corpus
from rebus.text.words import Segment, resolve

COMMIT_SECONDS = 20.0  # between two moments from which a killed build can go on
_TELL_SECONDS = 10.0
_SPLITS = ("train", "valid", "test")
_ROWS_ONLY = {"block", "packing", "inner_mask", "mask", "sample_mb", "cache"}  # read when rows are cut, not here


def build_shards(
    source: CorpusSource,
    encode_many: EncodeMany,
    *,
    vocab_size: int,
    eos_id: int,
    tokenizer_hash: str,
    folder: str | Path,
    settings: Corpus,
    valid: float = 0.0,
    workers: int = 0,
    log: Callable[[str], None] | None = None,
    seed: int = 0,
    encode_with_offsets: EncodeWithOffsets | None = None,
    segment: Segment = "auto",
    normalise: Callable[[str], str] | None = None,
    rebuild: bool = False,
) -> Manifest:
    """Make shards of a source, or go on with those that were begun, or do nothing where they are finished.

    Args:
        source: the documents.
        encode_many: texts to ids, none added.
        vocab_size: ids are below it; decides between 2 and 4 bytes an id.
        eos_id: put after every document.
        tokenizer_hash: changes when the tokenizer does.
        folder: where the shards go.
        settings: the recipe's ``corpus``.
        valid: share of the text that is held out, below 1; see ``dealing`` for how. A source that says itself what is
            held out (folders or files named train, valid, test) is obeyed.
        workers: processes that clean and encode; below 2: this one.
        log: is told what is done and how far it is.
        seed: of the dealing.
        encode_with_offsets: for masked models: a text to ids and the characters each stands for; the shards then also
            say where words start. Slower.
        segment: how Chinese is cut into words for that.
        normalise: what the tokenizer does to a text before cutting it; bytes are counted after it, so that a tokenizer
            that shortens texts does not flatter bits per byte. None: nothing.
        rebuild: throw away shards that were made of another source, by another tokenizer or with other settings.

    Raises:
        RunError: the folder holds other shards, is in use, or cannot be written.
        DataError: something in the source cannot be read, or too little of it is left.
        MissingPackageError: a setting needs a library that is not installed.
    """
    folder, log = Path(folder), log or (lambda line: None)
    if not 0 <= eos_id < vocab_size:
        raise DataError(
            "the tokenizer", f"an end of text below {vocab_size:,}", f"{eos_id:,}", "name another tokenizer"
        )
    wanted = Manifest(
        tokenizer_hash,
        vocab_size,
        eos_id,
        encode_with_offsets is not None,
        source.fingerprint(),
        _settings(source, settings, valid, seed, resolve(segment) if encode_with_offsets else ""),
    )
    encoder = Encoder(Cleaner(settings.clean), encode_many, vocab_size, None, encode_with_offsets, segment, normalise)
    try:
        with _locked(folder):
            manifest = _begun(folder, wanted, rebuild, log)
            if manifest.finished:
                Shards.open(folder, tokenizer_hash=tokenizer_hash, vocab_size=vocab_size)
                log(Note("corpus.used_again", folder=str(folder)))
                _tell_report(manifest, log)
                return manifest
            return _Build(source, encoder, settings, folder, manifest, log).run(valid, seed, workers)
    except OSError as error:
        raise atomic.explained(folder, error) from error


class _Build:
    def __init__(
        self,
        source: CorpusSource,
        encoder: Encoder,
        settings: Corpus,
        folder: Path,
        manifest: Manifest,
        log: Callable[[str], None],
    ) -> None:
        self.source, self.encoder, self.settings = source, encoder, settings
        self.folder, self.manifest, self.log = folder, manifest, log
        self.started, self.spent = time.monotonic(), manifest.seconds
        self.file = self.place = 0  # where the source is: file, and documents of it that are done
        self.joins = ""  # split of the text that was just written, while its document goes on
        self.writers: dict[str, SplitWriter] = {}

    def run(self, valid: float, seed: int, workers: int) -> Manifest:
        progress = self.manifest.progress
        if progress:
            self.dealing = Dealing(**progress["dealing"])
            self.report = CleaningReport(**self.manifest.cleaning)
            self.file, self.place, self.joins = progress["file"], progress["place"], progress["joins"]
            states = {name: WriterState(**state) for name, state in progress["writers"].items()}
            self.log(f"shards: going on after {self.report.read:,} documents")
        else:
            self.dealing = survey(self.source.documents(), valid, seed, self.source.said)
            self.report = CleaningReport(passed_over=[list(item) for item in self.source.passed_over])
            states = {}
        self.encoder.unit = self.dealing.unit
        self.seen = Seen(self.folder / PARTS / "seen", self.settings.clean, progress.get("seen", 0))
        for name, state in states.items():
            self._writer(name, state)
        try:
            self._work(workers)
            for writer in self.writers.values():
                writer.finish_shard()
        finally:
            self.seen.close()
            for writer in self.writers.values():
                writer.close()
        return self._finish()

    def _work(self, workers: int) -> None:
        committed = message = time.monotonic()
        self._commit()
        for done in in_order(self.encoder, batches(self._left()), workers):
            finished = False
            for item in done:
                finished |= self._take(item)
            now = time.monotonic()
            if finished or now - committed > COMMIT_SECONDS:
                self._commit()
                committed = now
            if now - message > _TELL_SECONDS:
                tokens = sum(writer.state.total["tokens"] for writer in self.writers.values())
                share = f" ({self.source.read / self.source.size:.0%} of the source read)" if self.source.size else ""
                self.log(Note("corpus.shards", tokens=tokens, documents=self.report.kept, share=share))
                message = now

    def _left(self) -> Iterator[Any]:
        """Entries of the source that are not done yet."""
        file, place = self.file, self.place
        entries = enumerate(self.source.entries(file))
        return (entry for _, entry in dropwhile(lambda item: item[0] < place, entries))

    def _take(self, encoded: Encoded) -> bool:
        """Put a document where it belongs. Returns whether a shard was finished."""
        document, cleaned, finished = encoded.document, encoded.cleaned, False
        self.place = self.place + 1 if document.file == self.file else 1
        self.file = document.file
        self.report.see(document, encoded.characters)
        if document.begins:
            self.joins = ""
            self.dealing.begin(document, encoded.digest)
        reason = cleaned.reason or self.seen.reason(cleaned)
        if reason:
            self.report.leave_out(document, reason)
            self.joins = ""
            return False
        self.report.keep(document, cleaned.changed)
        for unit in encoded.units:
            split = self.dealing.deal(unit.characters)
            writer = self.writers.get(split) or self._writer(split, WriterState(split))
            finished |= writer.add(unit, joined=split == self.joins)
            self.joins = split
            self.report.kept_characters += unit.characters
            self.report.kept_bytes += unit.bytes
        return finished

    def _writer(self, split: str, state: WriterState) -> SplitWriter:
        manifest = self.manifest
        item = id_type(manifest.vocab_size).itemsize
        header = Header(item, 0, 0, manifest.vocab_size, 0, manifest.eos_id, manifest.words, 0, manifest.tokenizer)
        self.writers[split] = SplitWriter(self.folder, state, self.settings.shard_tokens, header)
        return self.writers[split]

    def _commit(self) -> None:
        states = {name: writer.commit() for name, writer in self.writers.items()}
        self.manifest.progress = {
            "dealing": self.dealing.as_dict(),
            "file": self.file,
            "place": self.place,
            "joins": self.joins,
            "seen": self.seen.commit(),
            "writers": states,
        }
        self.manifest.cleaning = self.report.as_dict()
        self.manifest.seconds = self.spent + time.monotonic() - self.started
        self.manifest.save(self.folder)
        for writer in self.writers.values():
            writer.forget_done()

    def _finish(self) -> Manifest:
        manifest, received = self.manifest, "; ".join(self.report.lines()[:4])
        totals = {name: SplitCount(**writer.state.total) for name, writer in self.writers.items()}
        if not totals.get("train", SplitCount()).tokens:
            raise DataError(
                self.source.path, "documents to train on", received, "give more text or change corpus.clean"
            )
        if self.dealing.valid and not totals.get("valid", SplitCount()).tokens:
            do = "give more text, raise data.split.valid, or set it to 0 to hold nothing out"
            raise DataError(self.source.path, f"enough text to hold out {self.dealing.valid:.1%}", received, do)
        manifest.splits = {name: totals[name] for name in _SPLITS if name in totals and totals[name].tokens}
        manifest.cleaning = self.report.as_dict()
        manifest.seconds = self.spent + time.monotonic() - self.started
        manifest.finished, manifest.progress = True, {}
        manifest.save(self.folder)
        shutil.rmtree(self.folder / PARTS)
        _tell_report(manifest, self.log)
        return manifest


def _tell_report(manifest: Manifest, log: Callable[[str], None]) -> None:
    for line in CleaningReport(**manifest.cleaning).lines():
        log(Note("corpus.line", line=line))


def _settings(source: CorpusSource, settings: Corpus, valid: float, seed: int, segment: str) -> dict[str, Any]:
    """What decides the content of shards, flat."""
    chosen = settings.model_dump(mode="json", exclude=_ROWS_ONLY)
    clean = chosen.pop("clean")
    flat = {f"corpus.{name}": value for name, value in chosen.items()}
    flat |= {f"corpus.clean.{name}": value for name, value in clean.items()}
    data = {name: getattr(source.data, name) for name in ("encoding", "delimiter", "on_bad")}
    flat |= {f"data.{name}": value for name, value in data.items()}
    return flat | {"data.split.valid": valid, "seed": seed, "text.segment": segment}


def _begun(folder: Path, wanted: Manifest, rebuild: bool, log: Callable[[str], None]) -> Manifest:
    """The manifest to go on with: the one in the folder where it fits, else the wanted one."""
    if not (folder / FILE).exists():
        return wanted
    result = Manifest.load(folder)
    old, new = result.made_from, wanted.made_from
    other = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if not other:
        return result
    received = "; ".join(f"{key} was {_short(old.get(key))}, is {_short(new.get(key))}" for key in other[:4])
    if not rebuild:
        do = "name another folder (corpus.cache, --out), or delete this one to build the shards anew (--rebuild)"
        raise RunError(folder, "shards made of this source with these settings", received, do)
    log(f"shards: those in {folder} are thrown away: {received}")
    (folder / FILE).unlink()
    for counts in result.splits.values():
        for shard in counts.shards:
            (folder / str(shard["name"])).unlink(missing_ok=True)
    shutil.rmtree(folder / PARTS, ignore_errors=True)
    return dataclasses.replace(wanted)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 24 else f"{text[:20]}..."


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a second build out of the folder while this one works; a killed one leaves no lock."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows: two builds at once are the user's care
        yield
        return
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not inherited by processes that are forked
        except (BlockingIOError, PermissionError) as error:
            do = "wait until it has finished, or name another folder"
            raise RunError(folder, "a folder that is not in use", "another build that writes to it", do) from error
        yield
