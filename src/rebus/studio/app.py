"""The Studio's pages put together and mounted on a server: ``mount(app, settings)``."""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr
from fastapi import FastAPI
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Mount

from rebus.catalogue import LANGUAGES, translate
from rebus.checkpoints.run_folder import Run
from rebus.errors import DataError, RebusError, StudioError
from rebus.serve.loading import Served
from rebus.studio import ask, compare, explore, flow, train
from rebus.studio.auth import PATH, Door
from rebus.studio.border import Border
from rebus.studio.session import Desk, StudioSettings
from rebus.studio.streaming import OPENED, TAGS
from rebus.studio.theme import CSS, PHONE, theme

PAGES = {"ask": ask.build, "explore": explore.build, "train": train.build, "compare": compare.build, "flow": flow.build}


def make_blocks(settings: StudioSettings, served: Served | None = None) -> tuple[gr.Blocks, Desk]:
    """All pages, not yet mounted, and what they share."""
    if settings.lang not in LANGUAGES:
        raise DataError("--lang", "en or zh", f"'{settings.lang}'", "choose one")
    desk = Desk(settings, served)
    speaker = desk.speaker
    blocks = gr.Blocks(
        title=translate("studio.title", settings.lang), analytics_enabled=False, delete_cache=(3600, 86400)
    )
    with blocks:
        with gr.Row(elem_id="rebus-top"):
            with gr.Column(scale=3, min_width=220):
                speaker.make(gr.HTML, "studio.head", elem_id="rebus-head", js_on_load=None)
            with gr.Column(scale=3, min_width=220):
                runs = desk.finished()
                first = desk.places.shown(settings.run) if settings.run is not None else (runs[0] if runs else None)
                desk.run = speaker.make(
                    gr.Dropdown,
                    "studio.run",
                    elem_id="run",
                    choices=runs if first in runs or first is None else [first, *runs],
                    value=first,
                    allow_custom_value=True,
                )
            with gr.Column(scale=1, min_width=232):
                desk.lang = speaker.make(
                    gr.Radio,
                    "studio.language",
                    choices=[("English", "en"), ("中文", "zh")],
                    value=settings.lang,
                    elem_id="lang",
                )
        desk.pages = gr.Tabs(selected="ask" if first is not None else "train")
        with desk.pages:
            for name, build in PAGES.items():
                with speaker.make(gr.Tab, f"page.{name}", id=name):
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
                raise StudioError.of("problem.no_table", typed=path.name, home=str(desk.places.home))
        except RebusError as error:
            return PlainTextResponse(str(error), 404)
        policy = "sandbox allow-scripts; default-src 'none'; img-src data:; font-src data:; "
        policy += "style-src 'unsafe-inline'; script-src 'unsafe-inline'"
        return HTMLResponse(path.read_bytes(), headers={"content-security-policy": policy, "cache-control": "no-store"})

    return report


_HEAD = '<meta name="referrer" content="no-referrer">'
