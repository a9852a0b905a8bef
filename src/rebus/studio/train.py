"""The page Train: a table looked at, a Run started, watched, stopped and gone on with.

The training is a process of its own (``rebus.studio.jobs``): nothing here is needed for it to finish.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from rebus import recipe
from rebus.catalogue import rendered, translate, translate_name
from rebus.checkpoints.run_folder import Run
from rebus.data.kinds import infer
from rebus.data.readers import read_table
from rebus.errors import DataError, RebusError, StudioError
from rebus.models.modalities import file_kinds
from rebus.resolve.from_table import Checked
from rebus.studio import jobs
from rebus.studio.panel import FAULTS, act_of, command, esc, grid, label, note, panel, problem, working
from rebus.studio.streaming import TYPED
from rebus.studio.watching import watched
from rebus.tasks import TASKS
from rebus.training.dry_run import look_at

if TYPE_CHECKING:
    from rebus.studio.places import Places
    from rebus.studio.session import Desk

EVERY = 1.5  # seconds between looks at a training
_ESTIMATE = 180  # seconds that an estimate may take
_SHOWN = 5  # bad rows and warnings
FUSIONS = ("joint", "unified", "cross")


def build(desk: Desk) -> None:
    """Lay out the page and wire it."""
    speaker = desk.speaker
    looked = gr.State(None)
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=280):
            path = speaker.make(gr.Dropdown, "train.path", **TYPED)
            file = speaker.make(gr.File, "train.file", elem_classes=["rebus-drop"])
            look = speaker.make(gr.Button, "train.look")
        with gr.Column(scale=3, min_width=280):
            with gr.Row():
                tasks = speaker.make(gr.Dropdown, "train.tasks", choices=TASKS.names(), multiselect=True, min_width=150)
                fusion = speaker.make(gr.Dropdown, "train.fusion", choices=["", *FUSIONS], value="", min_width=120)
            with gr.Row():
                minutes = speaker.make(gr.Number, "train.minutes", value=5, minimum=0, maximum=10080, min_width=120)
                out = speaker.make(gr.Dropdown, "train.out", **TYPED, min_width=150)
            more = speaker.make(gr.Textbox, "train.more", {"placeholder": "train.more_hint"}, lines=2, max_length=4000)
    with gr.Row():
        estimate = speaker.make(gr.Button, "train.estimate", min_width=100)
        start = speaker.make(gr.Button, "train.start", variant="primary", min_width=100)
        stop = speaker.make(gr.Button, "train.stop", variant="stop", min_width=100)
        resume = speaker.make(gr.Button, "train.resume", min_width=100)
        watch = speaker.make(gr.Button, "train.watch", min_width=100)
    message = panel("train-told")
    same = panel("train-command")
    status = panel("train-status")
    seen = panel("train-seen", note(translate("train.empty", speaker.lang)))
    clock = gr.Timer(EVERY, active=False)

    def table(typed: str, dropped: str | None) -> tuple[Path, bool]:
        """The table, and whether it was dropped, so that it has to be kept."""
        return (desk.uploads.file(dropped), True) if dropped else (desk.table(typed), False)

    def looks(typed: str, dropped: str | None, tasks: list[str], lang: str) -> Iterator[tuple[Any, str]]:
        yield None, working(lang)
        try:
            data = table(typed, dropped)[0]
            matches = look_at(confined(desk.places, data, tasks, ""))
            yield matches, checked(lang, matches)
        except FAULTS as error:
            yield None, problem(lang, error)

    def place(typed: str, data: Path) -> Path:
        return desk.places.inside(typed, "what.run") if (typed or "").strip() else _free(desk.places.home, data.stem)

    def estimates(
        typed: str, dropped: str | None, tasks: list[str], fusion: str, minutes: float, more: str, lang: str
    ) -> Any:
        yield working(lang)
        try:
            data = table(typed, dropped)[0]
            words = spelled(tasks, fusion, minutes, more)
            result = confined(desk.places, data, tasks, more)
            yield estimated(lang, data, words + path_words(desk.places, result), desk.places.roots)
        except FAULTS as error:
            yield problem(lang, error)

    def starts(
        typed: str,
        dropped: str | None,
        tasks: list[str],
        fusion: str,
        minutes: float,
        more: str,
        folder: str,
        lang: str,
    ) -> tuple[Any, ...]:
        try:
            data, bring = table(typed, dropped)
            target, words = place(folder, data), spelled(tasks, fusion, minutes, more)
            words += path_words(desk.places, confined(desk.places, data, tasks, more))
            jobs.start(target, data, words, bring=bring, inside=desk.places.roots)
            return (
                "",
                desk.places.shown(target),
                seen_of(lang, target),
                gr.Timer(EVERY, active=True),
            )
        except FAULTS as error:
            return problem(lang, error), gr.skip(), gr.skip(), gr.skip()

    def as_command(lang: str, *given: Any) -> str:
        typed, dropped, tasks, fusion, minutes, more, folder = given
        data = Path(dropped).name if dropped else (typed or "").strip()
        if not data:
            return ""
        try:
            words = ["train", data, *spelled(tasks, fusion, minutes, more)]
        except RebusError:  # told when it is started
            return ""
        return command(lang, [*words, *(["--out", folder] if (folder or "").strip() else [])])

    def offered(folder: str, run: str | None, event: gr.EventData) -> tuple[Any, ...]:
        """A finished Run is chosen, and the page that was pressed shown."""
        act = act_of(event)
        if act not in ("ask", "explore") or desk.folder(folder) is None:
            return gr.skip(), gr.skip()
        names = desk.finished()
        return gr.update(value=folder, choices=names if folder in names else [folder, *names]), gr.Tabs(selected=act)

    def lists() -> tuple[Any, Any]:
        runs = [desk.places.shown(path) for path in desk.places.runs()]
        return desk.tables(), gr.update(choices=runs)

    def seen_of(lang: str, target: Path, job: jobs.Job | None = None) -> str:
        return watched(lang, target, job, desk.places.shown(target))

    def again(lang: str, folder: str) -> str:
        try:
            return seen_of(lang, desk.places.inside(folder, "what.run")) if (folder or "").strip() else ""
        except RebusError:
            return ""

    def chosen(act: Any) -> Any:
        def work(folder: str, lang: str) -> tuple[Any, ...]:
            try:
                target = desk.places.inside(folder, "what.run")
                act(target)
                return "", seen_of(lang, target), gr.Timer(EVERY, active=True)
            except FAULTS as error:
                return problem(lang, error), gr.skip(), gr.skip()

        return work

    def ticks(folder: str, run: str | None, lang: str) -> tuple[Any, ...]:
        try:
            target = desk.places.inside(folder, "what.run")
            job = jobs.look(target)
            if job.state == "running":
                return seen_of(lang, target, job), gr.skip(), gr.skip()
            return (
                seen_of(lang, target, job),
                gr.Timer(EVERY, active=False),
                desk.choices(run),
            )
        except FAULTS as error:
            return problem(lang, error), gr.Timer(EVERY, active=False), gr.skip()

    def running(lang: str) -> tuple[Any, ...]:
        """A training that runs when the page is opened is shown at once."""
        for path in desk.places.runs()[:20]:
            if jobs.trainer(path) is not None:
                return (
                    desk.places.shown(path),
                    seen_of(lang, path),
                    gr.Timer(EVERY, active=True),
                )
        return gr.skip(), gr.skip(), gr.skip()

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    options = [path, file, tasks, fusion, minutes, more]
    gr.on([look.click, path.input], looks, [path, file, tasks, desk.lang], [looked, seen], **quiet)
    file.upload(looks, [path, file, tasks, desk.lang], [looked, seen], **quiet)
    estimate.click(estimates, [*options, desk.lang], message, **quiet)
    start.click(starts, [*options, out, desk.lang], [message, out, status, clock], **quiet)
    for button, act in (
        (stop, jobs.stop),
        (resume, partial(jobs.resume, inside=desk.places.roots)),
        (watch, Run.begun),
    ):
        button.click(chosen(act), [out, desk.lang], [message, status, clock], **quiet)
    clock.tick(ticks, [out, desk.run, desk.lang], [status, clock, desk.run], **quiet)
    changing: list[Any] = [*options, out]
    changes = [item.change for item in changing]
    gr.on(changes, as_command, [desk.lang, *changing], same, **quiet, trigger_mode="always_last")
    status.click(offered, [out, desk.run], [desk.run, desk.pages], **quiet)
    desk.on_open(lists, [], [path, out])
    desk.on_open(running, [desk.lang], [out, status, clock])
    speaker.redraw(
        lambda lang, matches: checked(lang, matches) if matches else note(translate("train.empty", lang)),
        [looked],
        seen,
    )
    speaker.redraw(as_command, [*options, out], same)
    speaker.redraw(again, [out], status)


def _free(home: Path, stem: str) -> Path:
    number = 1
    while (folder := home / "runs" / f"{stem}-{number}").exists():
        number += 1
    return folder


def spelled(tasks: list[str] | None, fusion: str | None, minutes: float | None, more: str | None) -> list[str]:
    """The choices as words of the command line. Raises StudioError for a setting without ``=``."""
    words = [word for name in tasks or [] for word in ("--task", name)]
    if fusion:
        words += ["--fusion", fusion]
    lines = [line.strip() for line in (more or "").splitlines() if line.strip()]
    for line in lines:
        key, equals, _ = line.partition("=")
        if not equals or not key.strip() or key.startswith("-"):
            raise StudioError.of("problem.no_setting", line=line)
        words += ["--set", line]
    says = any(line.startswith(("train.steps=", "train.epochs=", "train.time_limit=")) for line in lines)
    if minutes and not says:
        words += ["--time-limit", f"{float(minutes):g}"]
    return words


def confined(places: Places, data: Path, tasks: list[str] | None, more: str | None) -> recipe.Recipe:
    """The settings as training will read them, once it is known that none of them, and no image, leads elsewhere.

    Raises:
        StudioError: a path leads out of the Studio's folders. RecipeError: a setting does not exist or fit.
    """
    named = [recipe.TaskSettings(name=name) for name in tasks or []]
    result = recipe.Recipe(tasks=named).replace({"data.path": str(data)})
    result = recipe.override(result, [line.strip() for line in (more or "").splitlines() if line.strip()])
    if result.data.path != str(data):
        raise StudioError.of("problem.other_table", typed=result.data.path)
    places.settings(result.model_copy(update={"data": recipe.Data()}))
    if any(TASKS.get(task.name).reads_documents for task in result.tasks):
        return result
    table = read_table(result.data)
    kinds = infer(table, result.data.kinds, [task.name for task in result.tasks]).kinds
    columns = {name for name, kind in kinds.items() if kind in {*file_kinds(), "messages"}}
    places.check_images(table, columns | {task.columns.get("image", "") for task in result.tasks})
    return result


def path_words(places: Places, result: recipe.Recipe) -> list[str]:
    """The settings that name files as words of the command line, spelled out whole. Raises as ``Places.settings``."""
    bare = result.model_copy(update={"data": recipe.Data()})
    return [word for setting in places.settings(bare) for word in ("--set", setting)]


def estimated(lang: str, data: Path, words: list[str], inside: Sequence[Path] = ()) -> str:
    """Size, memory and time as ``rebus train --dry-run`` finds them. Raises RebusError."""
    command = [sys.executable, "-m", "rebus", "train", str(data), *words, "--dry-run"]
    try:
        done = subprocess.run(  # noqa: S603 - our own command, its words given as a list
            command, capture_output=True, text=True, timeout=_ESTIMATE, check=False, env=jobs.environment(inside)
        )
    except subprocess.TimeoutExpired as error:
        raise StudioError.of("problem.estimate_time", where=data.name, seconds=_ESTIMATE) from error
    if done.returncode:
        raise jobs.told(done.stderr) or DataError(data, "an estimate", done.stderr[-300:], "look at the table first")
    lines = [line.split("\t") for line in done.stdout.splitlines() if line.count("\t") == 1]
    rows = [
        [translate(f"train.{name}", lang), value] for name, value in lines if name in ("parameters", "memory", "time")
    ]
    return grid([translate("train.estimate", lang), ""], rows)


def checked(lang: str, result: Checked) -> str:
    """The inferred columns and what the check says."""
    report = result.report
    head = translate("train.table", lang, name=report.name, rows=f"{report.rows:,}", columns=len(report.kinds))
    reads = {column: f"{task}: {role}" for task, roles in report.tasks.items() for role, column in roles.items()}
    rows = []
    for name, kind in report.kinds.items():
        figures = report.columns.get(name, {})
        first = next(
            (str(value) for value in result.table.select(range(min(3, len(result.table)))).column(name) if value), ""
        )
        rows.append(
            [name, translate_name("kind", kind, lang), reads.get(name, "–"), figures.get("empty", ""), first[:80]]
        )
    headings = [translate(f"train.{key}", lang) for key in ("column", "kind", "role", "blank", "sample")]
    parts = [f"<h2>{esc(head)}</h2>"]
    parts.append(note(translate("train.good", lang), "good") if report.good else "")
    parts += [problem(lang, error) for error in report.errors[:_SHOWN]]
    bad = sorted(report.bad_rows)
    if bad:
        parts.append(note(translate("train.bad", lang, count=len(bad)), "warn"))
        parts += [problem(lang, report.bad_rows[row]) for row in bad[:_SHOWN]]
    if not report.tasks and not report.errors:
        parts.append(note(translate("train.no_task", lang), "warn"))
    parts.append(grid(headings, rows, caption=translate("train.columns", lang)))
    if report.splits:
        split = ", ".join(f"{translate(f'split.{name}', lang)} {count:,}" for name, count in report.splits.items())
        parts.append(f'<p class="small">{label("train.splits", lang, splits=split)}</p>')
    parts += [note(rendered(warning, lang), "warn") for warning in report.warnings[:_SHOWN]]
    return "".join(parts)
