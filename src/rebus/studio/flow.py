"""The page Flow: one example followed through the model, station by station."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from rebus.data.pictures import read_header
from rebus.errors import DataError
from rebus.studio.panel import FAULTS, note, panel, problem
from rebus.studio.words import say

if TYPE_CHECKING:
    from rebus.report.flow import Flow
    from rebus.studio.app import Desk


def build(desk: Desk) -> None:
    """Lay out the page and wire it."""
    speaker = desk.speaker
    kept = gr.State(None)
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=260):
            picture = speaker.make(
                gr.File, {"label": "ask.picture"}, elem_id="flow-picture", elem_classes=["rebus-drop"]
            )
        with gr.Column(scale=2, min_width=260):
            text = speaker.make(
                gr.Textbox,
                {"label": "flow.text", "placeholder": "ask.placeholder"},
                max_length=4000,
                elem_id="flow-text",
            )
            go = speaker.make(gr.Button, {"value": "flow.go"}, variant="primary", elem_id="flow-go")
    shown = panel("flow-shown", note(say(speaker.lang, "flow.empty")))

    def follow(file: str | None, text: str, run: str | None, lang: str) -> tuple[Any, str]:
        from rebus.report.flow import flow

        try:
            if not file and not (text or "").strip():
                raise DataError(say(lang, "flow.text"), *say(lang, "ask.nothing").split("|"))
            seat = desk.seats.seat(desk.chosen(run))
            if file:
                read_header(file, pixel_budget=desk.places.pixels, where=desk.uploads.file(file).name)
            found = seat.ask(lambda model: flow(model, picture=file, text=(text or "").strip(), lang=lang))
            return found, drawn(lang, found)
        except FAULTS as error:
            return None, problem(lang, error)

    quiet: dict[str, Any] = {"show_progress": "minimal", "show_progress_on": go, "api_visibility": "private"}
    gr.on([go.click, text.submit], follow, [picture, text, desk.run, desk.lang], [kept, shown], **quiet)
    speaker.redraw(drawn, [kept], shown)


def drawn(lang: str, found: Flow | None) -> str:
    """The page's fragment in a language."""
    from rebus.report.flow import flow_html

    return note(say(lang, "flow.empty")) if found is None else f'<div class="flow-frame">{flow_html(found, lang)}</div>'
