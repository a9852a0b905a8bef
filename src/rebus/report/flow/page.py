"""A Flow as HTML: a fragment for any page, or a page that stands alone. It knows no model.

Everything is inside: images as data addresses, colours as numbers. Nothing is fetched, and there is no script.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rebus import atomic
from rebus.catalogue import group_of, is_known, translate, translate_list, translate_name
from rebus.explain.draw import png_address
from rebus.explain.page import render_template
from rebus.report.flow.drawing import heat
from rebus.report.flow.result import Bars, Flow, Image, Station, Strip, Token
from rebus.report.labels import check_language

_FRAGMENT, _PAGE = "fragment.html.j2", "page.html.j2"
_VIEW = 384  # units of a drawn image's side
_NUMBERED = 14  # rows of a grid beyond which only the first and last numbers are readable


def flow_html(flow: Flow, lang: str | None = None) -> str:
    """A Flow as a fragment of HTML with its own style, to be put into any page.

    Args:
        flow: what happened.
        lang: en or zh; None: the Flow's own.

    Raises:
        RecipeError: the language is neither.
    """
    return _rendered(_FRAGMENT, flow, lang or flow.lang)


def write_flow(path: str | Path, flow: Flow, lang: str | None = None) -> Path:
    """Write a Flow as one self-contained HTML file.

    Raises:
        RecipeError: the language is neither ``en`` nor ``zh``. RunError: the file cannot be written.
    """
    path = Path(path)
    atomic.write_text(path, _rendered(_PAGE, flow, lang or flow.lang))
    return path


def _rendered(template: str, flow: Flow, lang: str) -> str:
    check_language(lang)
    return render_template(
        Path(__file__).with_name(template),
        language="zh-Hans" if lang == "zh" else "en",
        flow=flow,
        texts=group_of("flow_page", lang),
        stations=[_station(station, lang) for station in flow.stations],
    )


def _station(station: Station, lang: str) -> dict[str, Any]:
    more = int(station.facts.get("count", 0)) - len(station.tokens) if station.name == "tokens" else 0
    return {
        "name": station.name,
        "title": translate(f"flow_title.{station.name}", lang),
        "sentences": _sentences(station, lang),
        "shapes": [
            (
                translate_name("flow_name", shape.name, lang),
                shape.letters,
                " × ".join(f"{size:,}" for size in shape.sizes),
            )
            for shape in station.shapes
        ],
        "images": [_image(image, lang) for image in station.images],
        "tokens": [_token(token) for token in station.tokens],
        "over": translate(f"flow_caption.{station.over[0]}", lang, **station.over[1]) if station.over[0] else "",
        "more": translate("flow_page.more", lang, count=more) if more > 0 else "",
        "strips": [_strip(strip, lang) for strip in station.strips],
        "bars": [_bars(bar, lang) for bar in station.bars],
        "steps": [_bars(step, lang) for step in station.steps],
    }


def _sentences(station: Station, lang: str) -> list[str]:
    """Two or three sentences about a station, of its kind where there are such."""
    key = f"flow_station.{station.name}"
    fit = translate_name("flow_fit", str(station.facts.get("fit", "")), lang)
    answer = station.facts.get("answer") or translate("flow_page.nothing", lang)
    facts = {**station.facts, "fit": fit, "answer": answer}
    kind = f"{key}.{station.kind}"
    return translate_list(kind if is_known(kind) else key, lang, **facts) if is_known(kind) or is_known(key) else []


def _image(image: Image, lang: str) -> dict[str, Any]:
    lines: list[dict[str, float]] = []
    numbers: list[dict[str, Any]] = []
    frame = None
    if image.grid is not None:
        rows, columns = image.grid
        high, wide = _VIEW / rows, _VIEW / columns
        if image.mark is None:
            lines = [
                {"x1": 0, "y1": round(high * at, 2), "x2": _VIEW, "y2": round(high * at, 2)} for at in range(1, rows)
            ]
            lines += [
                {"x1": round(wide * at, 2), "y1": 0, "x2": round(wide * at, 2), "y2": _VIEW} for at in range(1, columns)
            ]
            wanted = range(rows * columns) if rows <= _NUMBERED else _corners(rows, columns)
            numbers = [
                {
                    "x": round((at % columns + 0.5) * wide, 1),
                    "y": round((at // columns + 0.5) * high, 1),
                    "text": at + 1,
                }
                for at in wanted
            ]
        else:
            row, column = divmod(image.mark, columns)
            frame = {"x": column * wide, "y": row * high, "width": wide, "height": high}
    size = _VIEW / max(image.grid) * 0.34 if image.grid is not None else 0
    ratio = image.pixels.shape[0] / image.pixels.shape[1]
    return {
        "address": address_of(image.pixels),
        "caption": translate(f"flow_caption.{image.caption}", lang, **image.names),
        "lines": lines,
        "numbers": numbers,
        "frame": frame,
        "letters": round(min(max(size, 9), 20), 1),
        "height": round(_VIEW * ratio),
        "large": image.caption in ("decoded", "transformed", "patches"),
    }


def _corners(rows: int, columns: int) -> list[int]:
    """The first and the last token of the first and the last row."""
    return [0, columns - 1, (rows - 1) * columns, rows * columns - 1]


def _token(token: Token) -> dict[str, Any]:
    text = token.text.replace("\n", "⏎").replace("\t", "⇥")
    return {
        "text": text.strip(" ") or "␣",
        "space": text.startswith(" ") and bool(text.strip()),
        "id": token.id,
        "depth": None if token.strength is None else round(100 * token.strength),
        "kind": token.note if token.note in ("image", "written") else "",
        "note": "" if token.note in ("image", "written") else token.note,
    }


def _strip(strip: Strip, lang: str) -> dict[str, Any]:
    values = np.asarray(strip.values, dtype=np.float32)[None]  # (1, L)
    return {
        "address": address_of(heat(values)) if values.size else "",
        "caption": translate(f"flow_caption.{strip.caption}", lang, **strip.names),
        "low": f"{float(values.min()):.3g}" if values.size else "",
        "high": f"{float(values.max()):.3g}" if values.size else "",
        "count": values.size,
    }


def _bars(bars: Bars, lang: str) -> dict[str, Any]:
    return {
        "caption": translate(f"flow_caption.{bars.caption}", lang, **bars.names),
        "values": [
            {
                "name": translate_name("flow_name", name, lang)
                if bars.caption != "answers" or name in ("yes", "no")
                else name,
                "width": round(100 * min(max(value, 0.0), 1.0), 1),
                "figure": f"{100 * value:.1f}%",
            }
            for name, value in bars.values
        ],
    }


def address_of(pixels: Any) -> str:
    """Pixels (H, W, 3) as the data address of a PNG."""
    from PIL import Image as Pillow

    return png_address(Pillow.fromarray(np.ascontiguousarray(pixels)))
