"""Train: a recipe and a folder in, a finished Run out."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rebus import atomic, recipe
from rebus.checkpoints.fingerprint import (
    fingerprint_of,
    given_files,
    read_fingerprint,
    refuse_data,
    refuse_recipe,
    write_fingerprint,
)
from rebus.checkpoints.run_folder import Run
from rebus.checkpoints.save_load import (
    build_model,
    load_model,
    make_processor,
    save_model,
    save_processor,
    saved_processor,
    start_reader,
)
from rebus.data.duplicates import column_digests
from rebus.data.image_survey import image_digest
from rebus.data.jpeg import decoder
from rebus.data.table import Table
from rebus.errors import DataError, RebusError, RunError
from rebus.evaluation.evaluate import Evaluation, judge
from rebus.evaluation.rows import Rows
from rebus.inference.predictor import Predictor
from rebus.loop import parallel
from rebus.loop.checkpoint import newest_whole
from rebus.loop.events import read_metrics
from rebus.loop.loop import FitResult, Plan, fit
from rebus.loop.progress import clock_time
from rebus.models.modalities.rows import RowInputs
from rebus.models.vlm import VisionLanguageModel
from rebus.resolve.corpus import FOLDER as SHARDS
from rebus.resolve.from_base import base_processor, start_from
from rebus.resolve.from_table import Prepared, prepare
from rebus.resolve.from_towers import refuse_raw_text
from rebus.resolve.known import Log, Start
from rebus.resolve.steps import resolve
from rebus.tasks import Task, TextProcessor
from rebus.tasks.batch_builder import BatchBuilder, group_rows
from rebus.training.feature_cache import frozen_features
from rebus.training.hardware import Meter, machine_facts, starvation
from rebus.training.loader_workers import BatchBuilderPool
from rebus.training.losses import cached_plan, check_batches, summed_loss
from rebus.training.monitors import AnswerWatch, LossWatch, Watchers, overfitting, remarks_of, watches
from rebus.training.pretrain import Pretraining, assemble_corpus, goes_by_corpus
from rebus.training.pretrain_image import ImageWatch
from rebus.training.stages import StageGains, Staging, begin_tuning

SOME = 256  # training rows that watchers look at
LEAST = 60.0  # seconds that predicting the held-out rows may take, whatever the time limit
TRIED = 32  # rows whose prediction says how long all will take
_NOT_CELLS = ("ignore", "image")  # kinds whose cells decide nothing: an image counts by its content


@dataclass
class Assembled:
    """Everything a run needs before its first step; ``folder`` is its Run, once there is one."""

    prepared: Prepared
    processor: TextProcessor
    model: VisionLanguageModel
    builder: BatchBuilder
    predictor: Predictor
    staging: Staging | None = None
    folder: Path | None = None
    answers: AnswerWatch | None = None

    @property
    def recipe(self) -> recipe.Recipe:
        """Resolved."""
        return self.prepared.recipe

    @property
    def table(self) -> Table:
        """The rows."""
        return self.prepared.table

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
        return max(1, round((train.epochs or 1.0) * self.builder.steps_per_epoch))

    def rows_of(self, task: Task) -> Rows:
        """The table as a task sees it."""
        inputs = self.predictor.inputs_of(task, self.prepared.table, cache=self.builder.rows.cache)
        return Rows(task, self.prepared.values[task.name], inputs)

    def memory_mb(self) -> float:
        """An estimate of what batches and decoded images take, in MiB."""
        train, side = self.recipe.train, self.recipe.image.size
        cached = 0.0
        if self.builder.rows.modalities:
            cached = min(float(self.recipe.data.cache_mb), len(self.builder.groups) * side**2 * 3 / 2**20)
        return cached + (train.grad_cache or train.batch_size / train.accumulate) * side**2 * 200 / 2**20

    def check(self) -> dict[str, Any]:
        """What was found out about the data, for check.json."""
        return self.prepared.report.as_dict()

    def inference(self) -> dict[str, Any]:
        """What was inferred, for inference.json."""
        return asdict(self.prepared.inference) | {"tasks": []}

    def content(self) -> dict[str, Any]:
        """What stands for the table's content, for fingerprint.json."""
        table, kinds = self.prepared.table, self.prepared.recipe.data.kinds
        dealt = hashlib.sha256("\n".join(self.prepared.splits).encode()).hexdigest()[:32]
        return {
            "rows": len(table),
            "column": column_digests(table, [name for name, kind in kinds.items() if kind not in _NOT_CELLS]),
            "images in": {name: image_digest(table, name) for name, kind in kinds.items() if kind == "image"},
            "split of the rows": dealt,
        }

    def judge(self, log: Log) -> tuple[Evaluation, dict[str, Any]]:
        """Figures on the held-out rows; and what else the report says of the run.

        With a time limit the rows are so many as can be predicted in a quarter of it, or in ``LEAST`` seconds.
        """
        prepared, result = self.prepared, Evaluation()
        split = "test" if prepared.rows("test") else "valid"
        limit, left_out = self.recipe.train.time_limit, {}
        predicting = [task for task in prepared.tasks.values() if task.predicts]
        for task in prepared.tasks.values():
            rows, known = self.rows_of(task), prepared.values[task.name]
            training, chosen = prepared.rows("train", task), prepared.rows(split)
            if limit is not None and task in predicting:
                of = [row for row in chosen if task.judgeable(known, row)]
                seconds = max(15 * limit, LEAST) / len(predicting)
                chosen = self.rows_in(rows, of, seconds, log)
                if len(chosen) < len(of):
                    left_out[task.name] = len(of)
            judge(result, self.predictor, rows, chosen, known, training, prepared.table, memory=rows)
        counts = {name: prepared.splits.count(name) for name in dict.fromkeys(prepared.splits)}
        facts: dict[str, Any] = {"jpeg": decoder(self.recipe.data.jpeg)} if prepared.image_column is not None else {}
        if left_out:
            facts["judged_of"] = left_out
        return result, {"rows": counts, "judged_on": split, **facts}

    def rows_in(self, source: Rows, rows: list[int], seconds: float, log: Log) -> list[int]:
        """Those of ``rows`` that can be predicted in so many seconds: all of them, or a sample."""
        tried = spread(rows, TRIED)
        start = time.monotonic()
        with suppress(RebusError):  # said where the rows are judged
            source.predict(self.predictor, tried)
        per_row = (time.monotonic() - start) / max(len(tried), 1)
        fitting = max(int(seconds / max(per_row, 1e-9)), TRIED)
        chosen, name = sorted(spread(rows, fitting)), f"task {source.task.name}"
        about = clock_time(per_row * len(chosen))
        if len(chosen) < len(rows):
            log(f"{name}: evaluating on {len(chosen):,} of {len(rows):,} held-out rows, a sample: about {about}")
        elif per_row * len(chosen) > 5:
            log(f"{name}: evaluating on {len(chosen):,} held-out rows: about {about}")
        return chosen

    def plan(self, parts_at: Callable[[int, float], list[Any]]) -> Plan:
        """What the loop needs to know, as plain callables."""
        prepared, tasks = self.prepared, self.prepared.tasks
        watched = next((task for task in tasks.values() if task.predicts), None)
        rows: list[int] = []
        if watched is not None:
            held_out = prepared.rows("valid") or prepared.rows("test")
            values = prepared.values[watched.name]
            rows = spread([row for row in held_out if watched.judgeable(values, row)], prepared.recipe.train.valid_rows)
        looked_at = len(rows)

        images = ImageWatch(watched) if watched is not None and watched.answers == "vector" else None
        losses, gains = self.watch_losses(), self.watch_stages(watched, rows)
        self.answers = None if watched is None or not watches(watched) else self.watch_answers(watched, rows)

        def loss_of(model: nn.Module, batch: Any, progress: float) -> tuple[Tensor, dict[str, float | Tensor]]:
            losses.batch(batch)
            return summed_loss(tasks, model(batch, list(batch.targets)), batch)

        def validate(model: nn.Module) -> dict[str, float]:
            assert watched is not None  # noqa: S101 - given to the loop only then
            some = rows[:looked_at]
            predictions = self.rows_of(watched).predict(self.predictor, some)
            if images is not None:
                images.note(prepared.values[watched.name], some, predictions)
            if gains is not None:
                gains.told = predictions
            result = watched.quick_score(prepared.values[watched.name], some, predictions)
            return {f"{watched.name}/{name}": value for name, value in result.items()}

        def shorten(count: int) -> None:
            nonlocal looked_at
            looked_at = count
            if self.answers is not None:
                self.answers.most = min(self.answers.most, max(count // 4, 1))

        def sample(model: nn.Module) -> str:
            assert watched is not None  # noqa: S101
            if images is not None:
                return images.sample()
            values, row = prepared.values[watched.name], rows[0]
            predictions = self.rows_of(watched).predict(self.predictor, [row])[0]
            asked = watched.prompt(values, row)
            return f"{asked} {predictions.value} (true: {watched.truth(values, row)})".strip()

        return Plan(
            parts_at=parts_at,
            loss_of=loss_of,
            batch_rows=prepared.recipe.train.batch_size,
            total_steps=self.total_steps,
            validate=validate if rows else None,
            valid_rows=len(rows),
            shorten=shorten,
            watch=f"{watched.name}/{watched.watch}" if watched is not None else "loss",
            higher_is_better=watched.higher_is_better if watched is not None else False,
            chooses=bool(prepared.rows("valid")),
            sample=sample if rows else None,
            cached=cached_plan(tasks, prepared.recipe.train),
            stages=self.staging.plan() if self.staging is not None else None,
            observer=Watchers(item for item in (losses, self.answers, images) if item is not None),
        )

    def watch_losses(self) -> LossWatch:
        """What looks at losses; it knows those from before where the run goes on."""
        watch = LossWatch(self.tasks, self.prepared.values, self.prepared.training_rows()[:SOME])
        if self.folder is not None:
            watch.recall(read_metrics(self.folder))
        return watch

    def watch_stages(self, task: Task | None, rows: list[int]) -> StageGains | None:
        """What keeps count of what each stage gains; None where there is nothing to count."""
        if self.staging is None or self.folder is None or task is None or not rows:
            return None
        stages, log = self.recipe.train.stages, self.staging.log
        self.staging.gains = StageGains(self.folder, task, self.prepared.values[task.name], rows, stages, log)
        return self.staging.gains

    def watch_answers(self, task: Task, rows: list[int]) -> AnswerWatch:
        """What looks at the answers to validation rows."""
        source, values, model = self.rows_of(task), self.prepared.values[task.name], self.predictor
        training = self.prepared.rows("train", task)
        return AnswerWatch(
            task, values, rows, training, lambda rows, inputs: model.run_task(task, values, rows, inputs), source.inputs
        )

    def ended(self, step: int, log: Log) -> dict[str, Any]:
        """What a finished run has to tell of its course, for evaluation.json; what is wrong at its end is printed."""
        result: dict[str, Any] = {}
        if self.staging is not None and self.staging.gains is not None:
            result["stages"] = self.staging.gains.found()
        records = read_metrics(self.folder) if self.folder is not None else []
        now = self.answers.look() if self.answers is not None else []
        if self.staging is not None:
            now += self.staging.unreached()
        if (remark := overfitting(records)) is not None:
            now.append(remark)
        for _, text in now:
            log(text)
        remarks = remarks_of(records, now, self.answers is not None, step)
        return result | ({"remarks": remarks} if remarks else {})


def spread(rows: list[int], most: int) -> list[int]:
    """At most so many rows in an order drawn once, so that any first few of them are a sample of all."""
    return [rows[place] for place in np.random.default_rng(0).permutation(len(rows))[:most]]


Ready = Assembled | Pretraining


def make_ready(
    settings: recipe.Recipe, log: Log, shards: Path, *, processor: TextProcessor | None = None, base: Path | None = None
) -> Ready:
    """Everything a run needs, by the road of raw text or by that of tables.

    Args:
        settings: the recipe.
        log: prints a line for people.
        shards: folder for the shards of raw text.
        processor: of a run that goes on.
        base: what to start from, where the recipe does not say it.

    Raises:
        DataError, RecipeError: before any work.
    """
    settings = _with_base(settings, base)
    if goes_by_corpus(settings):
        refuse_raw_text(settings)
        return assemble_corpus(settings, log, shards, processor=processor)
    prepared = _prepared(settings, log, processor)
    result = prepared.recipe
    if settings.tasks or not goes_by_corpus(result):
        return _built(prepared, log, processor)
    refuse_raw_text(settings)
    task = result.tasks[0]  # a table of nothing but text
    changes = {"tasks": [recipe.TaskSettings(name=task.name)], "corpus.column": task.columns["text"]}
    if settings.corpus.column:
        changes["corpus.column"] = settings.corpus.column
    return assemble_corpus(settings.replace(changes), log, shards, processor=processor)


def assemble(
    settings: recipe.Recipe, log: Log, *, processor: TextProcessor | None = None, base: Path | None = None
) -> Assembled:
    """Read the table, train the tokenizer, build the model, take over weights. Raises what ``prepare`` raises."""
    return _built(_prepared(_with_base(settings, base), log, processor), log, processor)


def assemble_prepared(prepared: Prepared, log: Log) -> Assembled:
    """The rest of ``assemble``, for a table that has been met already."""
    return _built(prepared, log, None)


def _with_base(settings: recipe.Recipe, base: Path | None) -> recipe.Recipe:
    return settings if base is None else settings.replace(base=str(base))


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _prepared(settings: recipe.Recipe, log: Log, processor: TextProcessor | None) -> Prepared:
    return prepare(resolve(settings, Start(resumed=processor is not None), log), log)


def _built(prepared: Prepared, log: Log, processor: TextProcessor | None) -> Assembled:
    settings, fresh = prepared.recipe, processor is None
    check_batches(settings.train, prepared.tasks)
    if processor is None:
        processor = base_processor(settings, log) or make_processor(settings, prepared.texts(), prepared.words())
    states = {name: modality.state() for name, modality in processor.modalities.items()}
    processor = replace(processor, modalities=prepared.modalities(None if fresh else states))
    for task in prepared.tasks.values():
        for note in task.notes(prepared.values[task.name], prepared.rows("train", task), processor):
            log(note)
    model = build_model(settings, prepared.tasks, processor)
    start_from(model, settings, processor, settings.base if fresh else None, log, fresh=fresh)
    if fresh:
        start_reader(model, settings, processor, prepared.texts, log)
    settings, staging = begin_tuning(model, settings, log)
    prepared = replace(prepared, recipe=settings)
    still = None if staging is None else staging.still
    rows = prepared.inputs(processor.modalities)
    _refuse_several(prepared, rows, model)
    # Only tasks that write pack several rows of one example; without them every row is an example of its own.
    packs = any(task.writes or not task.explains or task.packs or not task.predicts for task in prepared.tasks.values())
    groups = group_rows(prepared.training_rows(), prepared.keys(rows) if packs else None)
    builder = BatchBuilder(
        prepared.tasks,
        prepared.values,
        groups,
        rows,
        processor,
        settings,
        features=frozen_features(model, settings, groups, rows, still=None if still is None else still > 0),
        still=math.inf if still is None else still,
        share=parallel.rank_slice,
    )
    return Assembled(
        prepared, processor, model, builder, Predictor(model, settings, prepared.tasks, processor), staging
    )


class Trained(Run):
    """A Run that was trained just now: what is in memory need not be read again.

    Attributes:
        predictor: its model; None where training was interrupted, and in all processes but the first.
        table: its table; None also where it was made from raw text.
    """

    predictor: Predictor | None = None
    table: Table | None = None


def _refuse_several(prepared: Prepared, rows: RowInputs, model: VisionLanguageModel) -> None:
    """Refuse rows of several items where each has one place: inside a text, or in a grid that is told apart.

    Raises:
        DataError: a training row has several items.
    """
    grids = [name for name in prepared.tasks if model.head(name).per == "item"]
    if model.inline is None and not grids:
        return
    for name in rows.modalities:
        for row in prepared.training_rows():
            if (count := rows.count(name, row)) > 1:
                reader = f"the task '{grids[0]}'" if grids else "model.fusion.layout=inline"
                where, do = prepared.table.where(row), "split the row, or choose another layout or task"
                raise DataError(where, f"one {name} a row, with {reader}", f"{count} of them", do)


def learn(
    settings: recipe.Recipe,
    folder: Path,
    *,
    resume: bool = False,
    base: Path | None = None,
    log: Log = print,
    quiet: bool = False,
    evaluate: bool = True,
    accept_changes: bool = False,
) -> Trained:
    """Train and leave a Run folder, which is locked from the first byte to the last.

    Args:
        settings: the recipe; when resuming, the one that the folder holds.
        folder: the Run folder.
        resume: go on from the last checkpoint that is whole; a run whose model is saved is judged.
        base: what to start from, where the recipe does not say it.
        log: prints a line for people.
        quiet: no live progress.
        evaluate: judge the model on the held-out rows at the end.
        accept_changes: go on although the recipe or the data are not those that the run was begun with.

    Raises:
        DataError, RecipeError: before any work. RunError: the folder holds another run, is locked or cannot be written;
            what the run was begun with has changed.
    """
    run, first = Trained(folder), parallel.is_first()
    if not first:
        _learn(settings, run, resume, base, _silent, quiet, evaluate, accept_changes)
        return run
    with run.writing(wait=0.0):
        if not resume and run.recipe_path.exists():
            do = f"choose another --out, or go on with: rebus train --resume {folder}"
            raise RunError(folder, "a new or empty folder", "a Run", do)
        _learn(settings, run, resume, base, log, quiet, evaluate, accept_changes)
    return run


def _learn(
    settings: recipe.Recipe,
    run: Trained,
    resume: bool,
    base: Path | None,
    log: Log,
    quiet: bool,
    evaluate: bool,
    accept_changes: bool,
) -> None:
    started, folder, first = time.time(), run.folder, parallel.is_first()
    kept = read_fingerprint(folder) if resume else None
    if kept is not None and not accept_changes:
        refuse_recipe(folder, kept, settings)
    begun = saved_processor(run) if resume and _goes_on(run, log) else None
    ready = make_ready(settings, log, folder / SHARDS, processor=begun, base=base)
    settings = ready.recipe
    if isinstance(ready, Assembled):
        ready.folder = folder
    if first:
        content = ready.content() | ({} if begun is not None else {"file of": given_files(settings)})
        if kept is not None and not accept_changes:
            refuse_data(folder, kept, content)
        if kept is None and resume:
            _compare_earlier(run, ready, log)
        if resume and not accept_changes and settings.data.path != run.recipe.data.path:
            atomic.write_text(run.recipe_path, settings.save_text())  # the data lies elsewhere now
        if not resume or accept_changes:
            save_processor(folder, ready.processor)
            run.write_json("check.json", ready.check())
            run.write_json("inference.json", ready.inference())
            write_fingerprint(folder, fingerprint_of(settings, content))
            atomic.write_text(run.recipe_path, settings.save_text())
    result, used = _saved_result(run, ready, log) if resume and run.saved else None, None
    if result is None:
        result, used = _fitted(ready, folder, resume, quiet)
        if first and result.stopped_because != "interrupted":
            save_model(folder, ready.model, ready.recipe, ready.tasks, ready.processor)
    if first and result.stopped_because != "interrupted":
        reading = time.time() - started - result.session
        finish(run, ready, result, (started, reading), evaluate, log, used)
        run.predictor = Predictor(ready.model.eval(), settings, ready.tasks, ready.processor, settled=True)
        run.predictor.folder, run.table = folder, ready.table


def _compare_earlier(run: Run, ready: Ready, log: Log) -> None:
    """Of a Run that an earlier version began, only the digest of the whole table is known."""
    if isinstance(ready, Assembled) and (run.folder / "check.json").exists():
        before, now = run.read_json("check.json").get("fingerprint"), ready.prepared.report.fingerprint
        if before and before != now:
            log("the table is not the one that this run was begun with, or is read differently by this version")


def _fitted(ready: Ready, folder: Path, resume: bool, quiet: bool) -> tuple[FitResult, dict[str, Any]]:
    """Train; what came of it, and what a Meter read of the training."""
    settings = ready.recipe
    pool = BatchBuilderPool(ready.builder, settings.data.workers) if settings.data.workers else None
    meter = Meter()
    try:
        result = fit(
            ready.model,
            ready.plan(pool.parts_at if pool else ready.builder.parts_at),
            settings.train,
            folder,
            seed=settings.seed,
            device=_device(),
            resume=resume,
            quiet=quiet,
        )
    finally:
        if pool:
            pool.close()
        used = meter.read()
    return result, used


def _goes_on(run: Run, log: Log) -> bool:
    """Whether there is something to go on from; if not, a run takes weights over again from where it began."""
    if not (run.folder / "tokenizer.json").exists():
        return False
    settings = run.recipe
    takes = settings.base or settings.model.image.weights or settings.model.text.weights
    if takes is None or run.saved or newest_whole(run.folder, log) is not None:
        return True
    log(f"no checkpoint is whole: weights are taken over again from {takes}")
    return False


def _saved_result(run: Run, ready: Ready, log: Log) -> FitResult | None:
    """What came of a training whose model is saved but whose checkpoints are gone; None where they are there.

    The saved model then takes the place of the trained one.
    """
    if newest_whole(run.folder, log) is not None:
        return None
    log("no checkpoint is left: the saved model is judged as it is")
    model, *_ = load_model(run)
    ready.model = ready.predictor.model = model
    records = read_metrics(run.folder)
    return FitResult(
        steps=max((record["step"] for record in records), default=0),
        seconds=max((record.get("seconds", 0.0) for record in records), default=0.0),
        best=None,
        history=[],
        stopped_because="finished",
        skipped_steps=[
            {"step": item["step"] - 1, "reason": item["reason"]} for item in records if item["kind"] == "skip"
        ],
        precision="bf16" if ready.recipe.train.precision == "bf16" else "fp32",
    )


def finish(
    run: Run,
    ready: Ready,
    result: FitResult,
    times: tuple[float, float],
    evaluate: bool,
    log: Log,
    used: Mapping[str, Any] | None = None,
) -> None:
    """Measure the saved model on what was held out.

    Args:
        run: where to.
        ready: what was trained.
        result: how that went.
        times: when the run began, and seconds of reading and preparing.
        evaluate: whether to measure it.
        log: prints a line for people.
        used: what a Meter read of the training.
    """
    started, reading = times
    start = time.time()
    matches, facts = ready.judge(log) if evaluate else (Evaluation(), {})
    limit = ready.recipe.train.time_limit
    trained = {
        "steps": result.steps,
        "seconds": round(result.seconds, 1),
        **({"time_limit": 60 * limit} if limit is not None else {}),
        "validating": round(result.validating, 1),
        "saving": round(result.saving, 1),
        "reading": round(reading, 1),
        "judging": round(time.time() - start, 1),
        "seconds_in_all": round(time.time() - started, 1),
        "stopped_because": result.stopped_because,
        "weights_step": result.weights_step,
        "valid_rows": result.valid_rows,
        **({"best": result.best} if result.best is not None else {}),
        "skipped_steps": result.skipped_steps,
        "precision": result.precision,
        "parameters": ready.model.count_parameters(),
        **({"peak_flops": result.peak} if result.peak else {}),
        "processes": parallel.world(),
        "machine": machine_facts(),
        **(used or {}),
        **facts,
    }
    message = ready.ended(result.steps, log) if evaluate and isinstance(ready, Assembled) else {}
    if (starved := starvation(trained)) is not None:
        log(starved)
    run.write_json("evaluation.json", matches.as_dict() | {"training": trained} | message)


def _silent(_: str) -> None:
    """For processes other than the first."""
