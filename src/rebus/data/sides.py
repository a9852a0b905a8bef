"""Whether a mirror image would make a text wrong: it speaks of left and right, or of writing in the image.

English and Chinese. It errs on the side of caution: "the right answer" counts, and so does "5点左右".
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_SIDES = re.compile(
    r"\b(?:left|right)(?:most|wards?|[- ]?hand(?:ed)?)?\b|\b(?:anti|counter)?-?clockwise\b|[左右]|[顺逆]时针", re.I
)
_WRITING = re.compile(
    r"\b(?:says?|saying|reads?|reading|written|writing|letters?|digits?|spell(?:s|ed|ing)?|mirror(?:ed|s)?)\b"
    r"|写着|写有|字样|文字|字母|数字|汉字|镜像|镜子",
    re.I,
)
_SHOWN = 60


def speaks_of_sides(text: str) -> bool:
    """Whether a text names left or right, or what is written in an image."""
    return _SIDES.search(text) is not None or _WRITING.search(text) is not None


def sides_in(texts: Iterable[str], labels: Iterable[str]) -> str | None:
    """What speaks against mirroring, in a few words; None: nothing.

    Args:
        texts: captions, questions, answers.
        labels: names of classes; single signs (``6``, ``b``, ``国``) are shapes that a mirror changes.
    """
    count = result = 0
    first = ""
    for text in texts:
        count += 1
        if speaks_of_sides(text):
            result += 1
            first = first or " ".join(text.split())
    if result:
        shown = first if len(first) <= _SHOWN else first[: _SHOWN - 3] + "..."
        return f"{result:,} of {count:,} texts speak of left and right or of writing, such as '{shown}'"
    names = list(labels)
    message = next((name for name in names if speaks_of_sides(name.replace("_", " ").replace("-", " "))), None)
    if message is not None:
        return f"the label '{message}' speaks of left and right or of writing"
    signs = [name for name in names if len(name.strip()) == 1]
    if names and 2 * len(signs) > len(names):
        return f"labels such as '{signs[0]}' are single signs, which a mirror changes"
    return None
