"""An explanation as one HTML page that stands alone: no network, styles and script inside.

Its words can be picked: each shows its own map and its own colours of the text.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rebus import atomic
from rebus.catalogue import Note, group_of, rendered, translate_name, translator
from rebus.errors import RecipeError
from rebus.explain.draw import overlay, png_address, strengths
from rebus.explain.registry import METHODS
from rebus.explain.result import Explanation

if TYPE_CHECKING:
    pass

_TEMPLATE = "page.html.j2"
_SHADE = 0.62  # of the strongest piece's ground


def page_html(explanation: Explanation, lang: str = "en") -> str:
    """The page as text. Raises RecipeError when the language is neither ``en`` nor ``zh``."""
    from markupsafe import Markup
    from PIL import Image

    if lang not in ("en", "zh"):
        raise RecipeError("--lang", "en or zh", f"'{lang}'", "choose one")
    texts = translator("explain_page", lang)
    views = [_view(explanation, texts("whole"), lang)]
    views += [_view(word, _word(word) or texts("silent"), lang) for word in explanation.words]
    there = explanation.image is not None and explanation.shown is not None
    shown = None if explanation.shown is None else png_address(Image.fromarray(explanation.shown))
    return render_template(
        Path(__file__).with_name(_TEMPLATE),
        lang="zh-CN" if lang == "zh" else "en",
        texts=group_of("explain_page", lang),
        legend=texts("signed" if has_signs(explanation) else "unsigned"),
        answer=explanation.answer,
        method=translate_name("method", explanation.method, lang),
        image=shown,
        overlay=png_address(overlay(explanation, side=False)) if there else None,
        views=views,
        # what a text holds must not end the script element that carries it
        views_json=Markup(json.dumps(views, ensure_ascii=False).replace("<", "\\u003c")),  # noqa: S704 - escaped here
        remarks=[rendered(remark, lang) for remark in explanation.remarks],
    )


def render_template(template: Path, **values: Any) -> str:
    """A Jinja template filled in; what comes from users, tables and models is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(template.parent)
    options: dict[str, Any] = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    return str(Environment(loader=loader, autoescape=True, **options).get_template(template.name).render(**values))


def write_page(path: str | Path, explanation: Explanation, lang: str = "en") -> Path:
    """Write the page, whole or not at all. Raises RecipeError as ``page_html``, RunError: it cannot be written."""
    path = Path(path)
    atomic.write_text(path, page_html(explanation, lang))
    return path


def _view(explanation: Explanation, name: str, lang: str) -> dict[str, Any]:
    """What the page shows of one output."""
    grid = (
        None
        if explanation.image is None
        else [[round(float(x), 4) for x in row] for row in strengths(explanation.image)]
    )
    share = not (isinstance(explanation.target, Note) and explanation.target.key == "target.number")
    score = f"{explanation.score:.1%}" if share and 0 <= explanation.score <= 1 else f"{explanation.score:.5g}"
    shares = [
        {"name": translate_name("modality", key, lang), "percent": round(100 * value, 1)}
        for key, value in (explanation.weights or {}).items()
    ]
    return {
        "name": name,
        "target": rendered(explanation.target, lang),
        "score": score,
        "grid": grid,
        "pieces": pieces(explanation),
        "weights": shares,
        "columns": [
            {
                "name": column.column,
                "value": column.text,
                "percent": round(100 * column.share, 1),
                "against": column.score < 0,
            }
            for column in explanation.columns
        ],
    }


def has_signs(explanation: Explanation) -> bool:
    """Whether an explanation tells what speaks for the output from what speaks against it."""
    with suppress(RecipeError):  # the method of another version
        if METHODS.get(explanation.method).signed:
            return True
    return any(token.score < 0 for token in explanation.tokens) or (
        explanation.image is not None and bool((explanation.image < 0).any())
    )


def pieces(explanation: Explanation) -> list[dict[str, Any]]:
    """The text in pieces, those that have a score with a colour: red speaks for the output, blue against it."""
    most = max((abs(token.score) for token in explanation.tokens), default=0.0) or 1.0
    result: list[dict[str, Any]] = []
    last = 0
    for token in explanation.tokens:
        if token.start > last:
            result.append({"text": explanation.text[last : token.start], "score": None})
        share = token.score / most
        colour = "208, 32, 24" if share >= 0 else "24, 72, 200"
        result.append(
            {
                "text": token.text,
                "score": token.score,
                "colour": f"rgba({colour}, {abs(share) * _SHADE:.3f})",
                "title": f"{token.score:.4g}",
            }
        )
        last = token.end
    if result and last < len(explanation.text):
        result.append({"text": explanation.text[last:], "score": None})
    return result


def _word(explanation: Explanation) -> str:
    return explanation.answer[slice(*explanation.span)] if explanation.span is not None else explanation.target
