"""How honest the explanations are, where that was measured, or how to measure it."""

from __future__ import annotations

from rebus.explain.honesty.store import read_honesty
from rebus.report.contents import Section
from rebus.report.honesty import honesty_section
from rebus.report.sections.subject import Subject


def honesty(subject: Subject) -> Section | None:
    """What explain.json holds; None where nothing was measured. Raises RunError: it is damaged."""
    return honesty_section(read_honesty(subject.run.folder), subject.lang)
