"""Differences as people read them, in both languages: points where the figure is a share, its own unit elsewhere."""

from __future__ import annotations

from rebus.catalogue import translate
from rebus.report import labels


def signed(value: float, metric: str) -> str:
    """``+6.1`` or ``−0.127``; in points where the figure is a share."""
    text = f"{100 * value:+.1f}" if labels.is_share(metric) else f"{'-' if value < 0 else '+'}{size(value, metric)}"
    return text.replace("-", "\u2212")


def size(value: float, metric: str) -> str:
    """``6.1``: how large a difference is, without its sign."""
    return f"{100 * abs(value):.1f}" if labels.is_share(metric) else labels.number(abs(value))


def bound(value: float, metric: str) -> str:
    """``8.2`` or ``−0.8``: a difference whose sign is told only where it is negative."""
    text = size(value, metric)
    return f"\u2212{text}" if value < 0 and text.strip("0.") else text


def span(low: float, high: float, metric: str, language: str) -> str:
    """``(4.0 to 8.2)``, in Chinese ``（4.0 至 8.2）``."""
    between = f"{bound(low, metric)} {'至' if language == 'zh' else 'to'} {bound(high, metric)}"
    return f"（{between}）" if language == "zh" else f"({between})"


def measured(value: float, metric: str, language: str) -> str:
    """``6.1 points``, in Chinese ``6.1 个百分点``; of what is no share: ``0.127``."""
    unit = f" {translate('report.points', language)}" if labels.is_share(metric) else ""
    return bound(value, metric) + unit


def listed(names: list[str], language: str) -> str:
    """``a, b and c``, in Chinese ``a、b 和 c``."""
    if len(names) < 2:
        return "".join(names)
    comma, both = ("、", " 和 ") if language == "zh" else (", ", " and ")
    return comma.join(names[:-1]) + both + names[-1]
