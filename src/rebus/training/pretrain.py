"""A language model from raw text: what a run needs, what the loop is told, how the result is judged.

The road: text, tokenizer, shards, rows, then the same loop, Run folder and report as any other task. It serves ``lm``
and ``mlm`` as the only task; beside other tasks they read a column of a table, as all tasks do
(``rebus.training.train``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rebus import recipe
from rebus.catalogue import Note
from rebus.checkpoints.save_load import build_model, processor_of
from rebus.data.corpus import Documents, Shards, looks_like_corpus
from rebus.evaluation.evaluate import Evaluation
from rebus.evaluation.held_out import held_out, judge_held_out, spread
from rebus.inference.predictor import Predictor
from rebus.loop import parallel
from rebus.loop.loop import Plan
from rebus.loop.probe import measure_peak, native_precision
from rebus.models.layout import IGNORED
from rebus.models.vlm import VisionLanguageModel
from rebus.resolve.corpus import TASKS, CorpusBatchBuilder, make_shards, open_text, opened
from rebus.resolve.from_base import base_processor, start_from
from rebus.resolve.known import Built, Log, RawText, Speed, Start, Tokens
from rebus.resolve.scaling import flops_a_token
from rebus.resolve.steps import resolve
from rebus.resolve.tune import apply_tuning, settle_rates
from rebus.tasks import Lm, Mlm, TextProcessor
from rebus.tasks.lm import as_part
from rebus.tasks.metrics.likelihood import Cost
from rebus.tasks.mlm import foreseen, hide, masked_part

SHARE = 0.4  # of what a large product reaches, in a training step: for the plan of a run with a time limit
NOMINAL = 2e14 if torch.cuda.is_available() else 1e11  # FLOP/s of one of several processes


def goes_by_corpus(settings: recipe.Recipe) -> bool:
    """Whether a recipe is for raw text: it names lm or mlm alone, or no task and text files.

    A table whose rows have said splits or groups, or a model with an image tower, goes by the road of tables.
    """
    names = [entry.name for entry in settings.tasks]
    split, model = settings.data.split, settings.model
    if split.column is not None or split.group is not None or model.image.kind not in ("auto", "none"):
        return False
    if not names:
        return bool(settings.data.path) and looks_like_corpus(settings.data.path)
    return len(names) == 1 and names[0] in TASKS


@dataclass
class Pretraining:
    """Everything a run on raw text needs before its first step."""

    recipe: recipe.Recipe
    task: Lm | Mlm
    shards: Shards
    processor: TextProcessor
    model: VisionLanguageModel
    builder: CorpusBatchBuilder
    predictor: Predictor
    notes: list[str] = field(default_factory=list)
    table: None = None  # raw text

    @property
    def tasks(self) -> dict[str, Any]:
        """The one task."""
        return {self.task.name: self.task}

    @property
    def total_steps(self) -> int | None:
        """Steps of the run; None where a time limit decides."""
        train = self.recipe.train
        if train.time_limit is not None:
            return None
        return train.steps or max(1, round((train.epochs or 1.0) * self.builder.steps_per_epoch))

    def memory_mb(self) -> float:
        """An estimate of what a batch takes, in MiB."""
        train, tower = self.recipe.train, self.recipe.model.text
        tokens = train.batch_size / train.accumulate * self.recipe.corpus.block
        return tokens * (60 * tower.width * tower.depth + 10 * self.processor.tokenizer.vocab_size) / 2**20

    def check(self) -> dict[str, Any]:
        """What was found out about the text, for check.json."""
        manifest = self.shards.manifest
        splits = {
            name: {"documents": n.documents, "tokens": n.tokens, "bytes": n.bytes}
            for name, n in manifest.splits.items()
        }
        rows = sum(counts.documents for counts in manifest.splits.values())
        return {"rows": rows, "splits": splits, "cleaning": manifest.cleaning, "waste": self.builder.rows.waste}

    def inference(self) -> dict[str, Any]:
        """What was decided, for inference.json."""
        return {"kinds": {}, "tasks": [], "notes": self.notes}

    def content(self) -> dict[str, Any]:
        """What stands for the text's content, for fingerprint.json: what the shards were made from, and their sizes."""
        manifest = self.shards.manifest
        return {"shards": manifest.made_from | {name: asdict(counts) for name, counts in manifest.splits.items()}}

    def plan(self, parts_at: Callable[[int, float], list[Any]]) -> Plan:
        """What the loop needs to know, as plain callables."""
        task, tower = self.task, self.recipe.model.text
        rows = _validation_rows(self)
        parts = _validation_parts(self, rows)

        def loss_of(model: nn.Module, batch: Any, progress: float) -> tuple[Tensor, dict[str, float | Tensor]]:
            loss = task.loss(model(batch, [task.name])[task.name], batch.targets[task.name])
            return loss, {f"loss/{task.name}": loss.detach()}

        def validate(model: nn.Module) -> dict[str, float]:
            return {f"{task.name}/{name}": value for name, value in _figures(self, model, parts).items()}

        def shorten(count: int) -> None:
            parts[:] = _validation_parts(self, rows[:count])

        weights = self.model.count_parameters()
        return Plan(
            parts_at=parts_at,
            loss_of=loss_of,
            batch_rows=self.builder.tokens_per_step,
            unit="tokens",
            work=flops_a_token(weights, tower.depth, tower.width, self.recipe.corpus.block),
            total_steps=self.total_steps,
            validate=validate if parts else None,
            valid_rows=len(rows),
            shorten=shorten,
            watch=f"{task.name}/{task.watch}",
            higher_is_better=task.higher_is_better,
            chooses="valid" in self.shards.splits,
            sample=lambda model: sample_of(self),
        )

    def judge(self, log: Log) -> tuple[Evaluation, dict[str, Any]]:
        """Figures on held-out text beside the baseline's; and what else the report says of the run."""
        evaluation = Evaluation()
        score, facts = judge_held_out(self.predictor, self.task, self.shards)
        if score is not None:
            evaluation.rows[self.task.name], evaluation.tasks[self.task.name] = facts["judged"]["documents"], score
        return evaluation, {"text": self.check()["splits"], **facts}


