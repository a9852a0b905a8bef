"""``rebus compare``: text alone, images alone and every way of joining them, side by side on one table."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from rebus.cli.shared import (
    DataPath,
    GroupColumn,
    Ignore,
    Kinds,
    Language,
    RecipeFile,
    Settings,
    SplitColumn,
    given,
    kind_settings,
    say,
    show_table,
)


def compare(
    data: DataPath,
    task: Annotated[
        str | None, typer.Option("--task", metavar="TASK", help="What to learn; found from the columns unless named.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The folder; one that was begun there goes on.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option("--folds", metavar="K", help="Parts the rows are dealt to; each is judged once.")
    ] = None,
    repeats: Annotated[
        int | None, typer.Option("--repeats", metavar="N", help="Instead of folds: deal the rows anew N times.")
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option("--time-limit", metavar="MINUTES", help="Train each strategy for this long, each time."),
    ] = None,
    minutes: Annotated[float | None, typer.Option("--minutes", hidden=True)] = None,  # an older name
    epochs: Annotated[
        float | None, typer.Option("--epochs", metavar="N", help="Passes over the training rows, each time.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", metavar="N", help="Updates, each time.")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="NAME",
            help="Strategies: text, image, joint (or joint-concat, -mean, -weighted, -sum), unified, cross. "
            "May be repeated.",
        ),
    ] = None,
    recipe: RecipeFile = None,
    sets: Settings = None,
    kind: Kinds = None,
    ignore: Ignore = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of weights, order and augmentation.")] = None,
    split_column: SplitColumn = None,
    group_column: GroupColumn = None,
    lang: Language = "en",
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the verdict.")] = False,
) -> None:
    """Say with intervals whether joining images and text helps on a table, and which way is best."""
    from rebus import api
    from rebus.comparison.outputs import tables

    settings = [
        *given(
            seed=seed,
            train__time_limit=minutes if time_limit is None else time_limit,
            train__epochs=epochs,
            train__steps=steps,
            data__split__column=split_column,
            data__split__group=group_column,
            data__ignore=ignore or None,
        ),
        *kind_settings(kind),
        *(sets or []),
    ]
    comparison = api.compare(
        data,
        task=task,
        recipe=recipe,
        out=out,
        settings=settings,
        folds=folds,
        repeats=repeats,
        only=only or (),
        lang=lang,
        quiet=quiet,
        command=shlex.join(["rebus", *sys.argv[1:]]),
    )
    if not quiet:
        table = tables(comparison)[0]
        shown = [["" if cell is None else str(cell) for cell in row[:7]] for row in table.rows]
        show_table([str(head) for head in table.columns[:7]], shown)
    say(comparison.verdict)
    if not quiet:
        say(str(comparison.folder / "compare.html"))
