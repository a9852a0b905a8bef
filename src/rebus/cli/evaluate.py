"""``rebus evaluate``: measure a Run or another project's checkpoint on a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from rebus.cli.shared import Kinds, RunFolder, console, kind_settings, say

if TYPE_CHECKING:
    from rebus.recipe import Kind


def evaluate(
    run: RunFolder,
    data: Annotated[
        Path | None,
        typer.Argument(metavar="DATA", help="A table or folder; without one, the table that the Run was trained from."),
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="train, valid, test or all.")] = None,
    by: Annotated[
        str | None, typer.Option("--by", metavar="COLUMN", help="Also measure each value of this column.")
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            metavar="TASK",
            help="What to judge: what it was trained for, or choose, generate, translate, converse, answer or lm, "
            "which a language model does untrained. May be repeated.",
        ),
    ] = None,
    kinds: Kinds = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Also write the figures as JSON.")] = None,
) -> None:
    """Measure a Run, or a checkpoint of another project, on rows it was not trained on, beside a naive baseline."""
    from rebus import api
    from rebus.atomic import write_json

    kind_settings(kinds)  # refuses what is not COLUMN=KIND
    known = {word.rpartition("=")[0]: cast("Kind", word.rpartition("=")[2]) for word in kinds or []}
    evaluation = api.evaluate_run(run, data, split=split, by=by, task=task, kinds=known)
    evaluation.render(console())
    if out is not None:
        write_json(out, evaluation.as_dict())
        say(f"Written: {out}")
