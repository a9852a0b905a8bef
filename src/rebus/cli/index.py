"""``rebus index``: a folder or table in, vectors to search in out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rebus.cli.shared import AnyModel, DataPath, Kinds, kind_settings, say


def index(
    run: AnyModel,
    data: DataPath,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The index's folder; without it, index/ in the Run.")
    ] = None,
    kinds: Kinds = None,
) -> None:
    """Embed a collection's images and texts for `rebus find`; what has not changed is not embedded again."""
    from rebus import api

    kind_settings(kinds)  # refuses what is not COLUMN=KIND
    known = {word.rpartition("=")[0]: word.rpartition("=")[2] for word in kinds or []}
    done = api.index(run, data, out=out, kinds=known)
    held = " and ".join(
        f"{count:,} {name}" for count, name in ((done.images, "images"), (done.texts, "texts")) if count
    )
    broken = f", {done.broken} could not be read (index.json lists them)" if done.broken else ""
    say(
        f"{held} in {done.folder}: {done.added:,} embedded now, {done.kept:,} known from before, "
        f"{done.removed:,} gone{broken}; {done.how}; {done.seconds:.1f} s"
    )
