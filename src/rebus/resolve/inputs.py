"""Which columns the model reads beside those that tasks name: numbers, categories and dates of a table's rows.

It knows no tensors; how a column is read is in ``rebus.data.tabular_cells``.
"""

from __future__ import annotations

from rebus import recipe as settings
from rebus.data.kinds import Inference
from rebus.data.table import Table
from rebus.data.tabular import given_away, tabular_columns
from rebus.tasks import TASKS

NAME = "tabular"


def other_inputs(recipe: settings.Recipe, table: Table, inference: Inference) -> tuple[dict[str, list[str]], Inference]:
    """Columns by modality, and the inference with the kinds, notes and warnings that belong to them.

    Args:
        recipe: with the kinds and the tasks' columns filled in.
        table: the rows.
        inference: what was found out of them so far.

    Raises:
        DataError: a column that ``data.inputs.tabular`` or ``data.ignore`` names does not exist, or is a task's.
    """
    inputs = dict(recipe.data.inputs)
    asked = NAME in inputs
    if not asked and not any(TASKS.get(task.name).reads_columns for task in recipe.tasks):
        return inputs, inference
    chosen = tabular_columns(table, inference.kinds, recipe.tasks, recipe.data)
    if chosen.readings or asked:
        inputs[NAME] = list(chosen.readings)
    kinds = inference.kinds | {name: reading.kind for name, reading in chosen.readings.items()}
    warnings = [*inference.warnings, *chosen.warnings, *given_away(table, chosen, recipe.tasks)]
    notes = [note for note in inference.notes if not note.startswith("not learned from:")] + chosen.notes
    return inputs, Inference(kinds, inference.tasks, notes, warnings, inference.refusal)
