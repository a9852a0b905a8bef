"""The page Compare: Runs side by side, and what a comparison of strategies found."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from rebus.catalogue import translate
from rebus.checkpoints.run_folder import Run
from rebus.errors import RunError, StudioError
from rebus.report import labels
from rebus.report.images import png_address
from rebus.studio.panel import FAULTS, Html, command, esc, grid, label, note, panel, problem
from rebus.studio.streaming import TYPED

if TYPE_CHECKING:
    from rebus.studio.session import Desk

_MOST = 12  # Runs side by side
_LOWER = frozenset({"mae", "rmse", "perplexity", "bits_per_byte", "ece", "uniformity", "alignment"})


@dataclass
class Side:
    """What one Run tells of itself.

    Attributes:
        name: its folder.
        figures: (task, metric): (value, low, high, baseline).
        facts: key of a heading: text.
    """

    name: str
    figures: dict[tuple[str, str], tuple[float, float | None, float | None, float | None]] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)


def build(desk: Desk) -> None:
    """Lay out the page and wire it."""
    speaker = desk.speaker
    with gr.Row(elem_classes=["rebus-end"]):
        folder = speaker.make(gr.Dropdown, "compare.folder", **TYPED, scale=4)
        look = speaker.make(gr.Button, "compare.look", variant="primary", min_width=120)
    chosen = speaker.make(gr.CheckboxGroup, "compare.runs", choices=[])
    shown = panel("compare-shown", note(translate("compare.empty", speaker.lang)))

    def result(typed: str, lang: str) -> tuple[Any, str]:
        try:
            root = desk.places.inside(typed, "what.folder") if (typed or "").strip() else desk.places.home
            if not root.is_dir():
                raise StudioError.of("problem.no_folder", typed=typed)
            names = [desk.places.shown(path) for path in desk.places.runs() if root == path or root in path.parents]
        except FAULTS as error:
            return gr.update(choices=[], value=[]), problem(lang, error)
        value = names[:4]
        return gr.update(choices=names, value=value), drawn(desk, lang, typed, value)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    draw: Any = lambda lang, typed, names: drawn(desk, lang, typed, names)  # noqa: E731
    gr.on([look.click, folder.input], result, [folder, desk.lang], [chosen, shown], **quiet)
    chosen.input(draw, [desk.lang, folder, chosen], shown, **quiet)
    folders: Any = lambda: gr.update(choices=sorted({desk.places.shown(path.parent) for path in desk.places.runs()}))  # noqa: E731
    desk.on_open(folders, [], [folder])
    speaker.redraw(draw, [folder, chosen], shown)


def drawn(desk: Desk, lang: str, typed: str, names: list[str]) -> str:
    """The Runs' table, then every comparison of strategies below the folder."""
    parts: list[str] = []
    commands: list[list[str]] = []
    try:
        root = desk.places.inside(typed, "what.folder") if (typed or "").strip() else desk.places.home
        sides = [side(desk.places.inside(name, "what.run"), desk.places.shown(Path(name))) for name in names[:_MOST]]
        if sides:
            parts.append(beside(lang, sides))
            commands += [["evaluate", side.name] for side in sides]
        for path in sorted({root / "compare.json", *root.glob("*/compare.json"), *root.glob("*/*/compare.json")}):
            if path.is_file() and desk.places.holds(path):
                folder = desk.places.shown(path.parent)
                parts.append(strategies(lang, path, folder))
                commands.append(["compare", "TABLE", "--out", folder])
        parts.append(command(lang, *commands))
    except FAULTS as error:
        parts.append(problem(lang, error))
    return "".join(parts) or note(translate("compare.none", lang))


