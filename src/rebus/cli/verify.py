"""``rebus verify``: whether a finished Run's files are those that training left."""

from __future__ import annotations

import typer

from rebus.cli.shared import RunFolder, say


def verify(run: RunFolder) -> None:
    """Read every file of a finished Run and compare it with digests.json; status 1 where one is damaged."""
    from rebus import api

    result = api.verify(run)
    for difference in result.differences:
        harmless = difference.sort == "editable"
        say(
            f"{difference.name}: {difference.found}" + (" (people may edit it)" if harmless else ""),
            "yellow" if harmless else "red",
        )
    say(f"{result.files} files compared: " + ("the Run is whole" if result.whole else "the Run is damaged"))
    if not result.whole:
        raise typer.Exit(1)
