"""``rebus verify``: whether a finished Run's files are those that training left."""

from __future__ import annotations

import typer

from rebus.cli.shared import RunFolder, say


def verify(run: RunFolder) -> None:
    """Read every file of a finished Run and compare it with digests.json; status 1 where one is damaged."""
    from rebus import api

    found = api.verify(run)
    for one in found.differences:
        harmless = one.sort == "editable"
        say(f"{one.name}: {one.found}" + (" (people may edit it)" if harmless else ""), "yellow" if harmless else "red")
    say(f"{found.files} files compared: " + ("the Run is whole" if found.whole else "the Run is damaged"))
    if not found.whole:
        raise typer.Exit(1)
