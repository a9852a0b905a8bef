"""An explanation as a panel shows it: the image with its map, the words of the question, the shares of modalities."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

from rebus.catalogue import rendered, translate
from rebus.studio.panel import bars, esc, label

if TYPE_CHECKING:
    from rebus.explain import Explanation


def seen(lang: str, one: Explanation, name: str) -> str:
    """HTML; ``name`` is the word or label that is explained."""
    from rebus.explain.draw import overlay

    parts = [f"<h3>{label('ask.seen', lang, name=name)}</h3>"]
    if one.image is not None and one.shown is not None:
        buffer = io.BytesIO()
        overlay(one, side=True).save(buffer, "PNG")
        address = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
        told = translate("ask.map_alt", lang, name=name)
        caption = translate(
            "ask.caption",
            lang,
            method=one.method,
            score=f"{one.score:.1%}" if 0 <= one.score <= 1 else f"{one.score:.4g}",
        )
        image = f'<img id="ask-map" src="{address}" alt="{esc(told)}">'
        parts.append(f"<figure>{image}<figcaption>{esc(caption)}</figcaption></figure>")
    else:
        parts.append(f'<p class="note">{label("ask.no_map", lang)}</p>')
    if one.tokens and one.text:
        parts.append(f'<div class="tokens"><strong>{label("ask.tokens", lang)}</strong> {coloured(one)}</div>')
    if one.columns:
        shares = {f"{column.column}: {column.text}": column.share for column in one.columns}
        parts.append(f"<h3>{label('ask.columns', lang)}</h3>" + bars(lang, shares))
    if one.weights:
        parts.append(f"<h3>{label('ask.weights', lang)}</h3>" + bars(lang, one.weights))
    parts += [f'<p class="hint">{esc(rendered(remark, lang))}</p>' for remark in one.remarks]
    return f'<div class="seen">{"".join(parts)}</div>'


def coloured(one: Explanation) -> str:
    """The text with each piece on a ground as strong as it mattered; blue where it spoke against."""
    most = max((abs(token.score) for token in one.tokens), default=0.0) or 1.0
    pieces, last = [], 0
    for token in sorted(one.tokens, key=lambda token: token.start):
        if token.start < last:
            continue
        share = token.score / most
        colour = "179,84,30" if share >= 0 else "31,80,160"
        pieces.append(esc(one.text[last : token.start]))
        shown = esc(one.text[token.start : token.end])
        pieces.append(
            f'<span style="background:rgba({colour},{abs(share) * 0.6:.2f})" title="{token.score:.3g}">{shown}</span>'
        )
        last = token.end
    return "".join(pieces) + esc(one.text[last:])
