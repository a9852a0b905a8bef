"""What Rebus can be asked for, in Python: each verb of the command line is one function here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rebus.data.check import CheckReport, check_table
from rebus.data.kinds import infer
from rebus.data.readers import read_table
from rebus.data.splits import assign_splits
from rebus.errors import RecipeError
from rebus.recipe import Kind, Recipe, TaskSettings, as_yaml, load_recipe, override
from rebus.report.compose import write_outputs
from rebus.run.evaluate import Evaluation
from rebus.run.evaluate import evaluate_run as evaluate_folder
from rebus.run.folder import Run
from rebus.run.learn import learn, make_ready, summed_loss
from rebus.run.model import Model, load
from rebus.run.predict import PredictSummary
from rebus.run.predict import predict_table as predict_folder
from rebus.run.prepare import filled
from rebus.run.sizes import unsay
from rebus.training import parallel

Settings = Sequence[str] | dict[str, Any] | None


def train(
    data: str | Path,
    *,
    task: str | Sequence[str] | None = None,
    recipe: Recipe | str | Path | None = None,
    out: str | Path | None = None,
    settings: Settings = None,
    base: str | Path | None = None,
    time_limit: float | None = None,
    seed: int | None = None,
    quiet: bool = False,
) -> Run:
    """Train a model on a table and leave a Run folder.

    Args:
        data: a table (CSV, TSV, JSON, JSONL, Parquet) or a folder.
        task: one or more tasks; None: found from the columns.
        recipe: settings to start from, or the file that holds them.
        out: the Run folder; None: a new folder under runs/.
        settings: changes, as ``{"train.lr": 1e-3}`` or ``["train.lr=1e-3"]``.
        base: a Run, a checkpoint folder, a .gguf file or a hub id whose weights and tokenizer to start from.
        time_limit: minutes.
        seed: of weights, order and augmentation.
        quiet: print nothing.

    Raises:
        RebusError: the data, the recipe or the folder cannot be used; said before any work is done.
    """
    made = make_recipe(data, task, recipe, settings, time_limit=time_limit, seed=seed, base=base)
    folder = Path(out) if out is not None else _new_folder(data)
    learn(made, folder, tell=_teller(quiet), quiet=quiet)
    run = Run(folder)
    if parallel.is_first() and run.weights_path.exists():
        write_outputs(run)
    return run


def resume(run: str | Path, *, quiet: bool = False) -> Run:
    """Go on with a Run that was interrupted; does nothing to one that is finished.

    Raises:
        RunError: there is no Run to go on with, or its checkpoints are all damaged.
    """
    folder = Run.begun(run)
    if folder.config_path.exists() and folder.weights_path.exists():
        return folder
    learn(folder.recipe, folder.folder, resume=True, tell=_teller(quiet), quiet=quiet)
    if parallel.is_first() and folder.weights_path.exists():
        write_outputs(folder)
    return folder


@dataclass(frozen=True)
class DryRun:
    """What a run would be.

    Attributes:
        recipe_text: the complete recipe, as YAML.
        parameters: numbers that are learned.
        memory_mb: estimate of the memory training needs, in MiB.
        seconds: estimate of the time, from two steps measured here.
    """

    recipe_text: str
    parameters: int
    memory_mb: float
    seconds: float | None


def dry_run(
    data: str | Path,
    *,
    task: str | Sequence[str] | None = None,
    recipe: Recipe | str | Path | None = None,
    settings: Settings = None,
    base: str | Path | None = None,
) -> DryRun:
    """The resolved recipe with estimates, from two steps that are thrown away. Raises as ``train``."""
    made = make_recipe(data, task, recipe, settings, base=base)
    with TemporaryDirectory() as folder:
        ready = make_ready(made, _teller(False), Path(folder) / "shards")
        train = ready.recipe.train
        spent = []
        for step in range(2):
            batch = ready.feed.split(ready.feed.batch_at(step, 1.0), train.accumulate)[0]
            start = time.perf_counter()
            loss, _ = summed_loss(ready.tasks, ready.model(batch), batch)
            loss.backward()  # type: ignore[no-untyped-call]
            spent.append((time.perf_counter() - start) * train.accumulate)
        parameters = ready.model.count_parameters()
        state = 16 * parameters / 2**20  # weights, gradients and two moments, four bytes each
        seconds = train.time_limit * 60 if train.time_limit else (ready.total_steps or 0) * min(spent)
        needed = state + ready.memory_mb() + 400
    return DryRun(ready.recipe.save_text(), parameters, needed, seconds)


def predict_table(run: str | Path, data: str | Path, out: str | Path) -> PredictSummary:
    """Predict every row of a table into ``out`` (.csv, .jsonl or .parquet); see ``rebus.run.predict``."""
    return predict_folder(Run.open(run), data, out)


def evaluate_run(
    run: str | Path,
    data: str | Path | None = None,
    *,
    split: str | None = None,
    by: str | None = None,
    task: str | Sequence[str] | None = None,
    kinds: dict[str, Kind] | None = None,
) -> Evaluation:
    """Figures of a Run, or of a checkpoint of another project, on a table; see ``rebus.run.evaluate``."""
    return evaluate_folder(run, data, split=split, by=by, task=task, kinds=kinds)


def check(
    data: str | Path,
    *,
    task: str | Sequence[str] | None = None,
    recipe: Recipe | str | Path | None = None,
    settings: Settings = None,
) -> CheckReport:
    """What training would see and say of a table, without training.

    Raises:
        DataError: the table cannot be read at all.
    """
    made = make_recipe(data, task, recipe, settings)
    table = read_table(made.data)
    inference = infer(table, made.data.kinds, [entry.name for entry in made.tasks])
    tasks = filled(made.tasks, inference) if made.tasks or inference.tasks else []
    pictures = [column for column, kind in inference.kinds.items() if kind == "picture"]
    splits = assign_splits(table, made.data.split, pictures, seed=0)
    return check_table(table, made.data, inference.kinds, tasks, splits)


def write_report(run: str | Path, *, lang: str = "en") -> Path:
    """Write a Run's report.html and model card again, in English or Chinese."""
    if lang not in ("en", "zh"):
        raise RecipeError("--lang", "en or zh", f"'{lang}'", "choose one")
    return write_outputs(Run.open(run), lang=lang)


