"""One run of a comparison: a strategy trained on one split and asked about its test rows. Killed, it goes on.

While it trains, its folder holds checkpoints; when it is done, one file holds what it said, and the folder goes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rebus import atomic
from rebus.comparison.setup import Setup, Shared
from rebus.comparison.strategies import IMAGE, TEXT, Arm
from rebus.errors import ImageError, RunError
from rebus.evaluation.rows import Rows
from rebus.loop import checkpoint
from rebus.loop.loop import fit
from rebus.models.modalities import modalities_of
from rebus.tasks import Prediction, Task
from rebus.tasks.base import Values
from rebus.tasks.cells import missing
from rebus.training.train import Assembled, assemble_prepared


@dataclass
class Trial:
    """What came of one run.

    Attributes:
        arm: the strategy's name.
        split: its number.
        rows: test rows that were judged.
        told: a prediction for each of them.
        without: ``image`` or ``text``: predictions for ``complete`` with that hidden.
        complete: those of the rows that have both.
        parameters: numbers that are learned.
        steps: updates.
        seconds: of training.
        rate: examples a second.
        trained_on: training rows.
        skipped: test rows whose image cannot be read.
    """

    arm: str
    split: int
    rows: list[int]
    told: list[Prediction]
    without: dict[str, list[Prediction]] = field(default_factory=dict)
    complete: list[int] = field(default_factory=list)
    parameters: int = 0
    steps: int = 0
    seconds: float = 0.0
    rate: float = 0.0
    trained_on: int = 0
    skipped: list[str] = field(default_factory=list)

    def predictions(self) -> dict[int, Prediction]:
        """By row."""
        return dict(zip(self.rows, self.told, strict=True))

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        content = json.dumps(asdict(self), ensure_ascii=False, default=_plain)
        atomic.write_text(path, content + "\n")

    @classmethod
    def load(cls, path: Path) -> Trial:
        """What ``save`` wrote. Raises RunError where the file is damaged."""
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            result["told"] = [Prediction(**item) for item in result["told"]]
            result["without"] = {
                name: [Prediction(**item) for item in message] for name, message in result["without"].items()
            }
            return cls(**result)
        except (ValueError, KeyError, TypeError) as error:
            do = "delete the file: that run is then made again"
            raise RunError(path, "what a run of `rebus compare` said", f"'{error!r}'", do) from error


def run_trial(setup: Setup, arm: Arm, split: int, folder: Path, *, quiet: bool = True) -> Trial:
    """Train and ask. ``folder`` holds checkpoints meanwhile.

    Raises:
        KeyboardInterrupt: a signal ended the training, after a checkpoint. RebusError: as training raises.
    """
    prepared = setup.prepared(arm, split)
    begun = bool(checkpoint.steps_saved(folder))
    ready = assemble_prepared(prepared, lambda _: None)
    plan = ready.plan(ready.builder.parts_at)
    if not prepared.recipe.train.patience:  # nothing is chosen by what is watched
        plan = replace(plan, validate=None, sample=None)
    result = fit(
        ready.model,
        plan,
        ready.recipe.train,
        folder,
        seed=ready.recipe.seed,
        device="cuda" if torch.cuda.is_available() else "cpu",
        resume=begun,
        quiet=quiet,
    )
    if result.stopped_because == "interrupted":
        raise KeyboardInterrupt
    message = judged(ready, prepared, setup, arm, split)
    message.parameters, message.steps, message.seconds = ready.model.count_parameters(), result.steps, result.seconds
    message.rate = result.steps * plan.batch_rows / max(result.seconds, 1e-9)
    message.trained_on = len(prepared.training_rows())
    shutil.rmtree(folder, ignore_errors=True)
    return message


def judged(ready: Assembled, prepared: Shared, setup: Setup, arm: Arm, split: int) -> Trial:
    """What the model says of the split's test rows, and, where it joins, without what a row may lack."""
    task = next(iter(prepared.tasks.values()))
    values = prepared.values[task.name]
    source = Rows(task, values, ready.predictor.inputs_of(task, prepared.table, cache=prepared.cache))
    everything = prepared.inputs(modalities_of(setup.whole.recipe))
    rows, skipped = [], []
    for row in prepared.rows("test"):
        if not task.judgeable(values, row):
            continue
        try:
            everything.check(row)
        except ImageError as error:  # the same rows for every strategy, also for one that sees none
            skipped.append(str(error))
            continue
        rows.append(row)
    trial = Trial(arm.name, split, rows, source.predict(ready.predictor, rows) if rows else [], skipped=skipped)
    trial.complete = [row for row in rows if has_both(task, values, row)]
    if arm.single or not trial.complete:
        return trial
    for name in spared(task, values):
        trial.without[name] = predict_without(ready, source, trial.complete, name)
    return trial


def has_both(task: Task, values: Values, row: int) -> bool:
    """Whether a row has an image and a text of its own to read."""
    others = [role for role in task.inputs if role != IMAGE and role in values]
    return not missing(values[IMAGE][row]) and any(not missing(values[role][row]) for role in others)


def spared(task: Task, values: Values) -> list[str]:
    """The modalities that the task can do without."""
    return [
        name
        for name in (IMAGE, TEXT)
        if name in values and name in task.roles and not task.roles[name].required and name in task.inputs
    ]


def predict_without(ready: Assembled, source: Rows, rows: Sequence[int], name: str) -> list[Prediction]:
    """Predictions for rows with their images or their texts hidden."""
    if name == IMAGE:
        blind = Rows(source.task, source.values, source.inputs.replaced(IMAGE, lambda row: []))
        return blind.predict(ready.predictor, rows)
    values = {**source.values, name: [None] * len(source.values[name])}
    return Rows(source.task, values, source.inputs).predict(ready.predictor, rows)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        array: NDArray[Any] = value
        return array.tolist()
    raise TypeError(type(value).__name__)
