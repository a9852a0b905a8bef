"""What Rebus can be asked for, in Python: each verb of the command line is one function here."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from rebus.comparison import Comparison
from rebus.comparison import compare as compare_strategies
from rebus.data.check import CheckReport
from rebus.errors import RecipeError
from rebus.explain.honesty import Honesty
from rebus.explain.model import Model, load
from rebus.recipe import Kind, Recipe, TaskSettings, as_yaml, load_recipe, override
from rebus.report.checked import check_maps
from rebus.report.compose import keep_ablation, write_outputs
from rebus.run.contrast import summed_loss
from rebus.run.elsewhere import name_towers
from rebus.run.evaluate import Evaluation
from rebus.run.evaluate import evaluate_run as evaluate_folder
from rebus.run.folder import Run
from rebus.run.indexing import IndexSummary, index_run
from rebus.run.learn import learn, make_ready
from rebus.run.looking import look_at
from rebus.run.predict import PredictSummary
from rebus.run.predict import predict_table as predict_folder
from rebus.run.prompts import judge_frozen
from rebus.run.search import Hit, find_run
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
    vision: str | Path | None = None,
    text: str | Path | None = None,
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
        vision: a Run, a checkpoint folder or a hub id whose picture tower to start from.
        text: the same for the text tower and its tokenizer, or a .gguf file; or the kind of a fresh text tower. With
            both, the run has two stages unless ``train.stages`` says otherwise.
        time_limit: minutes.
        seed: of weights, order and augmentation.
        quiet: print nothing.

    Raises:
        RebusError: the data, the recipe or the folder cannot be used; said before any work is done.
    """
    made = make_recipe(
        data, task, recipe, settings, time_limit=time_limit, seed=seed, base=base, vision=vision, text=text
    )
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
    vision: str | Path | None = None,
    text: str | Path | None = None,
) -> DryRun:
    """The resolved recipe with estimates, from two steps that are thrown away. Raises as ``train``."""
    made = make_recipe(data, task, recipe, settings, base=base, vision=vision, text=text)
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
    probe: str | None = None,
    zero_shot: bool = False,
    labels: Sequence[str] | None = None,
    lang: str | None = None,
    ablate: bool = False,
) -> Evaluation:
    """Figures of a Run, or of a checkpoint of another project, on a table; see ``rebus.run.evaluate``.

    Args:
        run: the model.
        data: a table; None: the one the Run was trained from.
        split: train, valid, test or all.
        by: a column whose values are also judged apart.
        task: what to judge it on.
        kinds: column: kind, where the guess is wrong.
        probe: ``linear`` or ``knn``: judge frozen features on the table's labels; see ``rebus.run.probe``.
        zero_shot: judge a model with a shared space on classes named only; see ``rebus.run.prompts``.
        labels: names of these classes; None: the table's own.
        lang: ``en`` or ``zh``, of the sentences around them; None: that of each name. With ``ablate``: of the verdict.
        ablate: also what the model loses when its pictures or its text are taken away. Of the Run's own test rows that
            is kept in its evaluation.json, its report and its card.

    Raises:
        RebusError: the model or the table cannot be read, or the options do not go together.
    """
    if ablate and (probe is not None or zero_shot):
        found = "--zero-shot" if zero_shot else "--probe"
        raise RecipeError("--ablate", "the task that the model was trained for", found, "leave one of the two out")
    if probe is not None or zero_shot:
        return judge_frozen(
            run, data, probe=probe, labels=labels, lang=lang, task=task, split=split, by=by, kinds=kinds
        )
    if labels is not None or (lang is not None and not ablate):
        flag = "--labels" if labels is not None else "--lang"
        raise RecipeError(flag, "--zero-shot beside it", "none", "add --zero-shot, or leave it out")
    evaluation = evaluate_folder(run, data, split=split, by=by, task=task, kinds=kinds, ablations=ablate)
    if ablate:
        keep_ablation(Run(run), evaluation, lang, own=data is None and split in (None, "test") and task is None)
    return evaluation


