"""Components that speak two languages: each is filed with the texts it shows, and the switch changes them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import gradio as gr

from rebus.catalogue import translate

C = TypeVar("C")
Said = str | Sequence[tuple[str, str]]


class Speaker:
    """The page's components by language.

    Args:
        lang: ``en`` or ``zh``: the language the page opens in.
    """

    def __init__(self, lang: str) -> None:
        self.lang = lang
        self._spoken: list[tuple[Any, dict[str, Said]]] = []
        self._redrawn: list[tuple[Callable[..., Any], list[Any], Any]] = []

    def make(self, kind: Callable[..., C], said: Mapping[str, Said], **options: Any) -> C:
        """A component whose properties ``said`` follow the switch: key of a text, or (key, value) pairs of choices."""
        made = kind(**_texts(said, self.lang), **options)
        self._spoken.append((made, dict(said)))
        return made

    def redraw(self, draw: Callable[..., Any], inputs: Sequence[Any], output: Any) -> None:
        """``draw(lang, *inputs)`` gives ``output`` anew when the language changes."""
        self._redrawn.append((draw, list(inputs), output))

    def listen(self, switch: gr.Radio) -> None:
        """Follow a switch whose value is the language."""

        def labels(lang: str) -> list[Any]:
            return [gr.update(**_texts(said, lang)) for _, said in self._spoken]

        options: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
        switch.change(labels, switch, [made for made, _ in self._spoken], js=_SPEAK, **options)
        for draw, inputs, output in self._redrawn:
            switch.change(draw, [switch, *inputs], output, **options)


def _texts(said: Mapping[str, Said], lang: str) -> dict[str, Any]:
    return {
        name: translate(key, lang) if isinstance(key, str) else [(translate(one, lang), value) for one, value in key]
        for name, key in said.items()
    }


# The page says its language, for screen readers; Gradio's own English on its drop areas gives way to our label.
_SPEAK = "(lang) => { document.documentElement.lang = lang === 'zh' ? 'zh-CN' : 'en'; return lang; }"
OPENED = """
document.documentElement.lang = '%s';
new MutationObserver(() => {
  for (const drop of document.querySelectorAll('.rebus-drop .upload-container')) {
    const said = drop.closest('.block')?.querySelector('label')?.innerText.trim();
    if (said && drop.getAttribute('aria-label') !== said) drop.setAttribute('aria-label', said);
  }
}).observe(document.documentElement, {childList: true, subtree: true, characterData: true});
"""
TAGS = {"en": "en", "zh": "zh-CN"}
