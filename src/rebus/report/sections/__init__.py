"""The sections of a Run's report, one file an idea. To add one, write a maker and put it into ``SECTIONS``.

A maker is given the Subject (the Run, its files, its model, the words of one language) and gives a Section, or None
where it has nothing to say. Sections that follow the same part of the page (``Section.after``) stand in the order of
the list. A maker that meets a RebusError does not stop the report: the error is told among the warnings.
"""

from __future__ import annotations

from collections.abc import Callable

from rebus.report.contents import Section
from rebus.report.sections.ablation import ablation
from rebus.report.sections.columns import columns
from rebus.report.sections.explained import explained
from rebus.report.sections.faithfulness import faithfulness
from rebus.report.sections.groups import groups
from rebus.report.sections.held_out import documents
from rebus.report.sections.leakage import leakage
from rebus.report.sections.machine import energy
from rebus.report.sections.reproduce import reproduce
from rebus.report.sections.subject import Subject

SectionMaker = Callable[[Subject], Section | None]

SECTIONS: list[SectionMaker] = [
    documents,
    groups,
    columns,
    ablation,
    explained,
    faithfulness,
    leakage,
    energy,
    reproduce,
]

__all__ = ["SECTIONS", "SectionMaker", "Subject"]
