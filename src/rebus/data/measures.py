"""Figures of columns for the check: lengths and scripts of texts, balance of labels, spread of numbers."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from rebus.data import cells

MOST_TEXTS = 50_000
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af\U00020000-\U0003ffff]")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
_LETTER = re.compile(r"[^\W\d_]")
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def text_figures(values: Sequence[Any]) -> dict[str, Any]:
    """Lengths in characters at quantiles, and the share of texts mostly in each script.

    Of more than 50,000 texts, an evenly spaced sample is measured; ``measured`` says how many.
    """
    step = max(1, math.ceil(len(values) / MOST_TEXTS))
    texts = [text for value in values[::step] for text in _texts(value)]
    if not texts:
        return {"measured": 0}
    lengths = np.array([len(text) for text in texts])
    scripts = Counter(map(script, texts))
    return {
        "measured": len(texts),
        "characters": {f"{q:.0%}": int(np.quantile(lengths, q)) for q in _QUANTILES} | {"max": int(lengths.max())},
        "scripts": {name: round(count / len(texts), 4) for name, count in scripts.most_common()},
    }


def turn_figures(values: Sequence[Any]) -> dict[str, Any]:
    """Turns of conversations at quantiles, and ``text_figures`` of what is said in them."""
    whole = [value for value in values if isinstance(value, list) and value]
    if not whole:
        return {"measured": 0}
    turns = np.array([len(value) for value in whole])
    items = [turn.get("content") or turn.get("value") for value in whole for turn in value if isinstance(turn, dict)]
    result = text_figures([text for text in items if isinstance(text, str)])
    return {"turns": {f"{q:.0%}": int(np.quantile(turns, q)) for q in _QUANTILES} | {"max": int(turns.max())}, **result}


def script(text: str) -> str:
    """``cjk``, ``latin`` or ``other``, whichever most letters are in; ``none`` for a text without letters."""
    cjk = len(_CJK.findall(text))
    latin = len(_LATIN.findall(text))
    other = 0 if text.isascii() else max(0, len(_LETTER.findall(text)) - cjk - latin)
    if not cjk + latin + other:
        return "none"
    return max((("cjk", cjk), ("latin", latin), ("other", other)), key=lambda pair: pair[1])[0]


def label_figures(labels: Sequence[str]) -> dict[str, Any]:
    """How many different labels there are and how often each is used (the 30 most frequent by name)."""
    counts = Counter(labels)
    ordered = counts.most_common()
    return {
        "different": len(counts),
        "counts": dict(ordered[:30]),
        "rarest": ordered[-1][1] if ordered else 0,
        "most_frequent_share": round(ordered[0][1] / len(labels), 4) if ordered else 0.0,
    }


def number_figures(numbers: Sequence[float | None]) -> dict[str, Any]:
    """Minimum, median, maximum, mean, and how many are not finite numbers."""
    finite = np.array([number for number in numbers if number is not None and math.isfinite(number)])
    result: dict[str, Any] = {"not_finite": len(numbers) - len(finite)}
    if len(finite):
        result |= {"min": float(finite.min()), "median": float(np.median(finite)), "max": float(finite.max())}
        result |= {"mean": float(finite.mean()), "different": len(np.unique(finite))}
    return result


_YES = frozenset({"1", "yes", "y", "true", "match", "是", "对", "真", "匹配", "相符"})
_NO = frozenset({"0", "no", "n", "false", "mismatch", "否", "不", "不是", "错", "假", "不匹配", "不相符"})


def as_yes(value: Any) -> bool | None:
    """A cell that says yes or no, in English, Chinese or as 1 and 0; None where it says neither."""
    text = cells.label(value).casefold()
    return True if text in _YES else False if text in _NO else None


def leak_share(texts: Sequence[Any], labels: Sequence[str]) -> tuple[float, float]:
    """Share of texts that name their own label, and that name another label (what chance would give)."""
    pairs = [(" ".join(_texts(text)).casefold(), label.casefold()) for text, label in zip(texts, labels, strict=True)]
    pairs = [(text, label) for text, label in pairs if text and len(label) > 1][:20_000]
    if not pairs:
        return 0.0, 0.0
    own = chance = 0
    recent = list(dict.fromkeys(label for _, label in pairs))[-2:]  # two different labels, the latest first
    for text, label in pairs:
        others = [other for other in recent if other != label]
        own += _names(text, label)
        chance += bool(others) and _names(text, others[0])
        recent = [label, *others[:1]]
    return own / len(pairs), chance / len(pairs)


def _names(text: str, label: str) -> bool:
    if label not in text:
        return False
    return not label.isascii() or re.search(rf"(?<!\w){re.escape(label)}(?!\w)", text) is not None


def _texts(value: Any) -> list[str]:
    parts = value if isinstance(value, list) else [value]
    return [cells.text(part) for part in parts if not cells.is_blank(part)]
