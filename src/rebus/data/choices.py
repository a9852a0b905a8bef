"""Questions with choices: the choices of a row and which of them is right, in the ways that tables write it.

The right one may be written as its text, as a letter (``A`` is the first) or as a number, counted from 0 or from 1;
which of these a column uses is found from the whole column.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rebus.data.cells import is_blank, label, text
from rebus.data.lists import parse_list
from rebus.errors import DataError

LETTERS = ("A", "B", "C", "D", "E")  # roles of choices that stand in columns of their own
_LETTER = re.compile(r"\(?([A-Za-z])[).:]?")
_DIVIDED = re.compile(r"[|;；\n]")


def choices_of(value: Any) -> list[str]:
    """The choices of one cell: a list as it is, text divided at ``|``, ``;`` or line ends; blanks are left out."""
    if value is None:
        return []
    listed = parse_list(value) if isinstance(value, str) else value if isinstance(value, list | tuple) else None
    parts = _DIVIDED.split(text(value)) if listed is None else listed
    return [text(part).strip() for part in parts if not is_blank(part)]


def row_choices(values: Mapping[str, Sequence[Any]], row: int) -> list[str]:
    """The choices of a row, from one column or from a column each."""
    if "choices" in values:
        return choices_of(values["choices"][row])
    cells = [values[letter][row] for letter in LETTERS if letter in values]
    return [text(cell).strip() for cell in cells if not is_blank(cell)]


@dataclass(frozen=True)
class AnswerStyle:
    """How a column says which choice is right.

    Attributes:
        first: the number of the first choice, 0 or 1.
        numbers: whether digits are numbers of choices rather than the text of one.
    """

    first: int = 0
    numbers: bool = True

    @classmethod
    def of(cls, answers: Sequence[Any], choices: Sequence[list[str]]) -> AnswerStyle:
        """Found from a column's answers and its rows' choices."""
        known = [(answer, options) for answer, options in zip(answers, choices, strict=True) if not is_blank(answer)]
        digits = [(int(label(answer)), options) for answer, options in known if _is_number(answer)]
        texts = [answer for answer, _ in known if not isinstance(answer, str)]
        spelt = not texts and all(str(answer).strip() in options for answer, options in known)
        if not digits or spelt:
            return cls(0, not spelt)
        from_one = all(number >= 1 for number, _ in digits) and any(
            number == len(options) for number, options in digits
        )
        return cls(int(from_one), True)

    def index(self, answer: Any, options: Sequence[str]) -> int | None:
        """The place of the right choice, from 0; None where the answer names none of them."""
        text = str(answer).strip()
        if self.numbers and _is_number(answer):
            number = int(label(answer)) - self.first
            if 0 <= number < len(options):
                return number
            return options.index(text) if isinstance(answer, str) and text in options else None
        if text in options:
            return options.index(text)
        letter = _LETTER.fullmatch(text)
        if letter and ord(letter.group(1).upper()) - ord("A") < len(options):
            return ord(letter.group(1).upper()) - ord("A")
        return None


def wrong_choices(options: Sequence[str], answer: Any, style: AnswerStyle, where: str) -> DataError | None:
    """What is wrong with a row's choices or with its answer, where it has one."""
    do = "correct that row, or leave it out with --set data.on_bad=skip"
    if len(options) < 2:
        return DataError(where, "at least two choices", f"'{options[0]}' alone" if options else "none", do)
    if not is_blank(answer) and style.index(answer, options) is None:
        counted = f"a number from {style.first} to {style.first + len(options) - 1}"
        last = chr(ord("A") + len(options) - 1)
        expected = f"the right one of {len(options)} choices: its text, a letter from A to {last}, or {counted}"
        return DataError(where, expected, repr(answer)[:60], do)
    return None


def _is_number(answer: Any) -> bool:
    return not isinstance(answer, bool) and re.fullmatch(r"-?\d+", label(answer), re.ASCII) is not None
