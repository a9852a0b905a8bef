"""Modalities: one file and one registration each. Entry-point group of other packages: ``rebus.modalities``.

Which of them a recipe reads: the columns that tasks name in a role of the modality's name (``image``), and
``data.inputs``. How a tower reads it: ``model.image``, ``model.text``, and ``model.towers`` for every other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rebus import recipe
from rebus.errors import RecipeError
from rebus.models.modalities import image, tabular, text  # noqa: F401 - the classes file themselves under their names
from rebus.models.modalities.base import MODALITIES, Item, Key, Modality

__all__ = ["MODALITIES", "Item", "Key", "Modality", "columns_of", "file_kinds", "modalities_of"]


def columns_of(settings: recipe.Recipe) -> dict[str, list[str]]:
    """Modality: the columns that the recipe's model reads of it, text left out.

    Raises:
        RecipeError: tasks name different columns for a modality that reads one.
    """
    result: dict[str, list[str]] = {}
    for name in MODALITIES.names():
        named = [task.columns[name] for task in settings.tasks if name in task.columns]
        columns = list(dict.fromkeys([*named, *settings.data.inputs.get(name, [])]))
        kind = MODALITIES.get(name)
        if not kind.per_example or not columns or tower_kind(settings.model, name) == "none":
            continue
        if len(columns) > 1 and not kind.many:
            raise RecipeError("tasks", f"one {name} column for all tasks", ", ".join(columns), "train them apart")
        result[name] = columns
    return result


def file_kinds() -> set[str]:
    """Kinds of columns whose cells may be paths of files."""
    kinds = [MODALITIES.get(name) for name in MODALITIES.names()]
    return {kind for modality in kinds if modality.files for kind in modality.kinds}


def tower_kind(settings: recipe.Model, name: str) -> str:
    """The kind of the tower that reads a modality; ``none``: nothing does."""
    kind = settings.tower(name).kind
    return MODALITIES.get(name).towers[0] if kind == "auto" and name not in ("image", "text") else kind


def modalities_of(
    settings: recipe.Recipe, states: Mapping[str, dict[str, object]] | None = None
) -> dict[str, Modality]:
    """The modalities that a recipe's model reads, text left out; with ``states``, as they were fitted."""
    entries = {name: MODALITIES.get(name)(settings, columns) for name, columns in columns_of(settings).items()}
    for name, state in (states or {}).items():
        if name in entries:
            entries[name].restore(dict(state))
    return entries


def fitted_modalities(
    settings: recipe.Recipe, values: Mapping[str, Sequence[object]], rows: Sequence[int]
) -> dict[str, Modality]:
    """The same, fitted on training rows. ``values``: column: its cells."""
    modalities = modalities_of(settings)
    for modality in modalities.values():
        modality.fit({column: values[column] for column in modality.columns}, rows)
    return modalities