def side(folder: Path, name: str) -> Side:
    """A Run's figures and facts; of an unfinished one what is known. Raises RunError."""
    run = Run.begun(folder)
    recipe, result = run.recipe, run.evaluation
    built = Side(name)
    for task, score in result.get("tasks", {}).items():
        for metric, value in score.get("metrics", {}).items():
            low, high = score.get("intervals", {}).get(metric, (None, None))
            built.figures[task, metric] = (value, low, high, score.get("baseline", {}).get(metric))
    trained = result.get("training", {})
    model = recipe.model
    towers = " + ".join(tower.kind for tower in (model.image, model.text) if tower.kind != "none")
    built.facts = {
        "compare.tasks": ", ".join(task.name for task in recipe.tasks),
        "compare.fusion": model.fusion.kind + (f" ({model.fusion.how})" if model.fusion.kind == "joint" else ""),
        "compare.towers": towers,
        "compare.parameters": f"{trained['parameters']:,}" if "parameters" in trained else "",
        "compare.minutes": f"{trained['seconds'] / 60:.1f}" if "seconds" in trained else "",
        "compare.steps": f"{trained['steps']:,}" if "steps" in trained else "",
        "compare.data": Path(recipe.data.path).name if recipe.data.path else "",
        "compare.seed": str(recipe.seed),
    }
    return built


def beside(lang: str, sides: list[Side]) -> str:
    """One row a figure or fact, one column a Run."""
    keys = list(dict.fromkeys(key for item in sides for key in item.figures))
    rows: list[list[object]] = []
    for task, metric in keys:
        values = [item.figures.get((task, metric)) for item in sides]
        known = [value[0] for value in values if value is not None]
        best = (min if metric in _LOWER else max)(known)
        cells: list[object] = [f"{task}: {labels.metric_name(metric, lang)}"]
        for value in values:
            cells.append(
                Html(_cell(lang, metric, value, best=len(known) > 1 and value is not None and value[0] == best))
            )
        rows.append(cells)
    for key in sides[0].facts:
        rows.append([translate(key, lang), *(item.facts.get(key, "") or "–" for item in sides)])
    return f"<h2>{label('compare.beside', lang)}</h2>" + grid(
        [translate("compare.what", lang), *(item.name for item in sides)],
        rows,
        caption=translate("compare.caption", lang),
    )


def _cell(
    lang: str, metric: str, value: tuple[float, float | None, float | None, float | None] | None, *, best: bool
) -> str:
    if value is None:
        return "–"
    at, low, high, base = value
    text = esc(labels.figure(at, metric))
    text = f"<strong>{text}</strong>" if best else text
    if low is not None and high is not None:
        text += f'<span class="sub">{esc(labels.interval((low, high), metric))}</span>'
    if base is not None:
        text += f'<span class="sub">{label("compare.baseline", lang, figure=labels.figure(base, metric))}</span>'
    return text


def strategies(lang: str, path: Path, name: str) -> str:
    """What ``rebus compare`` left in a folder: its verdict, its table and its plot. Raises RunError."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        metric = result["metric"]
        rows: list[list[object]] = []
        for arm in result["arms"]:
            value, low, high = arm["figure"]
            gain = (arm["gains"] or {}).get(result["best_single"])
            rows.append(
                [
                    arm["name"],
                    labels.figure(value, metric),
                    labels.interval((low, high), metric),
                    f"{gain['value']:+.3f} (p {gain['holm']:.3g})" if gain and gain.get("holm") is not None else "–",
                    f"{arm['parameters']:,}",
                    f"{arm['seconds']:.0f}",
                ]
            )
        verdict = str(result.get("verdict", ""))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            path, "what `rebus compare` writes", f"'{error}'", "compare again, or delete the file"
        ) from error
    headings = [
        translate("compare.strategy", lang), labels.metric_name(metric, lang), translate("compare.interval", lang),
        translate("compare.gain", lang, single=result["best_single"] or "–"), translate("compare.parameters", lang),
        translate("compare.seconds", lang),
    ]  # fmt: skip
    html = f"<h2>{label('compare.strategies', lang, name=name)}</h2><p>{esc(verdict)}</p>{grid(headings, rows)}"
    plot = path.with_suffix(".png")
    if plot.is_file():
        html += f'<img src="{png_address(plot)}" alt="{label("compare.plot", lang)}" style="max-width:min(100%,720px)">'
    return html
