"""The Studio's pages put together and mounted on a server: ``mount(app, settings)``."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Mount

from rebus.checkpoints.run_folder import Run
from rebus.errors import DataError, RebusError
from rebus.serve.loading import Served
from rebus.studio import ask, compare, explore, flow, train
from rebus.studio.auth import PATH, Door
from rebus.studio.border import Border, Uploads
from rebus.studio.model_pool import Seats
from rebus.studio.places import Places
from rebus.studio.streaming import OPENED, TAGS, Speaker
from rebus.studio.table_view import own_table
from rebus.studio.theme import CSS, PHONE, theme
from rebus.studio.words import LANGUAGES, StudioError, say

PAGES = {"ask": ask.build, "explore": explore.build, "train": train.build, "compare": compare.build, "flow": flow.build}


@dataclass
class StudioSettings:
    """What the Studio opens with.

    Attributes:
        run: the model it talks with first; None: the newest finished one below the roots.
        roots: folders that pages may read and write below; the first is where new Runs go.
        lang: en or zh.
        pixels: most pixels of an image.
        upload_mb: most MiB of a file that is dropped.
        api_key: the server's; None: none.
    """

    run: Path | None = None
    roots: Sequence[Path] = field(default_factory=lambda: [Path()])
    lang: str = "en"
    pixels: int = 25_000_000
    upload_mb: float = 32
    api_key: str | None = None


class Desk:
    """What all pages share.

    Args:
        settings: the Studio's.
        served: the server's own model, if it has one.

    Attributes:
        uploads: files that browsers dropped.
        speaker: what speaks both languages.
        places: which files may be reached.
        seats: the models.
        lang: the component that holds the language.
        run: the component that holds the chosen Run.
        pages: the component that shows one page of all.
    """

    lang: gr.Radio
    run: gr.Dropdown
    pages: gr.Tabs

    def __init__(self, settings: StudioSettings, served: Served | None) -> None:
        own = [settings.run.resolve()] if settings.run is not None else []
        for run in list(own):  # its table lies elsewhere, more often than not
            table = own_table(run)
            own += [table.resolve().parent] if table is not None else []
        self.speaker = Speaker(settings.lang)
        self.places = Places([*settings.roots, *own], settings.pixels)
        self.seats = Seats(served)
        self.uploads = Uploads(_private_uploads())
        self._opening: list[tuple[Callable[..., Any], list[Any], list[Any]]] = []

    def on_open(self, work: Callable[..., Any], inputs: list[Any], outputs: list[Any]) -> None:
        """What is done when somebody opens the page."""
        self._opening.append((work, inputs, outputs))

    def open_with(self, blocks: gr.Blocks) -> None:
        """Do it."""
        for work, inputs, outputs in self._opening:
            blocks.load(work, inputs, outputs, show_progress="hidden", api_visibility="private")

    def chosen(self, run: str | None) -> Path | None:
        """The chosen Run's folder; None where none is. Raises StudioError where it may not be reached."""
        return self.places.inside(run, "what.model") if run else None

    def folder(self, run: str | None) -> Path | None:
        """As ``chosen``; None where it is no Run, for what can do without."""
        try:
            folder = self.chosen(run)
        except RebusError:
            return None
        return folder if folder is not None and Run(folder).recipe_path.exists() else None

    def table(self, typed: str) -> Path:
        """A table as typed. Raises StudioError where there is none, or it may not be reached."""
        path = self.places.inside(typed, "what.table")
        if not path.exists():
            raise StudioError("problem.no_table", typed=typed, home=str(self.places.home))
        return path

    def finished(self) -> list[str]:
        """Runs that can answer, the newest first."""
        whole = [path for path in self.places.runs() if Run(path).saved]
        return [self.places.shown(path) for path in whole]

    def tables(self) -> Any:
        """The list of tables as it is now."""
        return gr.update(choices=self.places.tables())

    def choices(self, run: str | None) -> Any:
        """The list of Runs as it is now; the chosen one stays, and where none was, the newest is."""
        found = self.finished()
        if run:  # its value is not sent back: somebody may be choosing another just now
            return gr.update(choices=found if run in found else [run, *found])
        return gr.update(choices=found, value=found[0] if found else None)


