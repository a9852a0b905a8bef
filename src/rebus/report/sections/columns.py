"""What each column of numbers, categories and dates adds to the figures, where such columns are inputs."""

from __future__ import annotations

from rebus.catalogue import translate_list, translate_name, translator
from rebus.report import labels
from rebus.report.contents import Section, Table
from rebus.report.differences import signed, span
from rebus.report.sections.subject import Subject

SHOWN = 20  # columns of a table


def columns(subject: Subject) -> Section | None:
    """A table a task, the columns that add most first; None where no column is an input by itself."""
    lang, texts = subject.lang, translator("columns_section", subject.lang)
    value = subject.evaluation.get("columns", {})
    if not value:
        return None
    tables, text = [], [texts("text", split=translate_name("split", subject.split, lang))]
    for task, message in value.items():
        metric = message["metric"]
        rows = [
            [name, signed(loss["lost"], metric), span(loss["low"], loss["high"], metric, lang).strip("()（）")]
            for name, loss in list(message["losses"].items())[:SHOWN]
        ]
        heads = translate_list("columns_section.heads", lang, metric=labels.metric_name(metric, lang))
        tables.append(Table(texts("table", task=task, rows=message["rows"]), heads, rows, shares=False))
        sure = [name for name, loss in message["losses"].items() if loss["low"] > 0]
        text.append(texts("adds" if sure else "nothing", task=task, columns=", ".join(sure[:SHOWN])))
    return Section("columns", texts("title"), text, tables=tables, after="tables")
