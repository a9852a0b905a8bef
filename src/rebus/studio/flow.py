"""The page Flow: one example followed through the model, station by station."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from rebus.catalogue import translate
from rebus.data.images import read_header
from rebus.errors import StudioError
from rebus.studio.panel import FAULTS, command, note, panel, photo, problem, working

if TYPE_CHECKING:
    from rebus.report.flow import Flow
    from rebus.studio.session import Desk


def build(desk: Desk) -> None:
    """Lay out the page and wire it."""
    speaker = desk.speaker
    kept = gr.State(None)
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=260):
            image = photo(speaker, "ask.image", "flow-image")
        with gr.Column(scale=2, min_width=260):
            text = speaker.make(gr.Textbox, "flow.text", {"placeholder": "ask.placeholder"}, max_length=4000)
            go = speaker.make(gr.Button, "flow.go", variant="primary")
    shown = panel("flow-shown", note(translate("flow.empty", speaker.lang)))

    def follow(sent: Any, text: str, run: str | None, lang: str) -> Iterator[tuple[Any, str]]:
        from rebus.report.flow import flow

        try:
            if not sent and not (text or "").strip():
                raise StudioError.of("problem.nothing_asked")
            yield None, working(lang)
            seat = desk.seats.seat(desk.chosen(run))
            file = desk.uploads.file(sent) if sent else None
            if file:
                read_header(str(file), pixel_budget=desk.places.pixels, where=file.name)
            followed = seat.ask(lambda model: flow(model, image=file, text=(text or "").strip(), lang=lang))
            words = [["--image", file.name] if file else [], ["--text", text.strip()] if (text or "").strip() else []]
            result = followed, ["flow", desk.places.shown(seat.folder), *words[0], *words[1]]
            yield result, drawn(lang, result)
        except FAULTS as error:
            yield None, problem(lang, error)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    gr.on([go.click, text.submit], follow, [image, text, desk.run, desk.lang], [kept, shown], **quiet, preprocess=False)
    speaker.redraw(drawn, [kept], shown)


def drawn(lang: str, result: tuple[Flow, list[str]] | None) -> str:
    """The page's fragment in a language, and the command that makes it."""
    from rebus.report.flow import flow_html

    if result is None:
        return note(translate("flow.empty", lang))
    followed, words = result
    return f'<div class="flow-frame">{flow_html(followed, lang)}</div>{command(lang, words)}'