def assemble_corpus(
    settings: recipe.Recipe,
    log: Log,
    folder: Path,
    *,
    processor: TextProcessor | None = None,
    speed: Speed | None = None,
) -> Pretraining:
    """Read the text, train the tokenizer, make shards, turn the dial, build the model, take over weights.

    Args:
        settings: the recipe.
        log: prints a line for people.
        folder: of the shards, where ``corpus.cache`` names none.
        processor: of a run that goes on; its shards are there and its recipe is complete.
        speed: FLOPs a token -> tokens a second; None: measured where it is needed.

    Raises:
        DataError, RecipeError: before any work. RunError: the shards or the tokenizer cannot be used.
    """
    resumed = processor is not None
    settings = resolve(settings, Start(resumed), log)
    settings = settings.replace({"data.path": str(Path(settings.data.path).resolve())})
    notes: list[str] = []

    def note(line: str) -> None:
        notes.append(line)
        log(line)

    place = Path(settings.corpus.cache) if settings.corpus.cache is not None else folder
    if processor is not None:
        settings = resolve(settings, RawText(), note)
        shards, tokenizer = opened(place, processor.tokenizer)
    else:
        processor = base_processor(settings, log)
        source, size = open_text(settings)
        settings = resolve(settings, RawText(size, tokenizer=processor is not None), note)
        shards, tokenizer = make_shards(source, settings, place, processor, note)
        speed = speed or (measured_speed() if settings.train.time_limit is not None and settings.base is None else None)
        tokens = Tokens(shards.documents("train").tokens, tokenizer.vocab_size, speed)
        settings = resolve(settings, tokens, note)
    entry = settings.tasks[0]
    task = TASKS[entry.name](entry)
    processor = processor_of(settings, tokenizer, None)
    model = build_model(settings, {task.name: task}, processor)
    start_from(model, settings, processor, None if resumed else settings.base, log)
    settings = apply_tuning(model, settle_rates(settings, Built(model), log), log)
    builder = CorpusBatchBuilder(task, shards, processor, settings, share=parallel.rank_slice)
    if not resumed:
        rows = builder.rows
        note(Note("inference.rows", rows=len(rows), block=settings.corpus.block, waste=rows.waste))
    predictor = Predictor(model, settings, {task.name: task}, processor)
    return Pretraining(settings, task, shards, processor, model, builder, predictor, notes)


