"""A run in stages: first what joins the towers, both frozen; then adapters or everything. And what each stage gained.

Liu et al. (2023), "Visual Instruction Tuning", train so: a projector begun anew sends noise into a language model, and
it is that model which would otherwise give way. Each stage has a schedule of its own, warm-up included.
It knows no loop.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rebus import atomic, recipe
from rebus.catalogue import Note
from rebus.errors import RunError
from rebus.loop.stages import Stages
from rebus.models.vlm import VisionLanguageModel
from rebus.nn.attention import Attention
from rebus.nn.feedforward import MLP, SwiGLU
from rebus.nn.lora import take_out_lora
from rebus.recipe import Stage, Train
from rebus.resolve.known import Built, Log
from rebus.resolve.steps import resolve
from rebus.resolve.tune import apply_tuning, restrict, what_learns
from rebus.tasks import Prediction, Task, TaskScore
from rebus.tasks.base import Values

FILE = "stages.json"


@dataclass
class Staging:
    """The stages of a run, met with its model.

    Attributes:
        model: changed in place as stages are entered.
        settings: the resolved recipe; ``train.stages`` is complete.
        frozen: names of parameters that no stage trains.
        log: prints a line for people.
        gains: what each stage has gained, once the run knows where to keep it.
        entered: number of the stage that the model is in.
    """

    model: VisionLanguageModel
    settings: recipe.Recipe
    frozen: frozenset[str]
    log: Log
    gains: StageGains | None = None
    entered: int = 0

    def enter(self, number: int) -> Train:
        """Make the model learn what a stage trains, whatever it learned before; gives that stage's settings."""
        train, stage, self.entered = self.settings.train, self.settings.train.stages[number], number
        if stage.tune != "lora":
            take_out_lora(self.model)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name not in self.frozen)
        text = "everything that is not frozen learns"
        if stage.tune != "full":
            named = restrict(self.model, self.settings, stage.tune, stage.learns or [])
            text = what_learns(self.model, self.settings, len(named), stage.learns or [])
        if self.gains is not None:
            self.gains.learned[number] = sum(item.numel() for item in self.model.parameters() if item.requires_grad)
        self.log(f"stage {number + 1} of {len(train.stages)} ({stage.share:.0%} of the run): {text}")
        own = {"optimizer": stage.optimizer, "lr": stage.lr, "muon_lr": stage.muon_lr, "rates": stage.rates or {}}
        return train.model_copy(update={**own, "tune": stage.tune, "learns": stage.learns})

    def plan(self) -> Stages:
        """What the loop needs to know."""
        shares = [stage.share for stage in self.settings.train.stages]
        return Stages(shares, self.enter, self.gains.left if self.gains is not None else lambda _: None)

    def unreached(self) -> list[tuple[str, str]]:
        """A remark, where the run has ended before its last stage began."""
        stages = self.settings.train.stages
        if self.entered == len(stages) - 1:
            return []
        return [("stages", Note("watch.stages", stage=self.entered + 2, stages=len(stages)))]

    @property
    def still(self) -> float:
        """Progress up to which no stage has trained the image tower; infinite where none does."""
        passed = 0.0
        for stage in self.settings.train.stages:
            if trains_image(self.model, self.settings, stage):
                return passed
            passed += stage.share
        return float("inf")


def begin_tuning(model: VisionLanguageModel, settings: recipe.Recipe, log: Log) -> tuple[recipe.Recipe, Staging | None]:
    """Make the model learn what the run trains first.

    Returns:
        The recipe with stages and rates settled, and the stages; None where the same parts learn all along.

    Raises:
        RecipeError: the stages do not add up, or name what is not there. Else as ``apply_tuning``.
    """
    settings = resolve(settings, Built(model), log)
    if not settings.train.stages:
        return apply_tuning(model, settings, log), None
    for name, tower in model.towers.items():
        if settings.model.tower(name).frozen:
            tower.requires_grad_(False)
    frozen = frozenset(name for name, parameter in model.named_parameters() if not parameter.requires_grad)
    staging = Staging(model, settings, frozen, lambda _: None)
    staging.enter(0)
    staging.log = log
    return settings, staging


