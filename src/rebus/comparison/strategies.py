"""The strategies that are compared, and what each changes of a recipe. Everything else is the same for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from rebus import recipe
from rebus.errors import DataError, RecipeError, nearest
from rebus.models.fusion import FUSIONS
from rebus.tasks import TASKS, Task, VectorTask

TEXT, IMAGE, COLUMNS = "text", "image", "columns"
TABULAR = "tabular"  # the modality of columns
OWN = ("joint", "unified", "cross")  # shown in this order, then those of plug-ins
READS = ("text", "question", "prompt", "messages", "tokens", "passage")  # roles that are a text to read


@dataclass(frozen=True)
class Arm:
    """One strategy.

    Attributes:
        name: ``text``, ``image``, ``joint-concat``, ``unified``, ...
        fusion: the fusion's name; empty for a single modality.
        how: joint: how features are fused.
        columns: whether it reads columns of numbers, categories and dates, where there are some.
    """

    name: str
    fusion: str = ""
    how: str = ""
    columns: bool = True

    @property
    def single(self) -> bool:
        """Whether it sees one modality only."""
        return not self.fusion

    def recipe(self, settings: recipe.Recipe) -> recipe.Recipe:
        """The recipe of this arm, from one that both modalities are read by."""
        task, alone = TASKS.get(settings.tasks[0].name), {"model.fusion.kind": "none"}
        if settings.data.inputs.get(TABULAR) and not self.columns:
            settings = settings.replace({"data.inputs": {**settings.data.inputs, TABULAR: []}})
        if not self.single:
            how = {"model.fusion.how": self.how} if self.how else {}
            return settings.replace({"model.fusion.kind": self.fusion, **how})
        if self.name == COLUMNS:
            return settings.replace({"model.image.kind": "none", "model.text.kind": "none", **alone})
        if self.name == TEXT:
            joins = task.writes and settings.model.text.kind != "decoder"
            return settings.replace({"model.image.kind": "none", **({} if joins else alone)})
        if issubclass(task, VectorTask):
            return settings.replace({"model.text.kind": "none", **alone})
        return settings.replace({"tasks.0.unseen": ["question"]})  # the decoder must still write


def arms_of(task: Task, settings: recipe.Recipe, only: Sequence[str] = ()) -> list[Arm]:
    """The strategies that suit a task, or those of them that are named.

    Raises:
        DataError: the task does not read an image and a text, which is told with what is missing.
        RecipeError: a name that is none of them.
    """
    tabular = bool(settings.data.inputs.get(TABULAR))
    check_inputs(task, tabular=tabular)
    hows = get_args(recipe.Fusion.model_fields["how"].annotation)
    reads = any(role in task.settings.columns for role in READS if role in task.inputs) or not tabular
    arms = [Arm(TEXT, columns=False)] if reads else []
    if task.mixes_targets or task.asked_with == "question":
        arms.append(Arm(IMAGE, columns=False))
    if tabular and task.mixes_targets:
        arms.append(Arm(COLUMNS))
    for name in [*OWN, *(name for name in FUSIONS.names() if name not in OWN)]:
        arms += [Arm(f"{name}-{how}", name, how) for how in hows] if name == "joint" else [Arm(name, name)]
    if tabular and reads:
        arms.append(without_columns(settings))
    known = {arm.name: arm for arm in arms}
    wanted = [arm for name in only for arm in (["joint-" + how for how in hows] if name == "joint" else [name])]
    for name in wanted:
        if name not in known:
            raise RecipeError("--only", f"strategies among {', '.join(known)}", f"'{name}'", nearest(name, known))
    return [arm for arm in arms if not wanted or arm.name in wanted]


def without_columns(settings: recipe.Recipe) -> Arm:
    """The recipe's own fusion of images and texts without columns."""
    kind, how = settings.model.fusion.kind, settings.model.fusion.how if settings.model.fusion.kind == "joint" else ""
    return Arm(f"{kind}-{how}-no-columns" if how else f"{kind}-no-columns", kind, how, columns=False)


def check_inputs(task: Task, *, tabular: bool = False) -> None:
    """Refuse a task that has no image, or neither a text nor columns. Raises DataError with what is missing."""
    columns, where = task.settings.columns, f"rebus compare, task '{task.name}'"
    reads = [role for role in READS if role in task.inputs]
    if not _may_read_both(type(task)):
        able = [name for name in TASKS.names() if _may_read_both(TASKS.get(name))]
        raise DataError(
            where,
            f"a task that reads an image and a text: {', '.join(able)}",
            f"one that reads {' and '.join(task.inputs) or 'raw text'}",
            "name another with --task",
        )
    if "image" not in columns:
        do = "name one with --set tasks.0.columns.image=COLUMN, or say what a column holds: --kind COLUMN=image"
        raise DataError(where, "an image column", _listed(columns), do)
    if reads and not tabular and not any(role in columns for role in reads):
        do = f"name one with --set tasks.0.columns.{reads[0]}=COLUMN, or say what it holds: --kind COLUMN=text"
        raise DataError(where, "a text column beside the image", _listed(columns), do)


def _may_read_both(kind: type[Task]) -> bool:
    """A caption is written from the image alone; without images it is what can be said without looking."""
    if kind.asked_with == "image":
        return True
    return "image" in kind.inputs and not kind.roles["image"].required and any(r in kind.inputs for r in READS)


def _listed(columns: dict[str, str]) -> str:
    return "only " + ", ".join(f"{role} '{column}'" for role, column in columns.items()) if columns else "no column"
