"""An explanation as a panel shows it: the image with its map, the words of the question, the shares of modalities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rebus.catalogue import rendered, translate
from rebus.studio.panel import bars, esc, label

if TYPE_CHECKING:
    from rebus.explain import Explanation


def seen(lang: str, explanation: Explanation, name: str) -> str:
    """HTML; ``name`` is the word or label that is explained."""
    from rebus.explain.draw import overlay, png_address

    parts = [f"<h3>{label('ask.seen', lang, name=name)}</h3>"]
    if explanation.image is not None and explanation.shown is not None:
        address = png_address(overlay(explanation, side=True))
        message = translate("ask.map_alt", lang, name=name)
        caption = translate(
            "ask.caption",
            lang,
            method=explanation.method,
            score=f"{explanation.score:.1%}" if 0 <= explanation.score <= 1 else f"{explanation.score:.4g}",
        )
        image = f'<img id="ask-map" src="{address}" alt="{esc(message)}">'
        parts.append(f"<figure>{image}<figcaption>{esc(caption)}</figcaption></figure>")
    else:
        parts.append(f'<p class="note">{label("ask.no_map", lang)}</p>')
    if explanation.tokens and explanation.text:
        parts.append(f'<div class="tokens"><strong>{label("ask.tokens", lang)}</strong> {coloured(explanation)}</div>')
    if explanation.columns:
        shares = {f"{column.column}: {column.text}": column.share for column in explanation.columns}
        parts.append(f"<h3>{label('ask.columns', lang)}</h3>" + bars(lang, shares))
    if explanation.weights:
        parts.append(f"<h3>{label('ask.weights', lang)}</h3>" + bars(lang, explanation.weights))
    parts += [f'<p class="hint">{esc(rendered(remark, lang))}</p>' for remark in explanation.remarks]
    return f'<div class="seen">{"".join(parts)}</div>'


def coloured(explanation: Explanation) -> str:
    """The text with each piece on a ground as strong as it mattered, as an explanation's own page has it."""
    from rebus.explain.page import pieces

    return "".join(
        f'<span style="background:{piece["colour"]}" title="{piece["title"]}">{esc(piece["text"])}</span>'
        if piece["score"] is not None
        else esc(piece["text"])
        for piece in pieces(explanation)
    )
