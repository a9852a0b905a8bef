"""``rebus demo``: from nothing to a model that answers about images by artists it never saw."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rebus.cli.shared import Language, say


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the demo puts its table and its Run.")
    ] = Path("demo"),
    write: Annotated[
        Path | None,
        typer.Option("--write", metavar="FOLDER", help="Only write the demo's table of scenes there; train nothing."),
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option("--time-limit", metavar="MINUTES", help="Train for this long.")
    ] = None,
    minutes: Annotated[float | None, typer.Option("--minutes", hidden=True)] = None,  # an older name
    lang: Language = "en",
) -> None:
    """Train on images by six artists, then answer questions about images by two others."""
    from rebus import api

    if write is not None:
        say(f"Written: {api.write_demo(write)}")
        return
    api.run_demo(out, time_limit=minutes if time_limit is None else time_limit, lang=lang)