def make_blocks(settings: StudioSettings, served: Served | None = None) -> tuple[gr.Blocks, Desk]:
    """All pages, not yet mounted, and what they share."""
    if settings.lang not in LANGUAGES:
        raise DataError("--lang", "en or zh", f"'{settings.lang}'", "choose one")
    desk = Desk(settings, served)
    speaker = desk.speaker
    blocks = gr.Blocks(title=say(settings.lang, "title"), analytics_enabled=False, delete_cache=(3600, 86400))
    with blocks:
        with gr.Row(elem_id="rebus-top"):
            with gr.Column(scale=3, min_width=220):
                speaker.make(_heading, {"value": "head"}, elem_id="rebus-head")
            with gr.Column(scale=3, min_width=220):
                runs = desk.finished()
                first = desk.places.shown(settings.run) if settings.run is not None else (runs[0] if runs else None)
                desk.run = speaker.make(
                    gr.Dropdown,
                    {"label": "run"},
                    choices=runs if first in runs or first is None else [first, *runs],
                    value=first,
                    allow_custom_value=True,
                    elem_id="run",
                )
            with gr.Column(scale=1, min_width=232):
                desk.lang = speaker.make(
                    gr.Radio,
                    {"label": "language"},
                    choices=[("English", "en"), ("中文", "zh")],
                    value=settings.lang,
                    elem_id="lang",
                )
        desk.pages = gr.Tabs(selected="ask" if first is not None else "train")
        with desk.pages:
            for name, build in PAGES.items():
                with speaker.make(gr.Tab, {"label": f"page.{name}"}, id=name, elem_id=f"page-{name}"):
                    build(desk)
        desk.on_open(desk.choices, [desk.run], [desk.run])
        speaker.listen(desk.lang)
        desk.open_with(blocks)
    return blocks, desk


def mount(app: FastAPI, settings: StudioSettings, served: Served | None = None) -> FastAPI:
    """Put the Studio at ``/studio`` of a server.

    Args:
        app: the server; its guard holds for the Studio's routes as well.
        settings: the Studio's.
        served: the server's model, which is then not loaded twice.

    Raises:
        DataError: no such language.
    """
    blocks, desk = make_blocks(settings, served)
    app.add_api_route(f"{PATH}/report", _report(desk), include_in_schema=False)
    blocks.queue(default_concurrency_limit=4, max_size=64, api_open=False)
    gr.mount_gradio_app(
        app,
        blocks,
        path=PATH,
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        max_file_size=int(settings.upload_mb * 2**20),
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        show_error=False,
        theme=theme(),
        css=CSS,
        head=_HEAD + f"<style>{PHONE}</style><script>{OPENED % TAGS[settings.lang]}</script>",
        app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
    )
    mounted = next(route for route in app.routes if isinstance(route, Mount) and route.path == PATH)
    mounted.app = Border(mounted.app, desk.uploads)
    if settings.api_key is not None:
        app.state.context.door = Door(settings.api_key, settings.lang)
    return app


def _report(desk: Desk) -> Callable[[str], Response]:
    def report(run: str) -> Response:
        """A Run's report, which can reach nothing from here."""
        try:
            path = Run(desk.places.inside(run, "what.run")).report_path
            if not path.is_file() or not desk.places.holds(path):
                raise StudioError("problem.no_table", typed=path.name, home=str(desk.places.home))
        except RebusError as error:
            return PlainTextResponse(str(error), 404)
        policy = "sandbox allow-scripts; default-src 'none'; img-src data:; font-src data:; "
        policy += "style-src 'unsafe-inline'; script-src 'unsafe-inline'"
        return HTMLResponse(path.read_bytes(), headers={"content-security-policy": policy, "cache-control": "no-store"})

    return report


_HEAD = '<meta name="referrer" content="no-referrer">'


def _heading(value: str, elem_id: str) -> gr.HTML:
    return gr.HTML(value, elem_id=elem_id, js_on_load=None)


def _private_uploads() -> Path:
    """Files that are dropped lie in a folder of this process' own, not in one that all users of the machine share."""
    folder = os.environ.get("GRADIO_TEMP_DIR") or tempfile.mkdtemp(prefix="rebus-studio-")
    os.environ["GRADIO_TEMP_DIR"] = os.path.realpath(folder)
    return Path(os.environ["GRADIO_TEMP_DIR"])
