"""What training would see and say of a table, without training."""

from __future__ import annotations

from rebus import recipe
from rebus.errors import RebusError
from rebus.resolve.from_table import Checked, check_data, fit_tasks
from rebus.resolve.from_towers import refuse_raw_text
from rebus.resolve.known import Start
from rebus.resolve.steps import resolve
from rebus.training.losses import check_batches
from rebus.training.pretrain import goes_by_corpus


def look_at(settings: recipe.Recipe) -> Checked:
    """Look at the table that a recipe names, by the code that training runs before its first step.

    Whatever training would refuse is in ``report.errors``, but for broken rows, which are in ``report.bad_rows``.

    Raises:
        DataError: the table cannot be read at all. RecipeError: a setting does not fit it.
    """
    checked = check_data(resolve(settings, Start()))
    report = checked.report
    try:
        if goes_by_corpus(settings):
            refuse_raw_text(settings)
        elif not report.errors and (not report.bad_rows or settings.data.on_bad == "skip"):
            check_batches(checked.recipe.train, fit_tasks(checked, _silent).tasks)
    except RebusError as error:
        report.errors.append(error)
    return checked


def _silent(_: str) -> None:
    pass
