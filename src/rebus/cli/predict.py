"""``rebus predict``: a table in, the same table with predictions out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rebus.cli.shared import DataPath, RunFolder, say


def predict(
    run: RunFolder,
    data: DataPath,
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FILE", help="Where to write; the suffix decides: .csv, .jsonl or .parquet."),
    ],
    split: Annotated[
        str | None, typer.Option("--split", help="Only these rows: train, valid or test; else all.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Predict every row of a table, of any size, and write a table."""
    from rebus import api

    summary = api.predict(run, data, out, split=split, quiet=quiet)
    skipped = f", {summary.skipped} rows left out" if summary.skipped else ""
    if summary.absent:
        names = ", ".join(summary.absent)
        say(f"columns that the model reads and the table lacks, taken as missing: {names}", style="yellow", err=True)
    if summary.cut:
        say(f"{summary.cut} (text.max_length of the Run's recipe)", style="yellow", err=True)
    say(f"{summary.rows} rows in {summary.seconds:.1f} s{skipped}: {out}")
