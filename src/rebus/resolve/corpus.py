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
from rebus.catalogue import Note
from rebus.data.corpus import CorpusSource, Manifest, PackedRows, Shards, open_source
from rebus.data.corpus.manifest import FILE as MANIFEST
from rebus.data.corpus.prepare import get_tokenizer, write_shards
from rebus.errors import RecipeError
from rebus.loop import parallel
from rebus.models.batch import Batch
from rebus.resolve.known import Log, RawText
from rebus.tasks import Lm, Mlm, TextProcessor
from rebus.tasks.batch_builder import equal_parts
from rebus.tasks.cells import pad_to
from rebus.tasks.lm import as_part
from rebus.tasks.mlm import hide, masked_part
from rebus.text.tokenizer import Tokenizer

TASKS: dict[str, type[Lm] | type[Mlm]] = {"lm": Lm, "mlm": Mlm}
FOLDER = "shards"
_UNPACKED = 3.0  # packed text takes about a third
_WAIT = 0.5  # seconds


def settle_task(settings: recipe.Recipe, _: RawText, log: Log) -> recipe.Recipe:
    """A language model, where no task is named."""
    if settings.tasks:
        return settings
    log(Note("inference.lm"))
    return settings.replace(tasks=[recipe.TaskSettings(name="lm")])


def settle_towers(settings: recipe.Recipe, _: RawText, log: Log) -> recipe.Recipe:
    """One text tower, which reads whole rows. Raises RecipeError where the recipe or its base has another one."""
    name, block = settings.tasks[0].name, settings.corpus.block
    wanted, kind, context = TASKS[name].tower or "decoder", settings.model.text.kind, settings.model.text.context
    if kind not in ("auto", wanted):
        raise RecipeError("model.text.kind", f"{wanted}, for the task '{name}'", f"'{kind}'", "leave it out")
    settings = settings.replace({"model.image.kind": "none", "model.fusion.kind": "none", "model.text.kind": wanted})
    if settings.base is None:
        context = context or pad_to(block)
        return settings.replace({"model.text.context": context, "text.max_length": context})
    if context is not None and block > context:
        do = f"set corpus.block to at most {context}"
        raise RecipeError("corpus.block", f"rows that fit the base's {context} positions", str(block), do)
    return settings


def open_text(settings: recipe.Recipe) -> tuple[CorpusSource, int]:
    """The recipe's text and about how many bytes it holds. Raises DataError where it cannot be read."""
    source = open_source(settings.data, settings.corpus)
    packed = any(file.path.suffix in (".gz", ".zst", ".parquet") for file in source.files)
    return source, int(source.size * (_UNPACKED if packed else 1))


def make_shards(
    source: CorpusSource, settings: recipe.Recipe, folder: Path, processor: TextProcessor | None, log: Log
) -> tuple[Shards, Tokenizer]:
    """The shards of a text, made where they are not there yet, and their tokenizer.

    With several processes the first one makes the shards and the others wait for it.

    Args:
        source: the text.
        settings: the recipe.
        folder: of the shards.
        processor: whose tokenizer to use; None: the one the recipe names, or a new one.
        log: prints a line for people.

    Raises:
        DataError: the text cannot be read. RunError: the folder or the tokenizer cannot be used.
    """
    words = TASKS[settings.tasks[0].name].hides_words
    if not parallel.is_first():
        return _wait_for(folder)
    if processor is None:
        tokenizer = get_tokenizer(source, settings, folder, None, words=words, rebuild=False, log=log)
    else:
        tokenizer = processor.tokenizer
        tokenizer.save(folder)
    write_shards(source, settings, folder, tokenizer, words=words, log=log)
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

    def parts_at(self, step: int, progress: float) -> list[Batch]:
        """This process's share of batch ``step``, in equal parts. Raises RecipeError: it cannot be cut equally."""
        size, many = self.settings.train.batch_size, len(self.rows)
        places = self.share(range(step * size, (step + 1) * size))
        portions = equal_parts(places, self.settings.train)
        return [self.assemble([(place // many, place % many) for place in portion]) for portion in portions]

    def assemble(self, keys: list[tuple[int, int]]) -> Batch:
        """The batch of some rows, each named by (epoch, index)."""
        if not self.task.hides_words:
            part = as_part([self.rows.row(*key) for key in keys], inner_mask=self.settings.corpus.inner_mask)
        else:
            part = masked_part([self._hidden(*key) for key in keys])
        return replace(Batch.of_target(self.task.name, part), keys=keys)

    def _hidden(self, epoch: int, index: int) -> tuple[Any, Any]:
        ids, starts, _ = self.rows.row_words(epoch, index)
        rng = np.random.default_rng((self.settings.seed, epoch, index))
        return hide(ids, starts, self.processor.tokenizer, self.settings.corpus.mask, rng)
