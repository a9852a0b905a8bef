"""How a caption or an answer is cut into words before two of them are compared.

Knows no metric. Words of scripts written with spaces (Latin, Cyrillic, Arabic, Hangul, ...) are whole words; Chinese
characters and Japanese kana are one word each, so that no segmentation model can move a figure.
"""

from __future__ import annotations

import re
import unicodedata

_CJK = "\u2e80-\u2fdf\u3005\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_CJK_CHARACTER = re.compile(f"[{_CJK}]")
_SPACE_BESIDE_CJK = re.compile(rf"(?<=[{_CJK}])\s+|\s+(?=[{_CJK}])")
_COMMA_IN_NUMBER = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_MARK = re.compile(r"\.(?!\d)|(?<!\w)-(?!\d)|(?<=\w)-|_|[^\w\s.%&#@*+=$\-]")
_APOSTROPHE = re.compile(r"(?<=\w)['\u2019\u02bc](?=\w)")

_ARTICLES = frozenset({"a", "an", "the"})
_ENGLISH_NUMBERS = {
    **{"zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7"},
    **{"eight": "8", "nine": "9", "ten": "10", "eleven": "11", "twelve": "12", "thirteen": "13", "fourteen": "14"},
    **{"fifteen": "15", "sixteen": "16", "seventeen": "17", "eighteen": "18", "nineteen": "19", "twenty": "20"},
}
_CHINESE_DIGITS = {character: value for value, character in enumerate("零一二三四五六七八九")}
_CHINESE_DIGITS |= {"〇": 0, "两": 2, "兩": 2}
_CHINESE_COUNT = re.compile(r"([零〇一二两兩三四五六七八九]?)(十?)([一二三四五六七八九]?)[个個只隻]?")
_DIGIT_COUNT = re.compile(r"(\d+)[个個只隻]")


def has_cjk(text: str) -> bool:
    """Whether ``text`` holds a Chinese character or Japanese kana."""
    return _CJK_CHARACTER.search(text) is not None


def cjk_share(text: str) -> float:
    """The share of letters that are Chinese characters or Japanese kana, 0 to 1."""
    letters = sum(map(str.isalpha, text))
    return len(_CJK_CHARACTER.findall(text)) / letters if letters else 0.0


def words(text: str) -> list[str]:
    """The words of ``text``: NFKC, case folded, without punctuation; a CJK character is a word of its own."""
    return _CJK_CHARACTER.sub(lambda match: f" {match.group()} ", _without_marks(text)).split()


def normalise_answer(text: str) -> str:
    """The form in which two answers are compared.

    NFKC and case folding; punctuation, English articles and spaces beside Chinese characters go; ``two`` and ``两个``
    become ``2``; ``1,000`` becomes ``1000``. An answer that would vanish (``?``, or the option ``A``) keeps its text.
    The rules follow the evaluation of Antol et al. 2015, "VQA: Visual Question Answering", widened to Chinese.
    """
    plain = _without_marks(text)
    kept = " ".join(_ENGLISH_NUMBERS.get(word, word) for word in plain.split() if word not in _ARTICLES)
    kept = _SPACE_BESIDE_CJK.sub("", kept)
    if not kept:
        return plain.strip() or unicodedata.normalize("NFKC", text).casefold().strip()
    return _chinese_count(kept)


def _without_marks(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).casefold().replace("\u2212", "-")
    text = _APOSTROPHE.sub("", _COMMA_IN_NUMBER.sub("", text))
    return _MARK.sub(_space_unless_part_of_a_letter, text)


def _space_unless_part_of_a_letter(match: re.Match[str]) -> str:
    # Vowel signs of Indic scripts and stray accents are not \w, yet they belong to the letter before them; emoji are
    # symbols that carry meaning. Punctuation (category P) and what is left of the symbols become a space.
    mark = match.group()
    category = unicodedata.category(mark)
    return mark if category.startswith("M") or category == "So" else " "


def _chinese_count(answer: str) -> str:
    digits = _DIGIT_COUNT.fullmatch(answer)
    if digits:
        return digits.group(1)
    spelt = _CHINESE_COUNT.fullmatch(answer)
    if not spelt or not any(spelt.groups()):
        return answer
    tens, ten, units = spelt.groups()
    if not ten:  # one digit; two in a row (三四) mean "three or four", not a number
        return answer if tens and units else str(_CHINESE_DIGITS[tens or units])
    return str(10 * (_CHINESE_DIGITS[tens] if tens else 1) + (_CHINESE_DIGITS[units] if units else 0))
