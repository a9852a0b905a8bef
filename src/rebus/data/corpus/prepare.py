"""The whole road for a recipe: open the text, get or train a tokenizer, make shards; or only clean it and say how.

It is what ``rebus data shard`` and ``rebus data clean`` call.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rebus import atomic
from rebus.catalogue import Note
from rebus.data.corpus.cleaning.cleaner import Cleaned, Cleaner, CleaningReport
from rebus.data.corpus.cleaning.seen import Seen
from rebus.data.corpus.making.build import build_shards
from rebus.data.corpus.making.encode import batches
from rebus.data.corpus.making.ordered import in_order
from rebus.data.corpus.manifest import Manifest
from rebus.data.corpus.reading.documents import Document
from rebus.data.corpus.reading.source import CorpusSource, open_source
from rebus.errors import DataError, RunError
from rebus.recipe import Recipe
from rebus.text.tokenizer import LM_PATTERN, MASK, Tokenizer

Log = Callable[[str], None]


def make_shards(
    recipe: Recipe,
    folder: str | Path,
    *,
    tokenizer: str | Path | None = None,
    words: bool = False,
    rebuild: bool = False,
    log: Log | None = None,
) -> Manifest:
    """Shards of the text that ``recipe.data.path`` names, with the tokenizer beside them.

    Args:
        recipe: ``data``, ``corpus``, ``text`` and ``seed`` are read; ``data.split.valid`` is the share held out.
        folder: where the shards go, and tokenizer.json.
        tokenizer: a Run, a folder or a tokenizer.json; None: the one in ``folder``, else ``text.tokenizer``, else one
            is trained on ``corpus.sample_mb`` of the text.
        words: also say where words start, for masked models.
        rebuild: throw away shards of another source, tokenizer or settings.
        log: is told what is done.

    Raises:
        DataError: the text cannot be read.
        RunError: the folder or the tokenizer cannot be used.
    """
    folder, log = Path(folder), log or (lambda line: None)
    source = open_source(recipe.data, recipe.corpus)
    used = get_tokenizer(source, recipe, folder, tokenizer, words=words, rebuild=rebuild, log=log)
    return write_shards(source, recipe, folder, used, words=words, rebuild=rebuild, log=log)


def write_shards(
    source: CorpusSource,
    recipe: Recipe,
    folder: Path,
    tokenizer: Tokenizer,
    *,
    words: bool,
    rebuild: bool = False,
    log: Log,
) -> Manifest:
    """``build_shards`` with a tokenizer and the recipe's settings; ``words``: with where words start."""
    return build_shards(
        source,
        tokenizer.encode_many,
        vocab_size=tokenizer.vocab_size,
        eos_id=tokenizer.eos_id,
        tokenizer_hash=tokenizer.fingerprint,
        folder=folder,
        settings=recipe.corpus,
        valid=recipe.data.split.valid,
        workers=recipe.data.workers,
        log=log,
        seed=recipe.seed,
        encode_with_offsets=tokenizer.encode_with_offsets if words else None,
        segment=recipe.text.segment,
        normalise=tokenizer.normalise,
        rebuild=rebuild,
    )


def get_tokenizer(
    source: CorpusSource,
    recipe: Recipe,
    folder: Path,
    named: str | Path | None,
    *,
    words: bool,
    rebuild: bool,
    log: Log,
) -> Tokenizer:
    """The tokenizer that is named, or that lies in ``folder``, or a new one, which is saved there.

    Raises:
        DataError: there is no text to train one on.
        RunError: the one that is named is missing or broken.
    """
    named = named or recipe.text.tokenizer
    if named is not None:
        used = Tokenizer.load(named)
    elif (folder / "tokenizer.json").is_file() and not rebuild:
        return Tokenizer.load(folder)
    else:
        texts = source.sample(recipe.corpus.sample_mb)
        if not texts:
            raise DataError(source.path, "text to train a tokenizer on", "none", "check that the files hold text")
        size = sum(map(len, texts))
        log(Note("corpus.tokenizer", pieces=recipe.text.vocab_size, characters=size))
        specials = [MASK] if words else []
        clean = recipe.corpus.clean
        used = Tokenizer.train(
            texts,
            recipe.text.vocab_size,
            specials=specials,
            pattern=LM_PATTERN,
            nfkc=clean.nfkc and not clean.full_width,  # else it would take the marks that cleaning keeps
        )
    if words and used.mask_id is None:
        do = "name one that has it, or leave out --tokenizer to have one trained"
        raise RunError(named or folder, f"a tokenizer with {MASK}, for masked models", "one without it", do)
    used.save(folder)
    return used


def clean_text(recipe: Recipe, out: str | Path | None = None) -> CleaningReport:
    """Clean the text that ``recipe.data.path`` names, as ``make_shards`` would, and say what that does.

    Args:
        recipe: ``data`` and ``corpus`` are read.
        out: a JSONL file to write what is kept to, an object {"text", "where"} a line; ``.gz`` or ``.zst`` packs it.
            A document of more than a million characters takes several lines. None: only count.

    Raises:
        DataError: the text cannot be read.
        RunError: the file cannot be written.
    """
    source, settings = open_source(recipe.data, recipe.corpus), recipe.corpus.clean
    report = CleaningReport(passed_over=[list(item) for item in source.passed_over])
    with TemporaryDirectory() as folder:
        known = Seen(Path(folder) / "seen", settings)
        rest = _kept(source, Cleaner(settings), known, report, recipe.data.workers)
        try:
            if out is None:
                for _ in rest:
                    pass
            else:
                _write(Path(out), rest)
        finally:
            known.close()
    return report


def _kept(
    source: CorpusSource, cleaner: Cleaner, seen: Seen, report: CleaningReport, workers: int
) -> Iterator[dict[str, str]]:
    def work(batch: list[Document]) -> list[tuple[Document, Cleaned]]:
        return [(document, cleaner(document)) for document in batch]

    for done in in_order(work, batches(source.entries()), workers):
        for document, cleaned in done:
            report.see(document, len(document.text))
            reason = cleaned.reason or seen.reason(cleaned)
            if reason:
                report.leave_out(document, reason)
                continue
            report.keep(document, cleaned.changed)
            report.kept_characters += len(cleaned.text)
            report.kept_bytes += len(cleaned.text.encode())
            yield {"text": cleaned.text, "where": document.where}


def _write(out: Path, kept: Iterator[dict[str, str]]) -> None:
    import pyarrow as pa

    packed = {".gz": "gzip", ".zst": "zstd"}.get(out.suffix.lower())

    def write(beside: Path) -> None:
        with open(beside, "wb") as file:
            stream: Any = file if packed is None else pa.CompressedOutputStream(pa.PythonFile(file, "w"), packed)
            for row in kept:
                stream.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
            if packed is not None:
                stream.close()

    atomic.write_with(out, write)