def trains_image(model: VisionLanguageModel, settings: recipe.Recipe, stage: Stage) -> bool:
    """Whether a stage changes what the image tower says."""
    if model.image is None or settings.model.image.frozen:
        return False
    if stage.tune == "full" or any(part.partition(".")[0] == "image" for part in stage.learns or []):
        return True
    layers = any(isinstance(module, (Attention, MLP, SwiGLU)) for module in model.image.modules())
    return stage.tune == "lora" and (layers or bool(settings.model.lora.targets))


@dataclass
class StageGains:
    """What a task's figures on the validation rows were before the first stage and after each.

    They are kept in the Run folder as the run goes on, so that a resumed run knows those from before.

    Attributes:
        folder: the Run.
        task: whose figures.
        values: its columns.
        rows: that are judged.
        stages: the recipe's.
        log: prints a line for people.
        told: predictions of the last validation.
        learned: number of a stage: how many numbers learn in it.
    """

    folder: Path
    task: Task
    values: Values
    rows: list[int]
    stages: Sequence[Stage]
    log: Log
    told: list[Prediction] = field(default_factory=list)
    learned: dict[int, int] = field(default_factory=dict)

    def left(self, number: int) -> None:
        """A stage has ended, the last validation being of what it left; -1: the run begins."""
        if not self.told:
            return
        kept = {key: value for key, value in self._read().items() if int(key) < number}
        plain = all(not item.extra and isinstance(item.value, (str, int, float, list)) for item in self.told)
        kept[str(number)] = {
            "metrics": self.task.quick_score(self.values, self.rows[: len(self.told)], self.told),
            "rows": len(self.told),
            "learned": self.learned.get(number, 0),
            "told": [[item.value, item.confidence, item.scores] for item in self.told] if plain else None,
        }
        atomic.write_json(self.folder / FILE, kept)
        if number >= 0 and str(number - 1) in kept:
            before, after = (kept[str(n)]["metrics"][self.task.watch] for n in (number - 1, number))
            what = f"stage {number + 1} of {len(self.stages)} has ended: {self.task.name}/{self.task.watch}"
            self.log(f"{what} {before:.3f} -> {after:.3f} on {len(self.told)} validation rows")

    def found(self) -> list[dict[str, Any]]:
        """For each stage: what learned, the figures before and after, and what was gained, with intervals."""
        kept, message = self._read(), []
        for number, stage in enumerate(self.stages):
            before, after = kept.get(str(number - 1)), kept.get(str(number))
            if before is None or after is None:
                continue
            entry = {
                "stage": number + 1,
                "share": stage.share,
                "tune": stage.tune,
                "learns": stage.learns,
                "learned": after["learned"],
                "rows": after.get("rows", len(self.rows)),
                "watch": f"{self.task.name}/{self.task.watch}",
                "before": before["metrics"],
                "after": after["metrics"],
                "gains": {},
            }
            if before["told"] is not None and after["told"] is not None:
                first, last = ([Prediction(v, c, dict(s)) for v, c, s in item["told"]] for item in (before, after))
                both = min(len(first), len(last))  # with a time limit the last validation may look at fewer rows
                rows, first, last = self.rows[:both], first[:both], last[:both]
                score: TaskScore = self.task.compared(self.values, rows, last, first, "before the stage", n=500)
                entry["gains"] = {name: list(gain) for name, gain in score.gains.items()}
            message.append(entry)
        return message

    def _read(self) -> dict[str, Any]:
        path = self.folder / FILE
        if not path.exists():
            return {}
        try:
            result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            do = "remove the file: what earlier stages gained is then not told"
            raise RunError(path, "what stages have gained, as JSON", f"'{error}'", do) from error
        return result
