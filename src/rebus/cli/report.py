"""``rebus report``: write a Run's report.html again, in either language."""

from __future__ import annotations

from rebus.cli.shared import Language, RunFolder, say


def report(
    run: RunFolder,
    lang: Language = "en",
) -> None:
    """Write a Run's report.html: one file that needs no network."""
    from rebus import api

    say(str(api.write_report(run, lang=lang)))
