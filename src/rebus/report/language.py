"""The report of a run on raw text: what was read how fast, what a byte costs, what the model wrote on the way."""

from __future__ import annotations

import os
import shlex
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rebus._version import __version__
from rebus.catalogue import Translator, rendered, translate, translate_list, translate_name, translator
from rebus.errors import RunError
from rebus.report.contents import Plot, ReportData, Result, Table
from rebus.report.hub import hub_metadata
from rebus.report.labels import figure
from rebus.report.plots import plot_curves
from rebus.report.sections.about import kept_weights, settled
from rebus.report.sections.machine import machine_rows
from rebus.report.sections.subject import Subject
from rebus.tasks import TASKS

SAMPLES = 12  # shown at most


def describe_language_run(subject: Subject, results: list[Result]) -> ReportData:
    """Everything that a Run on raw text can tell of itself.

    Args:
        subject: a finished Run.
        results: its figures beside their baselines.

    Raises:
        RunError: a file of it is damaged.
    """
    run, lang, recipe = subject.run, subject.lang, subject.recipe
    texts, trained, records = translator("language_run", lang), subject.trained, run.metrics()
    task, name = recipe.tasks[0].name, Path(recipe.data.path).stem
    text, judged = trained["text"]["train"], trained.get("judged")
    check = _checked(subject)
    tower, block = recipe.model.text, recipe.corpus.block
    rows = recipe.train.batch_size
    read = trained["steps"] * rows * block * (1 - check["waste"]) / max(text["tokens"], 1)
    where, folder = Path(recipe.data.path).name, shlex.quote(str(run.folder))
    data = ReportData(
        title=texts("title", name=name, kind=texts(task)),
        summary=texts(
            "summary",
            parameters=trained["parameters"],
            how=recipe.base or texts("nothing"),
            megabytes=text["bytes"] / 1e6,
            tokens=text["tokens"],
            minutes=trained["seconds"] / 60,
            cores=trained.get("machine", {}).get("cores", os.cpu_count() or 1),
        ),
        facts=[
            *_paired(
                translate_list("language_run.facts", lang),
                task,
                str(tower.depth),
                str(tower.width),
                str(tower.heads),
                f"{tower.rows or recipe.text.vocab_size:,}",
                f"{trained['parameters']:,}",
                recipe.model.size or "",
                f"{trained['steps']:,} ({translate_name('end', trained['stopped_because'], lang)})",
                f"{rows} x {block}",
            ),
            (texts("skipped"), str(len(trained["skipped_steps"]))),
            *kept_weights(subject),
        ],
        data=[
            *_paired(
                translate_list("language_run.data", lang),
                where,
                f"{check['rows']:,}",
                f"{text['tokens']:,}",
                f"{text['bytes'] / max(text['tokens'], 1):.2f}",
                f"{read:.2g}",
                f"{check['waste']:.1%}",
            ),
            *((texts("left", why=why), f"{count:,}") for why, count in _left_out(check).items()),
        ],
        splits={translate_name("split", split, lang): counts["documents"] for split, counts in trained["text"].items()},
        notes=[rendered(note, lang) for note in subject.inference.get("notes", [])],
        results=results,
        judged_on=texts("judged", **judged, kilobytes=judged["bytes"] / 1e3) if judged else trained["judged_on"],
        hardware=[
            *_paired(translate_list("language_run.speed", lang), *_speed(trained, records)),
            *machine_rows(subject),
        ],
        commands=[
            (texts("commands.write"), f'rebus generate {folder} "..."'),
            (texts("commands.judge"), f"rebus evaluate {folder} TEXT"),
            (texts("commands.explain"), f'rebus explain {folder} --text "..."'),
            (texts("commands.flow"), f'rebus flow {folder} --text "..."'),
            (
                texts("commands.again"),
                f"rebus train {shlex.quote(where)} --recipe {folder}/recipe.yaml{settled(subject)} --out again",
            ),
            (texts("commands.tune"), f"rebus train TABLE --from {folder}"),
        ],
        limits=translate_list("language_run.limits", lang, block=block),
        recipe=recipe.save_text(),
        created=time.strftime("%Y-%m-%d"),
        version=__version__,
        tags=["rebus", task],
        dataset=name,
        hub=hub_metadata(run),
    )
    if TASKS.get(task).hides_words:
        data.commands = [
            command for command in data.commands if command[0] not in (texts("commands.write"), texts("commands.judge"))
        ]
    data.tables = [table for table in (_packers(trained, results, texts), _samples(records, task, texts)) if table]
    if records:
        plain = [_without_perplexity(line) for line in records]
        data.plots = [
            Plot(translate("charts.curves", lang), plot_curves(run.folder / "plots" / "curves.png", plain, lang))
        ]
    return data


def _checked(subject: Subject) -> dict[str, Any]:
    """check.json. Raises RunError: it is missing, or not what training on raw text wrote."""
    run = subject.run
    result: dict[str, Any] = run.read_json("check.json")
    if not {"rows", "waste", "cleaning"} <= set(result):
        do = "restore the file from a copy; `rebus train` writes it once"
        raise RunError(run.folder / "check.json", "rows, waste and cleaning, as training wrote", "none of them", do)
    return result


def _paired(names: Sequence[str], *values: str) -> list[tuple[str, str]]:
    return [(name, value) for name, value in zip(names, values, strict=True) if value]


def _left_out(check: dict[str, Any]) -> dict[str, int]:
    return {str(why): int(count) for why, count in check["cleaning"].get("left_out", {}).items() if count}


def _speed(trained: dict[str, Any], records: list[dict[str, Any]]) -> list[str]:
    """Median tokens a second and the share of the machine's peak."""
    lines = [line for line in records if line.get("kind") == "train" and line.get("tokens_per_second")]
    rate = statistics.median(line["tokens_per_second"] for line in lines) if lines else 0.0
    shares = [line["share_of_peak"] for line in lines if line.get("share_of_peak")]
    peak = trained.get("peak_flops", 0.0)
    return [
        f"{rate:,.0f}" if rate else "",
        f"{statistics.median(shares):.0%} ({peak / 1e9:,.0f} GFLOP/s)" if shares else "",
    ]


def _packers(trained: dict[str, Any], results: list[Result], texts: Translator) -> Table | None:
    """What compressors and token frequencies need for the same text."""
    own = next((result for result in results if result.metric == "bits_per_byte"), None)
    if own is None or "packers" not in trained:
        return None
    values = dict(trained["packers"])
    if own.baseline is not None:
        values[own.baseline_name] = own.baseline
    values[texts("model")] = own.value
    rows = [[name, figure(value, own.metric)] for name, value in values.items()]
    return Table(texts("packers"), [texts("how"), texts("bits")], rows, texts("packers_note"), shares=False)


def _samples(records: list[dict[str, Any]], task: str, texts: Translator) -> Table | None:
    lines = [line for line in records if line.get("kind") == "sample"]
    if not lines:
        return None
    step = -(-len(lines) // SAMPLES)
    rows = [[str(line["step"]), str(line["text"])] for line in lines[::-1][::step][::-1]]
    note = texts("masked_note") if TASKS.get(task).hides_words else ""
    return Table(texts("samples"), [texts("step"), texts("text")], rows, note, shares=False)


def _without_perplexity(line: dict[str, Any]) -> dict[str, Any]:
    """A line for the curves: perplexity, hundreds of times as large as the other figures, would flatten them."""
    if line.get("kind") != "valid":
        return line
    kept = {name: value for name, value in line["metrics"].items() if not name.endswith("perplexity")}
    return {**line, "metrics": kept}
