"""Of a Run on raw text: the held-out documents that it foresees best and worst."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rebus.catalogue import translator
from rebus.errors import RebusError
from rebus.evaluation.held_out import held_out
from rebus.report.contents import Cell, Section, Table
from rebus.report.sections.subject import Subject
from rebus.resolve.corpus import saved_shards
from rebus.tasks.likelihood import LikelihoodTask

LOOKED_AT, SHOWN, LETTERS = 48, 4, 280


@dataclass(frozen=True)
class Judged:
    """Beginnings of held-out documents with what each costs: bits a byte, or the share of words guessed."""

    texts: tuple[str, ...]
    figures: tuple[float, ...]
    masked: bool


def documents(subject: Subject) -> Section | None:
    """Tables of the best and the worst; None of a Run on a table."""
    if not subject.is_language_run:
        return None
    texts, result = translator("held_out", subject.lang), judged(subject)
    if result is None or not result.texts:
        return None
    order = np.argsort(result.figures, kind="stable")
    order = order[::-1] if result.masked else order
    half = max(1, min(SHOWN, len(order) // 2))
    heads = [texts("document"), texts("right" if result.masked else "bits")]
    tables = []
    for key, places in (("best", order[:half]), ("worst", order[::-1][:half])):
        rows: list[list[Cell]] = [[result.texts[i], round(result.figures[i], 3)] for i in places.tolist()]
        tables.append(Table(texts(key), heads, rows, shares=result.masked))
    text = texts("text", count=len(result.texts), letters=LETTERS)
    return Section("documents", texts("title"), [text], tables=tables, after="tables")


def explained_texts(subject: Subject, most: int) -> list[str]:
    """Beginnings of held-out documents to be explained, short ones."""
    result = judged(subject)
    if result is None:
        return []
    return [text[:80] for text in result.texts[:: max(1, len(result.texts) // max(most, 1))][:most]]


def judged(subject: Subject) -> Judged | None:
    """Held-out documents with their figures; None, with a warning, where the shards are gone."""
    if "documents" not in subject.kept:
        subject.kept["documents"] = _judged(subject)
    result: Judged | None = subject.kept["documents"]
    return result


def _judged(subject: Subject) -> Judged | None:
    predictor = subject.predictor
    try:
        shards = saved_shards(subject.run.folder, subject.recipe, predictor.processor.tokenizer)
    except RebusError as error:
        subject.warn("held_out.gone_why", error)
        return None
    if shards is None:
        subject.warn("held_out.gone")
        return None
    kept = held_out(shards)
    if kept is None:
        return None
    tokenizer = predictor.processor.tokenizer
    places = np.unique(np.linspace(0, len(kept) - 1, min(LOOKED_AT, len(kept))).round().astype(int)).tolist()
    documents = [tokenizer.decode(kept[place][: 4 * LETTERS].tolist()).strip()[:LETTERS] for place in places]
    documents = [text for text in documents if text]
    task = next(iter(predictor.tasks.values()))
    if not isinstance(task, LikelihoodTask):
        return None
    predictions = task.foresee(predictor, documents, range(len(documents)))
    values = tuple(float(prediction.value) for prediction in predictions)
    return Judged(tuple(documents), values, masked=task.higher_is_better)
