"""The road of a comparison: settle it, make the runs that are not made yet, pool them, write what came out.

compare/
    plan.json          what decides every run; a comparison goes on only by the same plan
    trials/            one file a finished run (what it said of its test rows), and the recipe that repeats it
    work/              checkpoints of the run in hand
    compare.json, compare.md, compare.html, compare.png
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rebus import atomic, recipe
from rebus.catalogue import translator
from rebus.comparison.outputs import write_all
from rebus.comparison.pool import pooled
from rebus.comparison.result import Comparison
from rebus.comparison.setup import Setup, set_up
from rebus.comparison.strategies import Arm
from rebus.comparison.trial import Trial, run_trial
from rebus.comparison.verdict import verdict
from rebus.errors import RecipeError, RunError
from rebus.loop import parallel
from rebus.loop.lines import LOCK, locked
from rebus.report import labels
from rebus.resolve.known import Log


def compare(
    settings: recipe.Recipe,
    folder: Path,
    *,
    folds: int | None = None,
    repeats: int | None = None,
    only: Sequence[str] = (),
    language: str = "en",
    command: str = "rebus compare",
    log: Log = print,
) -> Comparison:
    """Train every strategy on every split and say which one helps.

    Args:
        settings: the recipe, with the data's path.
        folder: where everything goes; a comparison that was begun there goes on.
        folds: K of the cross-validation.
        repeats: deal rows anew so many times instead.
        only: names of strategies; empty: all that suit the task.
        language: of the verdict and the report, en or zh.
        command: shown in the report.
        log: prints a line for people.

    Raises:
        DataError, RecipeError: before any work. RunError: the folder holds another comparison or cannot be written.
        KeyboardInterrupt: a signal; what is done stays.
    """
    labels.check_language(language)
    if parallel.world() > 1:
        result = f"{parallel.world()} processes"
        raise RecipeError("rebus compare", "one process", result, "start it without torchrun")
    with locked(folder):
        setup = set_up(settings, log, folds=folds, repeats=repeats, only=only)
        return _compare(setup, folder, language, command, log)


def _compare(setup: Setup, folder: Path, language: str, command: str, log: Log) -> Comparison:
    _agree(folder, setup)
    texts, budget = translator("comparison_run", language), _budget(setup.whole.recipe, language)
    runs = [(arm, split) for split in range(len(setup.splits)) for arm in setup.arms]
    known = {(arm.name, split): Trial.load(path) for arm, split in runs if (path := _path(folder, arm, split)).exists()}
    words = {"runs": len(runs), "arms": len(setup.arms), "splits": len(setup.splits), "done": len(known)}
    log(texts("begin", **words, budget=budget))
    spent: list[float] = []
    for number, (arm, split) in enumerate(runs, 1):
        if (arm.name, split) in known:
            continue
        started, path = time.monotonic(), _path(folder, arm, split)
        atomic.write_text(path.with_suffix(".yaml"), setup.recipe(arm, split).save_text())
        try:
            trial = run_trial(setup, arm, split, folder / "work" / path.stem)
        except KeyboardInterrupt:
            log(texts("stopped", done=len(known), runs=len(runs)))
            raise
        trial.save(path)
        known[arm.name, split] = trial
        spent.append(time.monotonic() - started)
        left = _time(sum(spent) / len(spent) * (len(runs) - len(known)))
        metric = labels.metric_name(setup.task.watch, language)
        figure = _quick(setup, trial)
        shown = {"arm": arm.name, "split": split + 1, "metric": metric, "figure": figure, "seconds": trial.seconds}
        log(texts("done", number=number, runs=len(runs), left=left, **shown))
    if (folder / "work").is_dir() and not any((folder / "work").iterdir()):
        (folder / "work").rmdir()
    result = pooled(setup, list(known.values()))
    result.folder, result.language, result.budget = folder, language, budget
    if setup.whole.recipe.train.time_limit is not None:
        result.notes.append(texts("unequal"))
    result.verdict = verdict(result, language)
    write_all(result, setup.whole.recipe.save_text(), command)
    return result


def _path(folder: Path, arm: Arm, split: int) -> Path:
    return folder / "trials" / f"{arm.name}-{split}.json"


def _agree(folder: Path, setup: Setup) -> None:
    """Note the plan, or hold a comparison that goes on to it."""
    path, plan = folder / "plan.json", json.loads(json.dumps(setup.plan()))
    if not path.exists():
        if any(path.name != LOCK for path in folder.iterdir()):
            do = "choose another --out, or empty the folder"
            raise RunError(folder, "a new folder, an empty one or one of a comparison", "other files", do)
        atomic.write_json(path, plan)
        return
    try:
        begun: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        # what a later version can set besides was at its default
        begun["recipe"] = recipe.Recipe.model_validate(begun["recipe"]).model_dump(mode="json")
        begun["splits"] = [recipe.Split.model_validate(split).model_dump(mode="json") for split in begun["splits"]]
    except (ValueError, KeyError) as error:  # pydantic's errors are ValueErrors
        do = "delete the folder and compare anew"
        raise RunError(path, "the plan of a comparison", f"'{str(error)[:200]}'", do) from error
    # Which precision is faster may be measured otherwise another day; what was begun is gone on with.
    plan["recipe"]["train"]["precision"] = begun["recipe"]["train"]["precision"]
    precision = plan["recipe"]["train"]["precision"]
    setup.whole = replace(setup.whole, recipe=setup.whole.recipe.replace({"train.precision": precision}))
    other = _different(begun, plan)
    if other:
        where, was, now = other
        raise RunError(
            folder,
            f"the comparison that was begun there, with {where} {was}",
            f"{where} {now}",
            "choose another --out, or give the same data and settings as before",
        )


def _different(begun: Any, plan: Any, name: str = "") -> tuple[str, str, str] | None:
    """The first place where two plans differ: its name and both values."""
    if isinstance(begun, dict) and isinstance(plan, dict):
        for key in {**begun, **plan}:
            result = _different(begun.get(key), plan.get(key), f"{name}.{key}" if name else str(key))
            if result:
                return result
        return None
    if isinstance(begun, list) and isinstance(plan, list) and len(begun) == len(plan):
        each = (
            _different(item, other, f"{name}.{at}") for at, (item, other) in enumerate(zip(begun, plan, strict=True))
        )
        return next((result for result in each if result), None)
    if begun == plan:
        return None
    return name.removeprefix("recipe."), str(begun)[:60], str(plan)[:60]


def _budget(settings: recipe.Recipe, language: str) -> str:
    texts, train = translator("comparison_run", language), settings.train
    if train.time_limit is not None:
        return texts("minutes", minutes=train.time_limit)
    if train.steps is not None:
        return texts("steps", steps=train.steps)
    return texts("epochs", epochs=train.epochs)


def _quick(setup: Setup, trial: Trial) -> str:
    if not trial.rows:
        return "–"
    task = next(iter(setup.prepared(Arm(trial.arm), trial.split).tasks.values()))
    result = task.quick_score(setup.values, trial.rows, trial.told)
    return labels.figure(result.get(task.watch), task.watch)


def _time(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(minutes, 1)} min"
