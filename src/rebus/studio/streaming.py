"""Components that speak two languages: each is filed with the texts it shows, and the switch changes them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import gradio as gr

from rebus.catalogue import translate

C = TypeVar("C")
Labels = str | Sequence[tuple[str, str]]
# a list into which anything can be typed
TYPED: dict[str, Any] = {
    "choices": [],
    "value": "",
    "allow_custom_value": True,
}
_SHOW_VALUE = (gr.Button, gr.HTML)


class Speaker:
    """The page's components by language.

    Args:
        lang: ``en`` or ``zh``: the language the page opens in.
    """

    def __init__(self, lang: str) -> None:
        self.lang = lang
        self._spoken: list[tuple[Any, dict[str, Labels]]] = []
        self._redrawn: list[tuple[Callable[..., Any], list[Any], Any]] = []

    def make(
        self, kind: Callable[..., C], key: str, more: Mapping[str, Labels] = {}, /, *, elem_id: str = "", **options: Any
    ) -> C:
        """A component whose texts follow the switch.

        Args:
            kind: of component.
            key: of its label, or of what stands on a button; with hyphens it is the component's id.
            more: other properties that are texts: key of a text, or (key, value) pairs of choices.
            elem_id: another id.
            options: of Gradio.
        """
        labels: dict[str, Labels] = {"value" if kind in _SHOW_VALUE else "label": key, **more}
        elem_id = elem_id or key.replace(".", "-").replace("_", "-")
        component = kind(**_texts(labels, self.lang), elem_id=elem_id, **options)
        self._spoken.append((component, labels))
        return component

    def redraw(self, draw: Callable[..., Any], inputs: Sequence[Any], output: Any) -> None:
        """``draw(lang, *inputs)`` gives ``output`` anew when the language changes."""
        self._redrawn.append((draw, list(inputs), output))

    def listen(self, switch: gr.Radio) -> None:
        """Follow a switch whose value is the language."""

        def labels(lang: str) -> list[Any]:
            return [gr.update(**_texts(texts, lang)) for _, texts in self._spoken]

        options: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
        switch.change(labels, switch, [component for component, _ in self._spoken], js=_SPEAK, **options)
        for draw, inputs, output in self._redrawn:
            switch.change(draw, [switch, *inputs], output, **options)


def _texts(labels: Mapping[str, Labels], lang: str) -> dict[str, Any]:
    return {
        name: translate(key, lang) if isinstance(key, str) else [(translate(item, lang), value) for item, value in key]
        for name, key in labels.items()
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
