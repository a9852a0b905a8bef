"""``rebus report``: write a Run's report.html again, in either language."""

from __future__ import annotations

from typing import Annotated

import typer

from rebus.cli.shared import RunFolder, say


def report(
    run: RunFolder,
    lang: Annotated[str, typer.Option("--lang", help="en or zh.")] = "en",
) -> None:
    """Write a Run's report.html: one file that needs no network."""
    from rebus import api

    say(str(api.write_report(run, lang=lang)))