def write_demo(folder: str | Path) -> Path:
    """Write the demo's table of scenes."""
    from rebus.demo import write_demo_scenes

    return write_demo_scenes(Path(folder))


def demo(out: str | Path, *, minutes: float | None = None, lang: str = "en") -> Run:
    """Train on six artists' pictures, answer about two others'."""
    from rebus.demo import run_demo

    return run_demo(Path(out), minutes=minutes, lang=lang)


def make_recipe(
    data: str | Path,
    task: str | Sequence[str] | None,
    recipe: Recipe | str | Path | None,
    settings: Settings,
    *,
    time_limit: float | None = None,
    seed: int | None = None,
    base: str | Path | None = None,
) -> Recipe:
    """One recipe from all that was said. Raises RecipeError."""
    made = recipe.model_copy(deep=True) if isinstance(recipe, Recipe) else load_recipe(recipe) if recipe else Recipe()
    made.data.path = str(data)
    if base is not None:
        made.base = str(base)
    names = [task] if isinstance(task, str) else list(task or [])
    if names:
        known = {entry.name: entry for entry in made.tasks}
        made.tasks = [known.get(name, TaskSettings(name=name)) for name in names]
    if recipe is not None and made.model.size is not None and _turns_dial(settings, made.model.size):
        unsay(made)
    words = [f"{key}={as_yaml(value)}" for key, value in settings.items()] if isinstance(settings, dict) else settings
    made = override(made, list(words or []))
    if time_limit is not None:
        made = override(made, [f"train.time_limit={time_limit}"])
    if seed is not None:
        made = override(made, [f"seed={seed}"])
    return made


def _turns_dial(settings: Settings, size: str) -> bool:
    """Whether the settings turn the dial of a recipe that it has been turned in already."""
    said = (
        settings if isinstance(settings, dict) else dict(word.split("=", 1) for word in settings or [] if "=" in word)
    )
    return str(said.get("model.size", size)).strip("\"'") != size


def _new_folder(data: str | Path) -> Path:
    name = Path(data).resolve().stem or "run"
    number = 1
    while (folder := Path("runs") / f"{name}-{number}").exists():
        number += 1
    return folder


def _teller(quiet: bool) -> Callable[[str], None]:
    if quiet or not parallel.is_first():
        return lambda _: None
    from rich.console import Console

    return lambda text: Console(stderr=True, highlight=False).print(text, style="dim", markup=False)


__all__ = [
    "DryRun",
    "Model",
    "check",
    "demo",
    "dry_run",
    "evaluate_run",
    "load",
    "predict_table",
    "resume",
    "train",
    "write_demo",
    "write_report",
]
