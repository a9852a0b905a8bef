"""How to get the same model again: seed, versions, the data's fingerprint, what else must be the same."""

from __future__ import annotations

from typing import Any

from rebus.catalogue import Translator, translator
from rebus.data.duplicates import fingerprint
from rebus.report.contents import Section
from rebus.report.sections.machine import versions_of
from rebus.report.sections.subject import Subject
from rebus.resolve.corpus import saved_shards


def reproduce(subject: Subject) -> Section:
    """Seed, versions and fingerprints."""
    texts, trained = translator("reproduce", subject.lang), subject.trained
    versions = ", ".join(f"{name} {number}" for name, number in versions_of(subject).items())
    facts = [
        (texts("seed"), str(subject.recipe.seed)),
        (texts("start"), subject.recipe.base or texts("nothing")),
        (texts("processes"), str(trained.get("processes", 1))),
        (texts("versions"), versions or texts("unknown")),
        *(_corpus(subject, texts) if subject.is_language_run else _table(subject, texts)),
    ]
    return Section("reproduce", texts("title"), text=[texts("text")], facts=facts, after="commands")


def _table(subject: Subject, texts: Translator) -> list[tuple[str, str]]:
    kept = subject.check.get("fingerprint", "")
    facts = [(texts("data"), texts("data_is", fingerprint=kept) if kept else texts("unknown"))]
    table = subject.table
    if table is None:
        return [*facts, (texts("now"), texts("gone"))]
    if kept:
        now = fingerprint(table)
        facts.append((texts("now"), texts("same") if now == kept else texts("changed", fingerprint=now)))
    return facts


def _corpus(subject: Subject, texts: Translator) -> list[tuple[str, str]]:
    shards = saved_shards(subject.run.folder, subject.recipe, subject.predictor.processor.tokenizer)
    source: dict[str, Any] = getattr(shards.manifest, "source", {}) if shards is not None else {}
    kept = str(source.get("fingerprint", ""))[:32]
    return [(texts("data"), texts("corpus_is", fingerprint=kept) if kept else texts("unknown"))]
