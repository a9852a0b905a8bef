"""The main figure for groups of rows apart: values of columns that were not learned from, English and Chinese text."""

from __future__ import annotations

from rebus.catalogue import translate_list, translator
from rebus.evaluation.subgroups import LANGUAGE, LEAST, Groups, group_figures
from rebus.report import labels
from rebus.report.contents import Cell, Section, Table
from rebus.report.sections.subject import Subject


def groups(subject: Subject) -> Section | None:
    """A table for each task and column; None where there is nothing to tell apart."""
    texts, tables = translator("groups", subject.lang), []
    for task, result in _found(subject).items():
        note = texts("some", rows=result[1]) if result[1] else ""
        tables += [_table(subject, task, column, figures, note) for column, figures in result[0].items()]
    return Section("groups", texts("title"), [texts("text")], tables=tables, after="tables") if tables else None


def _found(subject: Subject) -> dict[str, tuple[Groups, int]]:
    """Task: figures by column, and of how many rows where not of all that were judged."""
    kept = subject.evaluation.get("groups")
    if kept is not None or "machine" in subject.trained:  # a Run that kept what there was
        return {task: (figures, 0) for task, figures in (kept or {}).items()}
    result: dict[str, tuple[Groups, int]] = {}
    for item in subject.looked:
        assert subject.table is not None  # noqa: S101 - rows were looked at
        figures = group_figures(subject.recipe, item.task, item.source.values, item.rows, item.told, subject.table)
        if figures:
            result[item.task.name] = (figures, len(item.rows))
    return result


def _table(subject: Subject, task: str, column: str, figures: dict[str, dict[str, float]], note: str) -> Table:
    texts, lang = translator("groups", subject.lang), subject.lang
    metric = getattr(subject.predictor.tasks.get(task), "watch", "")
    known = {name: texts(f"names.{name}") for name in figures} if column == LANGUAGE else {}
    rows: list[list[Cell]] = []
    for name, item in figures.items():
        value: Cell = item["value"] if labels.is_share(metric) else labels.figure(item["value"], metric)
        bounds = labels.interval((item["low"], item["high"]), metric)
        rows.append([known.get(name, name), value, bounds, int(item["count"])])
    heads = translate_list("groups.columns", lang, metric=labels.metric_name(metric, lang))
    notes = [note] if note else []
    if any(figure["count"] < LEAST for figure in figures.values()):
        notes.append(texts("few", least=LEAST))
    apart = _apart(figures, metric)
    if apart:
        worst, best = (
            item if column == LANGUAGE else f"{column} = {item}" for item in (known.get(n, n) for n in apart)
        )
        notes.append(texts("apart", worst=worst, best=best))
    title = texts("table", task=task, column=texts("language") if column == LANGUAGE else column)
    return Table(title, heads, rows, ("" if lang == "zh" else " ").join(notes))


def _apart(figures: dict[str, dict[str, float]], metric: str) -> tuple[str, str] | None:
    """The worst and the best group, where their intervals do not meet."""
    from rebus.tasks.metrics import LOWER_IS_BETTER

    usable = {name: item for name, item in figures.items() if item["count"] >= LEAST}
    if len(usable) < 2:
        return None
    order = sorted(usable, key=lambda name: usable[name]["value"], reverse=metric in LOWER_IS_BETTER)
    worst, best = order[0], order[-1]
    low, high = (worst, best) if metric not in LOWER_IS_BETTER else (best, worst)
    return (worst, best) if usable[low]["high"] < usable[high]["low"] else None
