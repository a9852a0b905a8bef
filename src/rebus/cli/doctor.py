"""``rebus doctor``: a block to paste into a bug report."""

from __future__ import annotations

from rebus.cli.shared import say


def doctor() -> None:
    """Print versions, devices, threads, free disk and optional parts; nothing that names you or your machine."""
    from rebus.doctor import examine

    for title, facts in examine().items():
        say(f"{title}")
        for name, value in facts.items():
            say(f"  {name}: {value}")