def measured_speed() -> Speed:
    """Tokens a second of a training step on this machine, from a short product.

    With several processes a round number instead: each would measure another, and they must agree.
    """
    if parallel.world() > 1:
        return lambda flops: SHARE * NOMINAL * parallel.world() / flops
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    peak = measure_peak(device, native_precision(device))
    return lambda flops: SHARE * peak / flops


def sample_of(run: Pretraining) -> str:
    """What the model writes from nothing; of a masked model, a held-out text with its guesses beside the truth."""
    documents = held_out(run.shards) or run.shards.documents("train")
    text = run.processor.tokenizer.decode(documents[0][:-1].tolist())[:200]
    return run.task.sample(run.model, run.processor, text)


def _validation_rows(run: Pretraining) -> list[tuple[Any, Any]]:
    """Rows of held-out documents for watching a run: at most ``train.valid_rows``, spread over all, in drawn order."""
    documents = run.shards.documents("valid") if "valid" in run.shards.splits else held_out(run.shards)
    if documents is None:
        return []
    block, most = run.recipe.corpus.block, run.recipe.train.valid_rows
    rows = list(islice(_rows_of(documents, block, spread(documents, most * block)), most))
    return [rows[place] for place in np.random.default_rng(0).permutation(len(rows))]


def _validation_parts(run: Pretraining, rows: list[tuple[Any, Any]]) -> list[dict[str, Tensor]]:
    """These rows as parts of batches."""
    tokenizer, starts = run.processor.tokenizer, range(0, len(rows), 16)
    if run.task.hides_words:
        mask = run.recipe.corpus.mask
        hidden = [
            hide(ids[1:], words, tokenizer, mask, np.random.default_rng((0, number)))
            for number, (ids, words) in enumerate(rows)
        ]
        return [masked_part(hidden[at : at + 16]) for at in starts]
    parts = [[(ids, np.zeros(len(ids) - 1, dtype=np.int64)) for ids, _ in rows[at : at + 16]] for at in starts]
    items = [as_part(part, inner_mask=False) for part in parts]
    for part in items:
        part["labels"][part["labels"] == tokenizer.eos_id] = IGNORED  # the ends of texts are not counted
    return items


def _rows_of(documents: Documents, block: int, chosen: Sequence[int]) -> Iterator[tuple[Any, Any]]:
    """Documents in rows: ids (n + 1,), the token before a row first; whether a word starts at each of the last n."""
    for place in chosen:
        start, length = int(documents.starts[place]), int(documents.lengths[place])
        for at in range(start, start + length, block):
            stop = min(at + block, start + length)
            before = documents.ids(at - 1, at) if at > start else np.array([documents.eos_id], dtype=np.int64)
            starts = documents.word_starts(at, stop) if documents.has_words else np.ones(stop - at, dtype=bool)
            yield np.concatenate([before, documents.ids(at, stop)]), starts


def _figures(run: Pretraining, model: nn.Module, parts: list[dict[str, Tensor]]) -> dict[str, float]:
    lines = [foreseen(model, run.task.name, part) for part in parts]
    nats, right = sum(float(cost.sum()) for cost, _ in lines), sum(int(first.sum()) for _, first in lines)
    tokens = sum(len(cost) for cost, _ in lines)
    if run.task.hides_words:
        costs = [Cost(nats, tokens, 0, right)]
    else:
        labels = torch.cat([part["labels"][part["labels"] != IGNORED] for part in parts])
        costs = [Cost(nats, tokens, len(run.processor.tokenizer.decode(labels.tolist()).encode()))]
    item = np.ones((1, 1))
    return {name: float(figure(item)[0]) for name, figure in run.task.figures(costs).items()}
