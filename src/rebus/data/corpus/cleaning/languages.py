"""Which language a text is in, told by its script where that is enough and else by py3langid. Knows no documents."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from rebus.errors import MissingPackageError, RecipeError, nearest

_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_KANA = re.compile("[\u3040-\u30ff\u31f0-\u31ff]")
_LETTERS = re.compile(r"[^\W\d_]")
_LOOKED_AT = 4096  # characters
_FEW = 20  # letters: fewer say too little


def check_languages(wanted: Sequence[str]) -> None:
    """Raise RecipeError where a code is not known, MissingPackageError where py3langid is not installed."""
    known = set(_identifier().labels)
    for code in wanted:
        if code not in known:
            raise RecipeError(
                "setting 'corpus.clean.languages'",
                "codes of two letters such as en and zh",
                f"'{code}'",
                nearest(code, known),
            )


def language_of(text: str) -> str | None:
    """The code of the language (ISO 639-1) a text is probably in; None: it is too short to say.

    Han characters with hardly any kana are Chinese, simplified or traditional; otherwise py3langid chooses among all it
    knows. It looks at 4,096 characters from the middle, past what mostly stands before a text.
    """
    if len(text) > _LOOKED_AT:
        start = (len(text) - _LOOKED_AT) // 2
        text = text[start : start + _LOOKED_AT]
    letters, han, kana = (len(pattern.findall(text)) for pattern in (_LETTERS, _HAN, _KANA))
    if han > 0.3 * letters and 20 * kana < han:  # a Han character says more than a letter
        return "zh"
    if letters < _FEW:
        return None
    code: str = _identifier().classify(text)[0]
    return code


@cache
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise MissingPackageError("py3langid", "corpus", "the language filter (corpus.clean.languages)") from error
    return LanguageIdentifier.from_model_file(MODEL_FILE)
