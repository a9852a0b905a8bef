"""Raw text on its way into a run: the tokenizer, the shards, the rows of each step. It knows no model and no loop.

Letters: R rows of a step, L tokens of a row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rebus import recipe
from rebus.data.corpus import Manifest, PackedRows, Shards, build_shards, open_source
from rebus.data.corpus.manifest import FILE as MANIFEST
from rebus.data.corpus.prepare import get_tokenizer
from rebus.errors import RecipeError
from rebus.loop import parallel
from rebus.models.batch import Batch
from rebus.resolve.scaling import is_said, vocabulary_for
from rebus.tasks import Lm, Mlm, TextProcessor
from rebus.tasks.lm import as_part
from rebus.tasks.mlm import hide, masked_part
from rebus.text.tokenizer import Tokenizer

Log = Callable[[str], None]

FOLDER = "shards"
_HELD_OUT = 2_000_000  # bytes of text: enough to judge a model on
_UNPACKED = 3.0  # packed text takes about a third
_WAIT = 0.5  # seconds


def open_shards(
    settings: recipe.Recipe, folder: Path, processor: TextProcessor | None, log: Log
) -> tuple[Shards, Tokenizer]:
    """The shards of the recipe's text, made where they are not there yet, and their tokenizer.

    What the recipe leaves open of the vocabulary and of the share held out is filled in. With several processes the
    first one makes the shards and the others wait for it.

    Args:
        settings: the recipe, changed in place.
        folder: of the shards.
        processor: whose tokenizer to use; None: the one the recipe names, or a new one.
        log: prints a line for people.

    Raises:
        DataError: the text cannot be read. RunError: the folder or the tokenizer cannot be used.
    """
    words = settings.tasks[0].name == "mlm"
    source = open_source(settings.data, settings.corpus)
    packed = any(file.path.suffix in (".gz", ".zst", ".parquet") for file in source.files)
    size = int(source.size * (_UNPACKED if packed else 1))
    if processor is None and not is_said(settings, "text.vocab_size"):
        settings.text.vocab_size = vocabulary_for(size, settings.model.size)
    if not is_said(settings, "data.split.valid"):
        settings.data.split.valid = round(min(0.1, max(_HELD_OUT / max(size, 1), 0.001)), 4)
    if not parallel.is_first():
        return _wait_for(folder)
    if processor is None:
        tokenizer = get_tokenizer(source, settings, folder, None, words=words, rebuild=False, log=log)
    else:
        tokenizer = processor.tokenizer
        tokenizer.save(folder)
    build_shards(
        source,
        tokenizer.encode_many,
        vocab_size=tokenizer.vocab_size,
        eos_id=tokenizer.eos_id,
        tokenizer_hash=tokenizer.fingerprint,
        folder=folder,
        settings=settings.corpus,
        valid=settings.data.split.valid,
        workers=settings.data.workers,
        log=log,
        seed=settings.seed,
        encode_with_offsets=tokenizer.encode_with_offsets if words else None,
        segment=settings.text.segment,
        normalise=tokenizer.normalise,
    )
    return opened(folder, tokenizer)


def opened(folder: Path, tokenizer: Tokenizer) -> tuple[Shards, Tokenizer]:
    """Shards that are there. Raises what ``Shards.open`` raises."""
    return Shards.open(folder, tokenizer_hash=tokenizer.fingerprint, vocab_size=tokenizer.vocab_size), tokenizer


def saved_shards(folder: Path, settings: recipe.Recipe, tokenizer: Tokenizer) -> Shards | None:
    """The shards that a Run was made from; None where there are none any more, or never were. Raises as ``opened``."""
    place = Path(settings.corpus.cache) if settings.corpus.cache is not None else folder / FOLDER
    return opened(place, tokenizer)[0] if (place / MANIFEST).is_file() else None


def _wait_for(folder: Path) -> tuple[Shards, Tokenizer]:
    while not (folder / MANIFEST).exists() or not Manifest.load(folder).finished:
        time.sleep(_WAIT)
    return opened(folder, Tokenizer.load(folder))


class CorpusBatchBuilder:
    """Deals rows of the training text; a batch is a pure function of the step.

    Args:
        task: lm or mlm.
        shards: an open folder.
        processor: text to ids.
        settings: the recipe (seed, batch size, block, packing).
        share: this process's part of a batch's places, where several processes train together.
    """

    def __init__(
        self,
        task: Lm | Mlm,
        shards: Shards,
        processor: TextProcessor,
        settings: recipe.Recipe,
        *,
        share: Callable[[range], Sequence[int]] = lambda places: places,
    ) -> None:
        self.task, self.processor, self.settings, self.share = task, processor, settings, share
        corpus = settings.corpus
        self.rows = PackedRows(shards, "train", corpus.block, corpus.packing, settings.seed)

    @property
    def steps_per_epoch(self) -> float:
        """Batches in one pass over the text."""
        return len(self.rows) / self.settings.train.batch_size

    @property
    def tokens_per_step(self) -> float:
        """Tokens of a batch that are no padding, over all processes."""
        return self.settings.train.batch_size * self.rows.tokens / len(self.rows)

    def kind(self, progress: float) -> tuple[str, ...]:
        """What of a batch depends on the point of the run: nothing."""
        return (self.task.name,)

    def batch_at(self, step: int, progress: float) -> Batch:
        """This process's share of batch ``step``."""
        size, many = self.settings.train.batch_size, len(self.rows)
        places = self.share(range(step * size, (step + 1) * size))
        return self.assemble([(place // many, place % many) for place in places])

    def split(self, batch: Batch, parts: int) -> list[Batch]:
        """The same batch as ``parts`` smaller ones of equally many rows, for accumulation.

        Raises:
            RecipeError: it cannot be cut equally.
        """
        keys = batch.keys
        if len(keys) % parts:
            expected = f"a batch that divides into {parts} equal parts"
            raise RecipeError("train.accumulate", expected, f"{len(keys)} rows", "lower it")
        size = len(keys) // parts
        return [self.assemble(keys[start : start + size]) for start in range(0, len(keys), size)]

    def assemble(self, keys: list[tuple[int, int]]) -> Batch:
        """The batch of some rows, each named by (epoch, index)."""
        if isinstance(self.task, Lm):
            part = as_part([self.rows.row(*key) for key in keys], inner_mask=self.settings.corpus.inner_mask)
        else:
            part = masked_part([self._hidden(*key) for key in keys])
        return replace(Batch.of_target(self.task.name, part), keys=keys)

    def _hidden(self, epoch: int, index: int) -> tuple[Any, Any]:
        ids, starts, _ = self.rows.row_words(epoch, index)
        rng = np.random.default_rng((self.settings.seed, epoch, index))
        return hide(ids, starts, self.processor.tokenizer, self.settings.corpus.mask, rng)
