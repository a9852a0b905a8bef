"""A training as it is seen from outside: its state, its curves, what it says meanwhile. Reads files, changes none."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rebus.catalogue import translate
from rebus.checkpoints.run_folder import Run
from rebus.errors import RebusError
from rebus.jsonl import json_lines
from rebus.report import labels
from rebus.studio import jobs
from rebus.studio.auth import PATH
from rebus.studio.curves import curve
from rebus.studio.panel import button, esc, grid, label, note, problem

_SAMPLES, _LINES, _FIGURES, _FIGURES_SHOWN = 6, 12, 2, 4
_SIGNS = {"running": "note", "finished": "good", "stopped": "warn", "failed": "warn", "none": "note"}


def watched(lang: str, folder: Path, job: jobs.Job | None = None, shown: str = "") -> str:
    """What there is to see of a Run's training, as HTML; ``shown`` is its folder as pages write it."""
    job = job or jobs.look(folder)
    records = metrics(folder)
    message = translate(f"train.is_{job.state}", lang, folder=folder.name, owner=job.owner or "")
    parts = [f'<div data-state="{job.state}">{note(message, _SIGNS[job.state])}</div>']
    if job.error is not None:
        parts.append(problem(lang, job.error))
    train = [record for record in records if record.get("kind") == "train" and _number(record.get("loss"))]
    if train:
        last = train[-1]
        share = 1.0 if job.state == "finished" else min(max(float(last.get("progress", 0.0)), 0.0), 1.0)
        figures = {"seconds": last.get("seconds", 0), "rate": last.get("examples_per_second", 0)}
        line = translate("train.step", lang, step=last["step"], share=share, **figures)
        parts.append(
            f'<div class="progress" role="progressbar" aria-valuemin="0" aria-valuemax="100" '
            f'aria-valuenow="{100 * share:.0f}" aria-label="{esc(line)}"><span style="width:{100 * share:.1f}%"></span>'
            f'</div><p class="hint">{esc(line)}</p>'
        )
    if job.state == "finished":
        parts.append(offers(lang, folder, shown))
    parts.append(curves(lang, folder, train, records))
    parts.append(samples(lang, records))
    if job.log.strip():
        tail = "\n".join(job.log.strip().splitlines()[-_LINES:])
        opened = " open" if job.state in ("running", "failed") and not train else ""
        summary = f"<summary>{label('train.log', lang)}</summary>"
        parts.append(f'<details{opened}>{summary}<div class="log" tabindex="0">{esc(tail)}</div></details>')
    return "".join(parts)


def offers(lang: str, folder: Path, shown: str) -> str:
    """What can be done with a Run that is finished, and its figures."""
    run, parts = Run(folder), []
    if shown:
        asks = button("ask", label("train.ask_it", lang)) + button("explore", label("train.explore_it", lang))
        if run.report_path.is_file():
            address = f"{PATH}/report?run={quote(shown)}"
            asks += f'<a href="{esc(address)}" target="_blank" rel="noopener">{label("train.report", lang)}</a>'
        parts.append(f'<div class="offers">{asks}</div>')
    try:
        tasks = run.evaluation.get("tasks", {})
    except RebusError:
        return "".join(parts)
    rows = [
        [
            f"{task}: {labels.metric_name(metric, lang)}",
            labels.figure(value, metric),
            labels.interval(tuple(score["intervals"][metric]), metric) if metric in score.get("intervals", {}) else "–",
            labels.figure(score.get("baseline", {}).get(metric), metric),
        ]
        for task, score in tasks.items()
        for metric, value in list(score.get("metrics", {}).items())[:_FIGURES_SHOWN]
    ]
    names = ("compare.what", "train.value", "compare.interval", "train.baseline")
    headings = [translate(name, lang) for name in names]
    return "".join(parts) + (grid(headings, rows, caption=translate("train.figures", lang)) if rows else "")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl that are whole."""
    result = []
    try:
        text = (folder / "metrics.jsonl").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    for _, line in json_lines(text):
        try:
            content = json.loads(line)
        except json.JSONDecodeError:  # the line that is being written
            continue
        if isinstance(content, dict):
            result.append(content)
    return result


def curves(lang: str, folder: Path, train: list[dict[str, Any]], records: list[dict[str, Any]]) -> str:
    """The loss and the validation's figures, each with its own scale."""
    step = translate("train.steps", lang)
    drawn = []
    if train:
        drawn.append(curve([(item["step"], item["loss"]) for item in train], translate("train.loss", lang), step))
    series: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        if record.get("kind") == "valid":
            for name, value in record.get("metrics", {}).items():
                if _number(value):
                    series.setdefault(name, []).append((record["step"], value))
    for name, points in list(series.items())[:_FIGURES]:
        task, _, metric = name.rpartition("/")
        title = f"{task}: {labels.metric_name(metric, lang)}" if task else labels.metric_name(metric, lang)
        drawn.append(curve(points, translate("train.valid", lang, name=title), step, colour="#b3541e"))
    return f'<div class="curves">{"".join(drawn)}</div>' if drawn else ""


def samples(lang: str, records: list[dict[str, Any]]) -> str:
    """What the model said in between, the latest first."""
    message = [record for record in records if record.get("kind") == "sample" and record.get("text")][-_SAMPLES:]
    if not message:
        return ""
    rows = "".join(
        f"<li>{label('train.at', lang, step=item['step'])} {esc(str(item['text'])[:300])}</li>"
        for item in reversed(message)
    )
    return f'<h3>{label("train.samples", lang)}</h3><ul class="samples">{rows}</ul>'
