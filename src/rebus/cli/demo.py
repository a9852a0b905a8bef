"""``rebus demo``: from nothing to a model that answers about pictures by artists it never saw."""

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
    minutes: Annotated[float | None, typer.Option("--minutes", metavar="N", help="Train for this long.")] = None,
    lang: Language = "en",
) -> None:
    """Train on pictures by six artists, then answer questions about pictures by two others."""
    from rebus import api

    if write is not None:
        say(f"Written: {api.write_demo(write)}")
        return
    api.run_demo(out, time_limit=minutes, lang=lang)
