"""How the rows were split, and whether what was held out was really unseen."""

from __future__ import annotations

from rebus.catalogue import Translator, rendered, translator
from rebus.data.names import tidy
from rebus.report.contents import Section, Table
from rebus.report.sections.subject import Subject

SHOWN = 10


def leakage(subject: Subject) -> Section:
    """The way of splitting, then what was found on both sides."""
    texts, check, lang = translator("leakage", subject.lang), subject.check, subject.lang
    points = _ways(subject, texts)
    tables = []
    if subject.is_language_run:
        points.append(texts("corpus_same" if subject.recipe.corpus.clean.exact else "corpus_kept"))
    elif "leaks" not in check:
        points.append(texts("unknown"))
    else:
        leaks = check["leaks"]
        points.append(texts("some", count=leaks["count"]) if leaks["count"] else texts("none"))
        for survey in check.get("images", []):
            points.append(texts("sampled", different=survey["different"], decoded=survey["decoded"]))
        if leaks["count"]:
            rows = [[rendered(item, lang), rendered(other, lang)] for item, other in leaks["first"][:SHOWN]]
            tables.append(Table(texts("first"), [texts("held_out"), texts("training")], rows, shares=False))
    for key in ("duplicates", "broken"):
        count = check.get({"duplicates": "duplicate_rows", "broken": "bad_rows"}[key], {}).get("count", 0)
        if count:
            points.append(texts(key, count=count))
    return Section("leakage", texts("title"), points=points, tables=tables, after="data")


def _ways(subject: Subject, texts: Translator) -> list[str]:
    split = subject.recipe.data.split
    if subject.is_language_run:
        return [texts("corpus", valid=split.valid)]
    named = next((name for name in subject.recipe.data.kinds if tidy(name) in ("split", "划分")), None)
    column = split.column or named
    if split.folds is not None:  # whatever a column says
        ways = [texts("folds", folds=split.folds, fold=split.fold + 1)]
    elif column is not None:
        return [texts("column", column=column)]
    else:
        ways = [texts("dealt", valid=split.valid, test=split.test)]
    return ways + ([texts("group", group=split.group)] if split.group is not None else [])
