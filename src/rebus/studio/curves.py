"""A line over steps as a small SVG, which needs no script and no library in the page."""

from __future__ import annotations

from collections.abc import Sequence

from rebus.studio.panel import esc

_W, _H, _LEFT, _BOTTOM, _TOP, _RIGHT = 360, 190, 46, 24, 8, 10
_MOST = 400  # points drawn


def curve(points: Sequence[tuple[float, float]], title: str, unit: str, *, colour: str = "#1f6f78") -> str:
    """A figure of (step, value) pairs with its last value told in words.

    Args:
        points: in the order of their steps.
        title: of the figure.
        unit: below the horizontal axis.
        colour: of the line.
    """
    message = f"{title}: {points[-1][1]:.4g}" if points else title
    return (
        f"<figure><figcaption>{esc(message)}</figcaption>"
        f'<svg viewBox="0 0 {_W} {_H}" role="img" aria-label="{esc(message)}" '
        f'data-points="{len(points)}">{_drawn(points, unit, colour)}</svg></figure>'
    )


def _drawn(points: Sequence[tuple[float, float]], unit: str, colour: str) -> str:
    if not points:
        return ""
    shown = list(points[:: -(-len(points) // _MOST)])
    if shown[-1] != points[-1]:
        shown.append(points[-1])
    left, right = min(x for x, _ in shown), max(x for x, _ in shown)
    low, high = min(y for _, y in shown), max(y for _, y in shown)
    wide, tall = (right - left) or 1.0, (high - low) or 1.0
    inner_w, inner_h = _W - _LEFT - _RIGHT, _H - _TOP - _BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        return _LEFT + (x - left) / wide * inner_w, _TOP + (high - y) / tall * inner_h

    lines = []
    for share in (0.0, 0.5, 1.0):
        value, y = low + share * tall, at(left, low + share * tall)[1]
        lines.append(
            f'<line x1="{_LEFT}" x2="{_W - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" opacity=".15"/>'
        )
        lines.append(_text(_LEFT - 6, y + 4, f"{value:.3g}", "end"))
        if high == low:
            break
    lines.append(_text(_LEFT, _H - 6, f"{left:g}", "start"))
    lines.append(_text(_W - _RIGHT, _H - 6, f"{right:g} {unit}", "end"))
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in shown))
    last = at(*shown[-1])
    lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
    lines.append(f'<circle cx="{last[0]:.1f}" cy="{last[1]:.1f}" r="3.5" fill="{colour}"/>')
    return "".join(lines)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="11" fill="currentColor" text-anchor="{anchor}">{esc(text)}</text>'
