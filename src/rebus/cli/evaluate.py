"""``rebus evaluate``: measure a Run on a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rebus.cli.shared import RunFolder, console, say


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
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Also write the figures as JSON.")] = None,
) -> None:
    """Measure a Run on rows it was not trained on, beside its naive baseline."""
    from rebus import api
    from rebus.atomic import write_json

    evaluation = api.evaluate_run(run, data, split=split, by=by)
    evaluation.render(console())
    if out is not None:
        write_json(out, evaluation.as_dict())
        say(f"Written: {out}")
