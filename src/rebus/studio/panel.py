"""Parts of pages that are plain HTML: their frame in Gradio, and what is drawn in them.

All text that comes from users, tables or models is escaped here. Buttons inside a panel carry ``data-act``, which the
panel's click event gives back, so that whatever can be clicked can be reached with the keyboard as well.
"""

from __future__ import annotations

import html
import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from rebus import atomic
from rebus.catalogue import translate
from rebus.errors import RebusError
from rebus.studio.streaming import Speaker

log = logging.getLogger("rebus.studio")
# A panel is drawn anew after each click; the button that was pressed keeps the keyboard's focus.
_ACTS = """
let last = null;
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-act]');
  if (!button || button.disabled) return;
  last = button.dataset.act;
  trigger('click', {act: last});
});
watch('value', () => {
  const now = document.activeElement;
  if (last === null || (now && now !== document.body && !element.contains(now))) return;
  const again = element.querySelector('[data-act="' + CSS.escape(last) + '"]');
  if (again) again.focus({preventScroll: true});
});
"""


def panel(name: str, value: str = "", **options: Any) -> gr.HTML:
    """An empty panel; ``name`` is its id in the page."""
    return gr.HTML(value, elem_id=name, js_on_load=_ACTS, elem_classes=["rebus-panel"], **options)


def photo(speaker: Speaker, key: str, name: str) -> gr.Image:
    """A box for one image: dropped, pasted, chosen or taken by a camera.

    Events that take it say ``preprocess=False``: the file comes as it is, and is opened by nobody before us.
    """
    return speaker.make(
        gr.Image, key, type="filepath", image_mode=None, sources=["upload", "clipboard", "webcam"],
        height=220, elem_id=name, elem_classes=["rebus-drop"], buttons=["fullscreen"], placeholder=" ",
    )  # fmt: skip


def act_of(event: gr.EventData) -> str:
    """What was clicked in a panel."""
    return str((event._data or {}).get("act", ""))


def esc(text: object) -> str:
    """Text as HTML."""
    return html.escape(str(text), quote=True)


def label(key: str, lang: str, **arguments: object) -> str:
    """A text of the catalogue as HTML."""
    return esc(translate(key, lang, **arguments))


# What a page tells instead of failing: users' mistakes, the disk, and what a model runs into.
FAULTS: tuple[type[Exception], ...] = (RebusError, OSError, MemoryError, RuntimeError)


def problem(lang: str, error: Exception) -> str:
    """An error in its four parts; of one that is no user's mistake the server's log has the rest."""
    if isinstance(error, OSError):
        error = atomic.explained(Path(error.filename or "the Studio"), error)
    elif not isinstance(error, RebusError):
        log.error("a page met an error", exc_info=error)
        error = RebusError.of("problem.inside", received=type(error).__name__)
    parts = zip(("where", "expected", "received", "do"), error.parts(lang), strict=True)
    rows = "".join(f"<dt>{label(f'error_page.{name}', lang)}</dt><dd>{esc(text)}</dd>" for name, text in parts)
    return f'<div class="problem" role="alert"><h3>{label("error_page.title", lang)}</h3><dl>{rows}</dl></div>'


def note(text: str, kind: str = "note") -> str:
    """A remark; ``kind`` note, good or warn."""
    return f'<p class="{kind}" role="status">{esc(text)}</p>'


def working(lang: str) -> str:
    """That something is being done, with a turning ring."""
    return f'<p class="note" role="status"><span class="busy"></span>{label("ask.working", lang)}</p>'


def command(lang: str, *lines: Sequence[object]) -> str:
    """The commands that do the same in a shell, a list of words each; nothing where there are none."""
    text = "\n".join("rebus " + shlex.join(str(word) for word in words) for words in lines if words)
    shown = f'<p class="hint">{label("studio.command", lang)}</p><pre class="log" tabindex="0">{esc(text)}</pre>'
    return shown if text else ""


def button(act: str, inside: str, *, pressed: bool | None = None, title: str = "", css: str = "") -> str:
    """A button whose content is HTML already."""
    state = "" if pressed is None else f' aria-pressed="{str(pressed).lower()}"'
    more = f' title="{esc(title)}" aria-label="{esc(title)}"' if title else ""
    return f'<button type="button" class="{css}" data-act="{esc(act)}"{state}{more}>{inside}</button>'


def grid(headings: Sequence[str], rows: Sequence[Sequence[object]], *, caption: str = "") -> str:
    """A table that scrolls by itself where the screen is narrow."""
    head = "".join(f'<th scope="col">{esc(heading)}</th>' for heading in headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{cell if isinstance(cell, Html) else esc(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    title = f"<caption>{esc(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{esc(caption or headings[0])}">'
        f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


class Html(str):
    """Text that is HTML already."""


def bars(lang: str, scores: Mapping[str, float], *, act: str = "", chosen: str = "") -> str:
    """Probabilities as bars; with ``act`` each is a button."""
    rows = []
    for name, share in scores.items():
        inside = (
            f'<span class="name">{esc(name)}</span><span class="track"><span class="fill" '
            f'style="width:{100 * min(max(share, 0.0), 1.0):.1f}%"></span></span>'
            f'<span class="share">{share:.1%}</span>'
        )
        if act:
            title = translate("ask.where_for", lang, name=name)
            inside = button(
                f"{act}:{name}", inside, pressed=name == chosen, title=f"{name} {share:.1%}. {title}", css="bar"
            )
            rows.append(f"<li>{inside}</li>")
        else:
            rows.append(f'<li class="bar">{inside}</li>')
    return f'<ul class="bars">{"".join(rows)}</ul>'
