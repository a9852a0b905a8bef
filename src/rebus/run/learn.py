"""Train: a recipe and a folder in, a finished Run out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rebus import atomic, recipe
from rebus.errors import RunError
from rebus.models.vlm import VisionLanguageModel
from rebus.run.build import build_model, make_codec, save_codec, save_model, saved_codec
from rebus.run.corpus import FOLDER as SHARDS
from rebus.run.evaluate import Evaluation, Rows, judge, store_for
from rebus.run.folder import Run
from rebus.run.frozen import frozen_features
from rebus.run.predictor import Predictor
from rebus.run.prepare import Prepared, Tell, prepare
from rebus.run.pretrain import Pretraining, assemble_corpus, goes_by_corpus
from rebus.run.start import base_codec, settle_base, start_from
from rebus.run.tune import apply_tuning
from rebus.run.words import start_words
from rebus.run.workers import FeedPool
from rebus.tasks import Codec, Task
from rebus.tasks.feed import Feed, group_rows
from rebus.tasks.writing import WritingTask
from rebus.training import parallel
from rebus.training.loop import FitResult, Plan, fit


@dataclass
class Assembled:
    """Everything a run needs before its first step."""

    prepared: Prepared
    codec: Codec
    model: VisionLanguageModel
    feed: Feed
    predictor: Predictor

    @property
    def recipe(self) -> recipe.Recipe:
        """Resolved."""
        return self.prepared.recipe

    @property
    def tasks(self) -> dict[str, Task]:
        """By name, fitted."""
        return self.prepared.tasks

    @property
    def total_steps(self) -> int | None:
        """Steps of the run; None where a time limit decides."""
        train = self.prepared.recipe.train
        if train.time_limit is not None:
            return None
        if train.steps is not None:
            return train.steps
        return max(1, round((train.epochs or 1.0) * self.feed.steps_per_epoch))

    def rows_of(self, task: Task) -> Rows:
        """The table as a task sees it."""
        store = store_for(self.predictor, self.prepared.table, task)
        return Rows(task, self.prepared.values[task.name], store)

    def memory_mb(self) -> float:
        """An estimate of what batches and decoded pictures take, in MiB."""
        train, side = self.recipe.train, self.recipe.picture.size
        pictures = self.prepared.pictures()
        cached = 0.0
        if pictures is not None:
            cached = min(float(self.recipe.data.cache_mb), len(self.feed.groups) * pictures.size**2 * 3 / 2**20)
        return cached + train.batch_size / train.accumulate * side**2 * 200 / 2**20

    def check(self) -> dict[str, Any]:
        """What was found out about the data, for check.json."""
        return self.prepared.report.as_dict()

    def inference(self) -> dict[str, Any]:
        """What was inferred, for inference.json."""
        return asdict(self.prepared.inference) | {"tasks": []}

    def judge(self) -> tuple[Evaluation, dict[str, Any]]:
        """Figures on the held-out rows; and what else the report says of the run."""
        prepared, found = self.prepared, Evaluation()
        split = "test" if prepared.rows("test") else "valid"
        for task in prepared.tasks.values():
            rows, known = self.rows_of(task), prepared.values[task.name]
            training = prepared.rows("train", task)
            judge(found, self.predictor, rows, prepared.rows(split), known, training, prepared.table)
        counts = {name: prepared.splits.count(name) for name in dict.fromkeys(prepared.splits)}
        return found, {"rows": counts, "judged_on": split}

    def plan(self, batch_at: Callable[[int, float], Any]) -> Plan:
        """What the loop needs to know, as plain callables."""
        prepared, tasks = self.prepared, self.prepared.tasks
        watched = next((task for task in tasks.values() if task.predicts), None)
        rows: list[int] = []
        if watched is not None:
            held_out = prepared.rows("valid") or prepared.rows("test")
            values = prepared.values[watched.name]
            rows = [row for row in held_out if watched.judgeable(values, row)][: prepared.recipe.train.valid_rows]

        def loss_of(model: nn.Module, batch: Any, progress: float) -> tuple[Tensor, dict[str, float | Tensor]]:
            return summed_loss(tasks, model(batch, list(batch["tasks"])), batch)

        def validate(model: nn.Module) -> dict[str, float]:
            assert watched is not None  # noqa: S101 - given to the loop only then
            told = self.rows_of(watched).predict(self.predictor, rows)
            found = watched.quick_score(prepared.values[watched.name], rows, told)
            return {f"{watched.name}/{name}": value for name, value in found.items()}

        def sample(model: nn.Module) -> str:
            assert watched is not None  # noqa: S101
            values, row = prepared.values[watched.name], rows[0]
            told = self.rows_of(watched).predict(self.predictor, [row])[0]
            asked = watched.prompt(values, row) if isinstance(watched, WritingTask) else ""
            return f"{asked} {told.value} (true: {watched.truth(values, row)})".strip()

        return Plan(
            batch_at=batch_at,
            loss_of=loss_of,
            batch_rows=prepared.recipe.train.batch_size,
            total_steps=self.total_steps,
            validate=validate if rows else None,
            watch=f"{watched.name}/{watched.watch}" if watched is not None else "loss",
            higher_is_better=watched.higher_is_better if watched is not None else False,
            sample=sample if rows else None,
            split=self.feed.split,
        )


Ready = Assembled | Pretraining


def make_ready(
    settings: recipe.Recipe, tell: Tell, shards: Path, *, codec: Codec | None = None, base: Path | None = None
) -> Ready:
    """Everything a run needs, by the road of raw text or by that of tables.

    Args:
        settings: the recipe.
        tell: prints a line for people.
        shards: folder for the shards of raw text.
        codec: of a run that goes on.
        base: what to start from, where the recipe does not say it.

    Raises:
        DataError, RecipeError: before any work.
    """
    settings = _with_base(settings, base)
    if goes_by_corpus(settings):
        return assemble_corpus(settings, tell, shards, codec=codec)
    prepared = _prepared(settings, tell, codec)
    found = prepared.recipe
    if settings.tasks or not goes_by_corpus(found):
        return _built(prepared, tell, codec)
    made = settings.model_copy(deep=True)  # a table of nothing but text
    made.tasks = [recipe.TaskSettings(name=found.tasks[0].name)]
    made.corpus.column = made.corpus.column or found.tasks[0].columns["text"]
    return assemble_corpus(made, tell, shards, codec=codec)


def assemble(settings: recipe.Recipe, tell: Tell, *, codec: Codec | None = None, base: Path | None = None) -> Assembled:
    """Read the table, train the tokenizer, build the model, take over weights. Raises what ``prepare`` raises."""
    return _built(_prepared(_with_base(settings, base), tell, codec), tell, codec)


def _with_base(settings: recipe.Recipe, base: Path | None) -> recipe.Recipe:
    return settings if base is None else settings.model_copy(update={"base": str(base)})


def _prepared(settings: recipe.Recipe, tell: Tell, codec: Codec | None) -> Prepared:
    # a run that goes on has its tokenizer, and checkpoints that hold all weights
    return prepare(settle_base(settings, tell) if codec is None else settings, tell)


def _built(prepared: Prepared, tell: Tell, codec: Codec | None) -> Assembled:
    settings, fresh = prepared.recipe, codec is None
    if codec is None:
        codec = base_codec(settings, tell) or make_codec(settings, prepared.texts(), prepared.words())
    for task in prepared.tasks.values():
        for note in task.notes(prepared.values[task.name], prepared.rows("train", task), codec):
            tell(note)
    model = build_model(settings, prepared.tasks, codec)
    start_from(model, settings, codec, settings.base if fresh else None, tell)
    if fresh:
        start_words(model, settings, codec, prepared.texts, tell)
    apply_tuning(model, settings, tell)
    column = prepared.picture_column
    pictures = prepared.table.column(column) if column is not None else None
    # Only tasks that write pack several rows of one picture; without them every row is an example of its own.
    packs = any(isinstance(task, WritingTask) or not task.predicts for task in prepared.tasks.values())
    groups = group_rows(prepared.training_rows(), pictures if packs else None)
    store = prepared.pictures()
    feed = Feed(
        prepared.tasks,
        prepared.values,
        groups,
        store.get if store is not None else None,
        pictures,
        codec,
        settings,
        features=frozen_features(model, settings, groups, store),
        share=parallel.rank_slice,
    )
    return Assembled(prepared, codec, model, feed, Predictor(model, settings, prepared.tasks, codec))


def learn(
    settings: recipe.Recipe,
    folder: Path,
    *,
    resume: bool = False,
    base: Path | None = None,
    tell: Tell = print,
    quiet: bool = False,
    evaluate: bool = True,
) -> Run:
    """Train and leave a Run folder.

    Args:
        settings: the recipe; when resuming, the one that the folder holds.
        folder: the Run folder.
        resume: go on from the last checkpoint.
        base: what to start from, where the recipe does not say it.
        tell: prints a line for people.
        quiet: no live progress.
        evaluate: judge the model on the held-out rows at the end.

    Raises:
        DataError, RecipeError: before any work. RunError: the folder holds another run, is locked or cannot be written.
    """
    run = Run(folder)
    first = parallel.is_first()
    if not resume and run.recipe_path.exists() and first:
        do = f"choose another --out, or go on with: rebus train --resume {folder}"
        raise RunError(folder, "a new or empty folder", "a Run", do)
    started = time.time()
    begun = saved_codec(run) if resume and (folder / "tokenizer.json").exists() else None
    ready = make_ready(settings, tell if first else _silent, folder / SHARDS, codec=begun, base=base)
    settings = ready.recipe
    if first and not resume:
        save_codec(folder, ready.codec)
        run.write_json("check.json", ready.check())
        run.write_json("inference.json", ready.inference())
        atomic.write_text(run.recipe_path, settings.save_text())
    pool = FeedPool(ready.feed, settings.data.workers) if settings.data.workers else None
    try:
        result = fit(
            ready.model,
            ready.plan(pool.batch_at if pool else ready.feed.batch_at),
            settings.train,
            folder,
            seed=settings.seed,
            device="cuda" if torch.cuda.is_available() else "cpu",
            resume=resume,
            quiet=quiet,
        )
    finally:
        if pool:
            pool.close()
    if first and result.stopped_because != "interrupted":
        finish(run, ready, result, time.time() - started, evaluate)
    return run


def finish(run: Run, ready: Ready, result: FitResult, seconds: float, evaluate: bool) -> None:
    """Save the model, then measure it on what was held out."""
    save_model(run.folder, ready.model, ready.recipe, ready.tasks, ready.codec)
    found, facts = ready.judge() if evaluate else (Evaluation(), {})
    trained = {
        "steps": result.steps,
        "seconds": round(result.seconds, 1),
        "seconds_in_all": round(seconds, 1),
        "stopped_because": result.stopped_because,
        "skipped_steps": result.skipped_steps,
        "precision": result.precision,
        "parameters": ready.model.count_parameters(),
        **({"peak_flops": result.peak} if result.peak else {}),
        **facts,
    }
    run.write_json("evaluation.json", found.as_dict() | {"training": trained})


def summed_loss(
    tasks: dict[str, Task], outputs: dict[str, Tensor], batch: dict[str, Any]
) -> tuple[Tensor, dict[str, float | Tensor]]:
    """The weighted sum of the tasks' losses, and each by its name."""
    parts: dict[str, float | Tensor] = {}
    losses = []
    for name, output in outputs.items():
        loss = tasks[name].loss(output, batch["tasks"][name])
        parts[f"loss/{name}"] = loss.detach()
        losses.append(loss * tasks[name].settings.weight)
    return torch.stack(losses).sum(), parts


def _silent(_: str) -> None:
    """For processes other than the first."""
