"""``rebus doctor``: a block to paste into a bug report."""

from __future__ import annotations

from typing import Annotated

import typer

from rebus.cli.shared import say


def doctor(
    plugins: Annotated[
        bool, typer.Option("--plugins", help="List what other packages add, and whether it works.")
    ] = False,
) -> None:
    """Print versions, devices, threads, free disk and optional parts; nothing that names you or your machine."""
    from rebus.doctor import examine, plugin_states

    for title, facts in (plugin_states() if plugins else examine()).items():
        say(f"{title}")
        for name, value in facts.items():
            say(f"  {name}: {value}")
