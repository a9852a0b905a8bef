"""What the model reads beside the image and the text that tasks name: which columns, and by which towers.

How the cells of numbers, categories and dates are read is in ``rebus.data.tabular_cells``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from rebus import recipe as settings
from rebus.data.kinds import Inference
from rebus.data.table import Table
from rebus.data.tabular import given_away, tabular_columns
from rebus.errors import RecipeError
from rebus.models.modalities import MODALITIES, columns_of
from rebus.models.towers import TOWERS, tower_kinds
from rebus.resolve.known import Log, Rows
from rebus.tasks import TASKS

NAME = "tabular"


@dataclass(frozen=True)
class OtherInputs:
    """What the model reads beside what tasks name.

    Attributes:
        columns: by modality.
        inference: of the table, with the kinds and warnings that belong to them.
        notes: for people: which columns are inputs, which are left out and why.
    """

    columns: dict[str, list[str]]
    inference: Inference
    notes: list[str] = field(default_factory=list)


def other_inputs(
    recipe: settings.Recipe, table: Table, inference: Inference, kinds: Mapping[str, settings.Kind]
) -> OtherInputs:
    """Choose the columns that are inputs by themselves.

    Args:
        recipe: with the tasks' columns filled in.
        table: the rows.
        inference: what was found out of them so far.
        kinds: column: kind, where the user says it.

    Raises:
        DataError: a column that ``data.inputs.tabular`` or ``data.ignore`` names does not exist, or is a task's.
    """
    columns = {**plugin_columns(recipe, inference), **recipe.data.inputs}
    asked = NAME in columns
    if not asked and not any(TASKS.get(task.name).reads_columns for task in recipe.tasks):
        return OtherInputs(columns, inference)
    chosen = tabular_columns(table, inference.kinds, recipe.tasks, recipe.data, kinds)
    if chosen.readings or asked:
        columns[NAME] = list(chosen.readings)
    warnings = [*inference.warnings, *chosen.warnings, *given_away(table, chosen, recipe.tasks)]
    updated = replace(
        inference,
        kinds=inference.kinds | {name: reading.kind for name, reading in chosen.readings.items()},
        notes=[note for note in inference.notes if getattr(note, "key", "") != "inference.ignored"],
        warnings=warnings,
    )
    return OtherInputs(columns, updated, chosen.notes)


def plugin_columns(recipe: settings.Recipe, inference: Inference) -> dict[str, list[str]]:
    """Modality of another package: the columns of its kinds that no task reads.

    Raises:
        RecipeError: there are several for a modality that reads one, and the recipe does not say which.
    """
    taken = {column for task in recipe.tasks for column in task.columns.values()}
    result: dict[str, list[str]] = {}
    for name in MODALITIES.names():
        modality = MODALITIES.get(name)
        own = set(modality.kinds) - set(settings.KINDS)
        columns = [column for column, kind in inference.kinds.items() if kind in own and column not in taken]
        if columns and name not in recipe.data.inputs:
            result[name] = columns
            if len(columns) > 1 and not modality.many:
                do = f"name one of them: --set 'data.inputs={{{name}: [{columns[0]}]}}'"
                raise RecipeError(f"the modality '{name}'", "one column", ", ".join(columns), do)
    return result


def others(recipe: settings.Recipe) -> list[str]:
    """The modalities beside image and text that the model reads."""
    return [name for name in columns_of(recipe) if name != "image"]


def reads_text(recipe: settings.Recipe) -> bool:
    """Whether a task has a column of text."""
    return any(
        role != "image" and role in TASKS.get(task.name).inputs for task in recipe.tasks for role in task.columns
    )


def settle_other_towers(recipe: settings.Recipe, _: Rows, log: Log) -> settings.Recipe:
    """The towers of the other modalities, with what suits each where nothing is said. Raises RecipeError."""
    for name in others(recipe):
        tower = recipe.model.towers.get(name, settings.OtherTower())
        kind = MODALITIES.get(name).towers[0] if tower.kind == "auto" else tower.kind
        known, fitting = TOWERS.get(kind), {*MODALITIES.get(name).towers, *tower_kinds(name)}
        if kind not in fitting:
            do = f"choose {', '.join(sorted(fitting))}"
            raise RecipeError(f"model.towers.{name}.kind", f"a tower that reads {name}", f"'{kind}'", do)
        tower = tower.replace(kind=kind).fill(known.defaults)
        recipe = recipe.replace({"model.towers": {**recipe.model.towers, name: tower}})
    return recipe