def index(
    run: str | Path,
    data: str | Path,
    *,
    out: str | Path | None = None,
    kinds: dict[str, Kind] | None = None,
    quiet: bool = False,
) -> IndexSummary:
    """Embed a collection's pictures and texts to be searched; see ``rebus.run.indexing``."""
    return index_run(run, data, out=out, kinds=kinds, tell=_teller(quiet))


def find(
    run: str | Path,
    query: str,
    *,
    k: int = 10,
    index: str | Path | None = None,
    what: Literal["picture", "text"] | None = None,
    rerank: bool = False,
    quiet: bool = False,
) -> list[Hit]:
    """What is nearest to a text or a picture in an indexed collection; see ``rebus.run.search``."""
    return find_run(run, query, k=k, index=index, what=what, rerank=rerank, tell=_teller(quiet))


def compare(
    data: str | Path,
    *,
    task: str | None = None,
    recipe: Recipe | str | Path | None = None,
    out: str | Path | None = None,
    settings: Settings = None,
    folds: int | None = None,
    repeats: int | None = None,
    only: str | Sequence[str] = (),
    minutes: float | None = None,
    seed: int | None = None,
    lang: str = "en",
    quiet: bool = False,
    command: str = "",
) -> Comparison:
    """Text alone, pictures alone and every way of joining them, trained on the same rows with the same budget.

    Args:
        data: a table (CSV, TSV, JSON, JSONL, Parquet) or a folder.
        task: classify, tag, regress, answer, caption or another that reads pictures and text; None: from the columns.
        recipe: settings to start from, or the file that holds them.
        out: the folder; None: ``runs/NAME-compare``. A comparison that was begun there goes on; finished runs stay.
        settings: changes, as for ``train``; ``train.steps`` or ``train.epochs`` is the budget of each training.
        folds: parts the rows are dealt to, each judged once; None: 3, or what the table says of its test rows.
        repeats: instead of folds, deal the rows anew so many times.
        only: strategies: text, picture, joint (or joint-concat, ...), unified, cross; empty: all.
        minutes: of each training, as the budget.
        seed: of weights, order and augmentation.
        lang: en or zh, of the verdict and the report.
        quiet: print nothing.
        command: shown in the report as the way to do it again.

    Raises:
        RebusError: the data, the settings or the folder cannot be used; said before any work is done.
        KeyboardInterrupt: a signal; the same call goes on where it was.
    """
    made = make_recipe(data, task, recipe, settings, time_limit=minutes, seed=seed)
    folder = Path(out) if out is not None else Path("runs") / f"{Path(data).resolve().stem or 'table'}-compare"
    return compare_strategies(
        made,
        folder,
        folds=folds,
        repeats=repeats,
        only=[only] if isinstance(only, str) else list(only),
        language=lang,
        command=command or f"rebus compare {data} --out {folder}",
        tell=_teller(quiet),
    )


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
    return look_at(make_recipe(data, task, recipe, settings)).report


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
    vision: str | Path | None = None,
    text: str | Path | None = None,
) -> Recipe:
    """One recipe from all that was said. Raises RecipeError."""
    made = recipe.model_copy(deep=True) if isinstance(recipe, Recipe) else load_recipe(recipe) if recipe else Recipe()
    made.data.path = str(data)
    if base is not None:
        made.base = str(base)
    name_towers(made.model, vision, text)
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
    name = re.sub(r"[*?\[\]{}]+", "", Path(data).resolve().stem).strip("-_.") or "run"  # of a pattern, what is plain
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
    "Comparison",
    "DryRun",
    "Hit",
    "Honesty",
    "IndexSummary",
    "Model",
    "check",
    "check_maps",
    "compare",
    "demo",
    "dry_run",
    "evaluate_run",
    "find",
    "index",
    "load",
    "predict_table",
    "resume",
    "train",
    "write_demo",
    "write_report",
]
