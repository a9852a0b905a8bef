"""Train: a recipe and a folder in, a finished Run out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rebus import atomic, recipe
from rebus.errors import RunError
from rebus.models.vlm import VisionLanguageModel
from rebus.run.build import build_model, load_model, make_codec, save_model
from rebus.run.evaluate import score_rows
from rebus.run.folder import Run
from rebus.run.predictor import Predictor
from rebus.run.prepare import Prepared, prepare
from rebus.tasks import Codec, Task
from rebus.tasks.feed import Feed, group_rows
from rebus.tasks.writing import WritingTask
from rebus.training import parallel
from rebus.training.loop import FitResult, Plan, fit

Tell = Callable[[str], None]


@dataclass
class Assembled:
    """Everything a run needs before its first step."""

    prepared: Prepared
    codec: Codec
    model: VisionLanguageModel
    feed: Feed
    predictor: Predictor

    @property
    def total_steps(self) -> int | None:
        """Steps of the run; None where a time limit decides."""
        train = self.prepared.recipe.train
        if train.time_limit is not None:
            return None
        if train.steps is not None:
            return train.steps
        return max(1, round((train.epochs or 1.0) * self.feed.steps_per_epoch))


def assemble(settings: recipe.Recipe, tell: Tell, *, codec: Codec | None = None) -> Assembled:
    """Read the data, train the tokenizer, build the model. Raises what ``prepare`` raises."""
    prepared = prepare(settings, tell)
    settings = prepared.recipe
    codec = codec or make_codec(settings, prepared.texts())
    model = build_model(settings, prepared.tasks, codec)
    store = prepared.pictures()
    column = prepared.picture_column
    pictures = prepared.table.column(column) if column is not None else None
    # Only tasks that write pack several rows of one picture; without them every row is an example of its own.
    packs = any(isinstance(task, WritingTask) or task.name == "patches" for task in prepared.tasks.values())
    groups = group_rows(prepared.training_rows(), pictures if packs else None)
    feed = Feed(
        prepared.tasks,
        prepared.values,
        groups,
        store.get if store is not None else None,
        pictures,
        codec,
        settings,
        rank=parallel.rank(),
        world=parallel.world(),
    )
    return Assembled(prepared, codec, model, feed, Predictor(model, settings, prepared.tasks, codec))


def learn(
    settings: recipe.Recipe, folder: Path, *, resume: bool = False, tell: Tell = print, quiet: bool = False
) -> Run:
    """Train and leave a Run folder.

    Args:
        settings: the recipe; when resuming, the one that the folder holds.
        folder: the Run folder.
        resume: go on from the last checkpoint.
        tell: prints a line for people.
        quiet: no live progress.

    Raises:
        DataError, RecipeError: before any work. RunError: the folder holds another run, is locked or cannot be written.
    """
    run = Run(folder)
    first = parallel.is_first()
    if not resume and run.recipe_path.exists():
        raise RunError(
            folder,
            "a new or empty folder",
            "a Run",
            f"choose another --out, or go on with: rebus train --resume {folder}",
        )
    started = time.time()
    ready = assemble(settings, tell if first else silent, codec=saved_codec(run) if resume else None)
    settings = ready.prepared.recipe
    if first:
        folder.mkdir(parents=True, exist_ok=True)
        if not resume:
            ready.codec.tokenizer.save(folder)
            run.write_json("check.json", ready.prepared.report.as_dict())
            atomic.write_text(run.recipe_path, settings.save_text())
    result = fit(
        ready.model,
        plan_of(ready, tell),
        settings.train,
        folder,
        seed=settings.seed,
        device="cuda" if torch.cuda.is_available() else "cpu",
        resume=resume,
        quiet=quiet,
    )
    if first:
        finish(run, ready, result, time.time() - started)
    return run


def finish(run: Run, ready: Assembled, result: FitResult, seconds: float) -> None:
    """Save the model, then measure it on the held-out rows."""
    prepared = ready.prepared
    ready.model.eval()
    save_model(run.path, ready.model, prepared.recipe, prepared.tasks, ready.codec)
    scores = {}
    for name, task in prepared.tasks.items():
        rows = prepared.rows("test", task) or prepared.rows("valid", task)
        if rows:
            scores[name] = score_rows(ready.predictor, prepared, task, rows)
    trained = {
        "steps": result.steps,
        "seconds": round(result.seconds, 1),
        "seconds_in_all": round(seconds, 1),
        "stopped_because": result.stopped_because,
        "skipped_steps": result.skipped_steps,
        "parameters": sum(p.numel() for p in ready.model.parameters()),
    }
    run.write_json("evaluation.json", {"tasks": {n: vars(s) for n, s in scores.items()}, "training": trained})


def plan_of(ready: Assembled, tell: Tell) -> Plan:
    """What the loop needs to know, as plain callables."""
    prepared, feed = ready.prepared, ready.feed
    tasks = prepared.tasks
    watched = next((t for t in tasks.values() if t.name != "patches"), next(iter(tasks.values())))
    rows = prepared.rows("valid", watched)[: prepared.recipe.train.valid_rows]

    def loss_of(model: nn.Module, batch: Any, progress: float) -> tuple[Tensor, dict[str, float | Tensor]]:
        names = list(batch["tasks"])
        outputs = model(batch, names)
        return summed_loss(tasks, outputs, batch)

    def validate(model: nn.Module) -> dict[str, float]:
        score = score_rows(ready.predictor, prepared, watched, rows)
        return {f"{watched.name}/{name}": value for name, value in score.metrics.items()}

    def sample(model: nn.Module) -> str:
        row = rows[0]
        told = score_rows(ready.predictor, prepared, watched, [row], predictions_only=True)
        asked = watched.prompt(prepared.values[watched.name], row) if isinstance(watched, WritingTask) else ""
        return f"{asked} {told[0].value} (true: {watched.truth(prepared.values[watched.name], row)})".strip()

    return Plan(
        batch_at=feed.batch_at,
        loss_of=loss_of,
        total_steps=ready.total_steps,
        validate=validate if rows else None,
        watch=f"{watched.name}/{watched.watch}",
        higher_is_better=watched.higher_is_better,
        sample=sample if rows else None,
        batch_rows=prepared.recipe.train.batch_size,
    )


def summed_loss(
    tasks: dict[str, Task], outputs: dict[str, Tensor], batch: dict[str, Any]
) -> tuple[Tensor, dict[str, float | Tensor]]:
    """The weighted sum of the tasks' losses, and each by its name."""
    parts: dict[str, float | Tensor] = {}
    total: Tensor | None = None
    for name, output in outputs.items():
        loss = tasks[name].loss(output, batch["tasks"][name])
        parts[f"loss/{name}"] = loss.detach()
        weighted = loss * tasks[name].settings.weight
        total = weighted if total is None else total + weighted
    assert total is not None, "a batch holds at least one task"
    return total, parts


def saved_codec(run: Run) -> Codec:
    """The tokenizers of a run that was begun, so that a resume reads text as it did before."""
    from rebus.run.build import saved_codec as read

    return read(run)


def silent(_: str) -> None:
    """For processes other than the first."""


__all__ = ["Assembled", "assemble", "json", "learn", "load_model"]
