"""Of a Run on raw text: the held-out documents that it foresees best and worst."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rebus.errors import RebusError
from rebus.evaluation.held_out import held_out
from rebus.inference.likelihood import foresee_texts, guess_texts
from rebus.report.contents import Cell, Section, Table
from rebus.report.sections.subject import Subject
from rebus.resolve.corpus import saved_shards
from rebus.tasks import Lm, Mlm

LOOKED_AT, SHOWN, LETTERS = 48, 4, 280
SAID: dict[str, dict[str, str]] = {
    "en": {
        "title": "Held-out documents",
        "text": "{count} held-out documents, spread over all; of each the first {letters} characters.",
        "best": "foreseen best",
        "worst": "foreseen worst",
        "bits": "bits per byte",
        "right": "hidden tokens guessed",
        "document": "beginning of the document",
        "gone": "no examples: the shards that it was trained from are not there any more",
    },
    "zh": {
        "title": "留出的文档",
        "text": "从全部留出文档中均匀取 {count} 篇，每篇看前 {letters} 个字符。",
        "best": "预测得最好的",
        "worst": "预测得最差的",
        "bits": "每字节比特数",
        "right": "掩码词元猜中率",
        "document": "文档开头",
        "gone": "没有示例：训练用的分片已不在原处",
    },
}


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
    said, found = SAID[subject.lang], judged(subject)
    if found is None or not found.texts:
        return None
    order = np.argsort(found.figures, kind="stable")
    order = order[::-1] if found.masked else order
    half = max(1, min(SHOWN, len(order) // 2))
    heads = [said["document"], said["right" if found.masked else "bits"]]
    tables = []
    for key, places in (("best", order[:half]), ("worst", order[::-1][:half])):
        rows: list[list[Cell]] = [[found.texts[i], round(found.figures[i], 3)] for i in places.tolist()]
        tables.append(Table(said[key], heads, rows, shares=found.masked))
    text = said["text"].format(count=len(found.texts), letters=LETTERS)
    return Section("documents", said["title"], [text], tables=tables, after="tables")


def explained_texts(subject: Subject, most: int) -> list[str]:
    """Beginnings of held-out documents to be explained, short ones."""
    found = judged(subject)
    if found is None:
        return []
    return [text[:80] for text in found.texts[:: max(1, len(found.texts) // max(most, 1))][:most]]


def judged(subject: Subject) -> Judged | None:
    """Held-out documents with their figures; None, with a warning, where the shards are gone."""
    if "documents" not in subject.kept:
        subject.kept["documents"] = _judged(subject)
    found: Judged | None = subject.kept["documents"]
    return found


def _judged(subject: Subject) -> Judged | None:
    said, predictor = SAID[subject.lang], subject.predictor
    try:
        shards = saved_shards(subject.run.folder, subject.recipe, predictor.processor.tokenizer)
    except RebusError as error:
        subject.warnings.append(f"{said['gone']} ({error.where}: {error.found})")
        return None
    if shards is None:
        subject.warnings.append(said["gone"])
        return None
    kept = held_out(shards)
    if kept is None:
        return None
    tokenizer = predictor.processor.tokenizer
    places = np.unique(np.linspace(0, len(kept) - 1, min(LOOKED_AT, len(kept))).round().astype(int)).tolist()
    texts = [tokenizer.decode(kept[place][: 4 * LETTERS].tolist()).strip()[:LETTERS] for place in places]
    texts = [text for text in texts if text]
    task = next(iter(predictor.tasks.values()))
    if isinstance(task, Mlm):
        told = guess_texts(predictor, task, texts, list(range(len(texts))))
    elif isinstance(task, Lm):
        told = foresee_texts(predictor, texts)
    else:
        return None
    return Judged(tuple(texts), tuple(float(one.value) for one in told), isinstance(task, Mlm))
