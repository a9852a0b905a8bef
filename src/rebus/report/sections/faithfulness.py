"""How honest the explanations are, where that was measured, or how to measure it."""

from __future__ import annotations

from rebus.explain.faithfulness.store import read_faithfulness
from rebus.report.contents import Section
from rebus.report.faithfulness import faithfulness_section
from rebus.report.sections.subject import Subject


def faithfulness(subject: Subject) -> Section | None:
    """What explain.json holds; None where nothing was measured. Raises RunError: it is damaged."""
    return faithfulness_section(read_faithfulness(subject.run.folder), subject.lang)
