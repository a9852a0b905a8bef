"""How a recipe's blanks are filled: the steps in their order, each a pure function ``(recipe, known, log) -> recipe``.

What is known grows as a run is prepared: at each moment the steps are taken that need no more. Nothing changes in a
recipe that is complete, such as that of a run which goes on.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from rebus.recipe import Recipe, explained
from rebus.resolve import (
    augmentation,
    columns,
    corpus,
    from_base,
    from_towers,
    inline,
    inputs,
    like,
    pretrain_image,
    scaling,
    towers,
    tune,
)
from rebus.resolve.known import Built, Cells, Columns, Known, Log, RawText, Rows, Start, Step, Tokens

STEPS: dict[type[Known], tuple[Step[Any], ...]] = {
    Start: (tune.settle_precision, from_base.settle_base, from_towers.settle_towers),
    # a table
    Columns: (columns.settle_tasks,),
    Cells: (like.settle_like, columns.settle_images),
    Rows: (
        pretrain_image.settle_images,
        towers.settle_image_tower,
        towers.settle_text_tower,
        inputs.settle_other_towers,
        towers.settle_fusion,
        towers.settle_head,
        towers.check_towers,
        inline.settle_inline,
        towers.check_inputs,
        towers.settle_epochs,
        augmentation.settle_changes,
    ),
    # or raw text
    RawText: (corpus.settle_task, corpus.settle_towers, towers.check_towers, scaling.settle_vocabulary),
    Tokens: (scaling.turn_dial,),
    # and the model
    Built: (tune.settle_stages, tune.settle_rates),
}


def resolve(recipe: Recipe, known: Known, log: Log = lambda _: None) -> Recipe:
    """The recipe with all that can be settled from what is known.

    Args:
        recipe: as given, or as an earlier moment left it.
        known: of the machine, the data or the model.
        log: prints a line for people.

    Raises:
        RecipeError: a setting does not fit. DataError: no task can be found from the columns. RunError, WeightsError,
            MissingPackageError: what is to be started from cannot be read.
    """
    try:
        for step in STEPS[type(known)]:
            recipe = step(recipe, known, log)
    except ValidationError as error:  # of a tower whose kind was open, a setting that the chosen kind has not
        raise explained(error, "the recipe") from error
    return recipe
