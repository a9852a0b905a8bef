"""``rebus data check``: what is wrong with a table, before any training."""

from __future__ import annotations

import typer

from rebus.cli.shared import (
    DataPath,
    GroupColumn,
    Ignore,
    Kinds,
    RecipeFile,
    Settings,
    SplitColumn,
    Tasks,
    console,
    given,
    kind_settings,
)
from rebus.cli.verb import JsonOutput, write_json_output


def check(
    data: DataPath,
    json_output: JsonOutput = None,
    task: Tasks = None,
    recipe: RecipeFile = None,
    sets: Settings = None,
    kind: Kinds = None,
    ignore: Ignore = None,
    split_column: SplitColumn = None,
    group_column: GroupColumn = None,
) -> None:
    """Report what is in a table and what is wrong with it.

    Exit status 2 if training would refuse it, 1 if training would leave out the bad rows that are listed, else 0.
    """
    from rebus import api

    splits = given(data__split__column=split_column, data__split__group=group_column, data__ignore=ignore or None)
    settings = [*splits, *kind_settings(kind), *(sets or [])]
    report = api.check(data, task=task, recipe=recipe, settings=settings)
    if not write_json_output(json_output, report.as_dict()):
        report.render(console())
    if report.exit_code:
        raise typer.Exit(report.exit_code)
