"""What a cell of a table says, once it is known what its column is for: nothing, a label, a number, a path, a text.

A table holds cells as its file wrote them. This module alone decides what is blank, which labels are the same, what a
number is and which file a path names; readers, the check, tasks, ``predict`` and the server all ask here. It knows no
table and no task. The rules stand in docs/cells.md.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import unescape
from typing import Any, Literal
from urllib.parse import unquote

from rebus.data.lists import parse_list

NumberStyle = Literal["point", "comma"]  # the decimal mark

EXPORTED_BLANKS = ("nan", "NaN", "-nan", "<NA>", "NaT", "#N/A", "#NA", "NULL")  # programs write them for nothing
WRITTEN_BLANKS = ("null", "None", "NA", "N/A", "n/a")  # people write them too, and may mean the word
BLANKS = (*EXPORTED_BLANKS, *WRITTEN_BLANKS)
_DOUBTFUL_BLANKS = {
    *map(str.lower, BLANKS), "nil", "undefined", "missing", "(null)", "(none)", "(blank)", "(empty)", "\\n", "无", "空",
    "缺失", "-", "--", "—", "–", "?", "？", "??", ".", "..", "...", "…", "*", "#ref!", "#div/0!", "#value!", "#name?",
    "#num!", "#null!", "#error!", "#spill!", "#calc!", "####",
}  # fmt: skip
SEPARATORS = "|;；"
_ENTITIES = ("&amp", "&lt", "&gt", "&quot", "&apos", "&nbsp", "&#39", "&#x27", "&eacute", "&uuml", "&ouml", "&auml")
_DIVIDERS = re.compile("[|；]|" + "".join(f"(?<!{entity})" for entity in _ENTITIES) + ";")
_COMMAS = (",", "，", "、", "/", "+", "&", "\n")  # they divide labels in some columns
_RARE_MARKS = ("\t", "~", "\\", ":", " - ", " and ", " ")  # they may divide several labels, never surely
_RECURRING = 0.4  # of the parts between them, so that they may

_UNSEEN = "\ufeff\u200b\u2060\u00ad"  # they take no room: byte order mark, zero-width space, word joiner, soft hyphen
_EDGES = "".join(map(chr, (*range(0x21), 0x7F, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200E), 0x2028, 0x2029))) + (
    "\u202f\u205f\u3000" + _UNSEEN
)
_SPACES = re.compile(r"\s+")
_WHOLE_POINT = re.compile(r"-?(?:0|[1-9]\d*)\.0", re.ASCII)
_TRUTH = {"true": "true", "True": "true", "TRUE": "true", "false": "false", "False": "false", "FALSE": "false"}


def is_blank(value: Any, words: Collection[str] = ()) -> bool:
    """Whether a cell holds nothing: None, not-a-number, blank text, an empty list or bytes, a list of blanks.

    Args:
        value: the cell.
        words: texts that say nothing as well; see ``blank_words``.
    """
    if value is None:
        return True
    if isinstance(value, str):
        return not (inner := value.strip(_EDGES)) or inner in words
    if isinstance(value, float):
        return value != value
    if isinstance(value, (list, tuple)):
        return all(is_blank(item, words) for item in value)
    return isinstance(value, bytes) and not value


def blank_words(data: bool, blanks: Sequence[str] | None = None) -> tuple[str, ...]:
    """The words that say nothing in a column.

    What programs write for nothing (``nan``, ``<NA>``, ``#N/A``, ``NULL``) says nothing anywhere. What people write too
    (``None``, ``NA``, ``null``) says nothing where cells are data, and is kept in texts.

    Args:
        data: whether the column holds labels, numbers or paths rather than texts.
        blanks: the words where the recipe says them.
    """
    if blanks is not None:
        return tuple(blanks)
    return BLANKS if data else EXPORTED_BLANKS


def may_be_blank(name: str) -> bool:
    """Whether a label may be written for nothing: ``-``, ``?``, an error of a spreadsheet, another spelling of NaN."""
    return name.lower() in _DOUBTFUL_BLANKS


def trimmed(written: str) -> str:
    """A text without what cannot be seen at its ends: spaces of all kinds, control and zero-width characters."""
    return written.strip(_EDGES)


def scalar(value: Any) -> str:
    """A single value as a file would write it: true, 3, 3.5."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def text(value: Any) -> str:
    """A cell as text, as it is written; several texts are joined by a space."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return " ".join(text(part) for part in value)
    return scalar(value)


def texts(value: Any) -> list[str]:
    """A cell that may hold several texts (captions, answers) as a list without blanks."""
    parts = value if isinstance(value, (list, tuple)) else [value]
    return [text(part) for part in parts if not is_blank(part)]


def label(value: Any) -> str:
    """The label that a cell says; "" where it is blank.

    Blanks around it go, blanks inside become one space, accents are composed (NFC). A whole number with ``.0`` is that
    number, since programs write ``1.0`` for 1 where a cell of the column is missing; ``True`` and ``TRUE`` are
    ``true``. All else counts as written: ``1.10``, ``1.1``, ``1E3`` and ``007`` are four labels.
    """
    if value is None:
        return ""
    if isinstance(value, float):
        if value != value:
            return ""
        return str(int(value)) if value.is_integer() and abs(value) < 1e16 else repr(value)
    return _label(text(value))


@lru_cache(maxsize=1 << 16)
def _label(written: str) -> str:
    inner = trimmed(written)
    if _WHOLE_POINT.fullmatch(inner):
        return str(int(inner[:-2]))
    if not inner.isascii():
        inner = unicodedata.normalize("NFC", "".join(letter for letter in inner if letter not in _UNSEEN))
    return _TRUTH.get(inner) or _SPACES.sub(" ", inner)


def labels(value: Any, separator: str | None = None, words: Collection[str] = ()) -> list[str]:
    """The labels of a cell, each once: a list as it is, text divided.

    Args:
        value: the cell.
        separator: what divides a text; None: ``|`` or ``;``; "": nothing does.
        words: labels that say nothing.
    """
    if value is None:
        return []
    parts = value if isinstance(value, (list, tuple)) else listed(value)
    if parts is None:
        parts = divided(text(value), separator)
    result = dict.fromkeys(label(part) for part in parts if not is_blank(part, words))
    result.pop("", None)
    return list(result)


def listed(value: Any) -> list[Any] | None:
    """The list that a text writes; None for any other cell, and for ``(1,000)``, which is a number."""
    return parse_list(value) if isinstance(value, str) and number(value) is None else None


def divided(written: str, separator: str | None = None) -> list[str]:
    """A text's parts between separators; see ``labels``."""
    if separator == "":
        return [written]
    return _DIVIDERS.split(written) if separator is None else written.split(separator)


@dataclass(frozen=True)
class Separator:
    """What may divide the labels of a column beside ``|`` and ``;``.

    Attributes:
        mark: the character; "": nothing.
        sure: whether the parts come back alone or in other company, as labels do.
        cells: the first cells that it divides.
    """

    mark: str = ""
    sure: bool = False
    cells: tuple[str, ...] = ()


def separator(known: Sequence[str], several_labels: bool = False) -> Separator:
    """What divides labels in a column, by what comes back.

    Args:
        known: its cells that are not blank.
        several_labels: whether the column is known to hold several labels a cell, so that rarer marks may divide them.
    """
    best = (0.0, Separator())
    for mark in (*_COMMAS, *_RARE_MARKS) if several_labels else _COMMAS:
        whole = [_parts(cell, mark) for cell in dict.fromkeys(known)]
        several = [parts for parts in whole if len(parts) > 1]
        alone = {parts[0] for parts in whole if len(parts) == 1}
        count = sum(mark in cell for cell in known)
        if 5 * count < len(known) or not several or len(known) < 4:
            continue
        if len(several) < 2 and not alone >= set(several[0]):
            continue
        parts = [part for parts in several for part in parts]
        if any(not part or len(part) > 40 or len(part.split()) > 4 for part in parts):
            continue
        seen = Counter(part for parts in whole for part in parts)
        share = sum(seen[part] > 1 for part in parts) / len(parts)
        divided_cells = tuple(dict.fromkeys(cell for cell in known if mark in cell))[:3]
        recurs = share >= 0.9 and len(several) > 1 and len(seen) <= max(len(several), 3) and _free(whole)
        if mark in _RARE_MARKS:
            recurs = False
            share = share if share >= 0.7 and _free(whole) else 0.0
        if share >= _RECURRING and share > best[0]:
            best = (share, Separator(mark, recurs, divided_cells))
    return best[1]


def found_separator(column: Iterable[Any]) -> str | None:
    """What surely divides the labels of a column beside ``|`` and ``;``; None: nothing does."""
    texts = [value for value in column if isinstance(value, str) and not is_blank(value, BLANKS)]
    if any(mark in item for item in texts for mark in SEPARATORS):
        return None
    mark = separator(texts)
    return mark.mark if mark.sure else None


def _free(whole: Sequence[Sequence[str]]) -> bool:
    """Whether some part stands alone or in several places; the parts of an address have one place each."""
    places: dict[str, set[int]] = {}
    for parts in whole:
        for place, part in enumerate(parts):
            places.setdefault(part, set()).add(place if len(parts) > 1 else -1)
    return any(len(result) > 1 for result in places.values())


def _parts(cell: str, mark: str) -> list[str]:
    parts = [label(part) for part in cell.split(mark)]
    return parts[:-1] if len(parts) > 1 and not parts[-1] else parts  # ``a,b,``


def near_equal(names: Iterable[str]) -> list[list[str]]:
    """Groups of labels that are the same but for case, width, spaces, punctuation, accents, look-alike letters of other
    alphabets or the way a number is written.
    """
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        groups.setdefault(_folded(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


_ALIKE = str.maketrans("асеорхуіѕјһԁԛвкмнтαοορνικτυχ", "aceopxyisjhdqbkmhtaoopviktyx")  # Cyrillic and Greek


def _folded(name: str) -> str:
    amount = number(name)
    if amount is not None:
        return repr(amount)
    wide = unicodedata.normalize("NFKD", unescape(name) if "&" in name else name).casefold().translate(_ALIKE)
    if not any(letter.isalpha() for letter in wide):
        return unicodedata.normalize("NFKC", name)  # the signs of figures count: -1 and 1, 1.5 and 15
    return "".join(letter for letter in wide if unicodedata.category(letter)[0] in "LN")


def paths(written: str) -> list[str]:
    """The spellings under which the file that a cell names may lie, the likeliest first.

    The text itself; without blanks and quotes around it; with slashes for backslashes; with accents composed and apart;
    and with ``%20`` read as an address would have it.
    """
    inner = trimmed(written)
    if len(inner) > 1 and inner[0] == inner[-1] and inner[0] in "\"'":
        inner = trimmed(inner[1:-1])
    items = [written, inner]
    if "\\" in inner:
        items.append(inner.replace("\\", "/"))
    if not inner.isascii():
        items += [unicodedata.normalize(form, item) for form in ("NFC", "NFD") for item in items[1:]]
    if "%" in inner:
        items += [unquote(item) for item in items[1:]]
    return list(dict.fromkeys(item for item in items if item))


_CURRENCY = r"(?:US\$|[$€£¥₹₩₽元円원]|USD|EUR|GBP|RMB|CNY|JPY|CHF)"
_SIGNED = re.compile(rf"(?P<sign>[+-]?)\s*(?:{_CURRENCY}\s*)?(?P<second>[+-]?)(?P<body>[\d.,].*?)\s*(?:{_CURRENCY}|%)?")
_UNBOUNDED = re.compile(r"[+-]?(?:inf|infinity)", re.I)
_PLAIN = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_SIGNS = str.maketrans({"−": "-", "‐": "-", "–": "-"})
_LONGEST_NUMBER = 400


def _grammar(decimal: str, thousands: str) -> re.Pattern[str]:
    groups = rf"[1-9]\d{{0,2}}(?P<mark>[{thousands} '’])\d{{3}}(?:(?P=mark)\d{{3}})*"
    lakhs = rf"[1-9]\d?(?:[{thousands}]\d{{2}})+[{thousands}]\d{{3}}"
    return re.compile(rf"(?:(?:{groups}|{lakhs}|\d+)(?:{decimal}\d*)?|{decimal}\d+)(?:[eE][+-]?\d{{1,3}})?", re.ASCII)


_GRAMMARS = {"point": _grammar(r"\.", ","), "comma": _grammar(",", r"\.")}


def number(value: Any, style: NumberStyle = "point") -> float | None:
    """A cell as a number; None where it is none.

    Signs of currencies and percent are passed over (``5%`` is 5), thousands may be set apart, ``(5)`` is -5.

    Args:
        value: the cell.
        style: the decimal mark of its column.
    """
    if not isinstance(value, str):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            return None
    inner = trimmed(value)
    if style == "point" and _PLAIN.fullmatch(inner):
        return float(inner)
    if not inner or len(inner) > _LONGEST_NUMBER:
        return None
    if _UNBOUNDED.fullmatch(inner):
        return float(inner)
    inner = unicodedata.normalize("NFKC", inner).translate(_SIGNS)
    in_brackets = inner.startswith("(") and inner.endswith(")")
    match = _SIGNED.fullmatch(inner[1:-1] if in_brackets else inner)
    if match is None or (match["sign"] and match["second"]) or not _GRAMMARS[style].fullmatch(match["body"]):
        return None
    decimal, thousands = (".", ",") if style == "point" else (",", ".")
    read = float(re.sub("[ '’]", "", match["body"].replace(thousands, "")).replace(decimal, "."))
    return -read if in_brackets != ("-" in (match["sign"], match["second"])) else read


@dataclass(frozen=True)
class Numbers:
    """How the numbers of a column are written.

    Attributes:
        style: the decimal mark under which most cells are numbers.
        count: cells that are numbers so.
        total: cells that are not blank.
        unlike: the first cells that are no numbers so.
        unsure: the first cells that are another number under the other mark, where no cell settles it.
    """

    style: NumberStyle
    count: int
    total: int
    unlike: tuple[str, ...] = ()
    unsure: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Of the cells that are not blank, those that are numbers."""
        return self.count / max(self.total, 1)


def numbers(cells: Iterable[Any], style: NumberStyle | None = None, words: Collection[str] = BLANKS) -> Numbers:
    """How a column writes its numbers, by what its cells allow.

    Args:
        cells: of the column, or a sample of them.
        style: the decimal mark where it is known.
        words: cells that say nothing.
    """
    known = [cell for cell in cells if not is_blank(cell, words)]
    point, comma = ([number(cell, item) for cell in known] for item in ("point", "comma"))
    best: NumberStyle = "comma" if sum(x is not None for x in comma) > sum(x is not None for x in point) else "point"
    chosen = style or best
    read, other = (point, comma) if chosen == "point" else (comma, point)
    unlike = [scalar(cell) for cell, x in zip(known, read, strict=True) if x is None]
    settled = any((a is None) != (b is None) for a, b in zip(point, comma, strict=True))
    differ = [scalar(c) for c, a, b in zip(known, read, other, strict=True) if None not in (a, b) and a != b]
    unsure = differ if style is None and not settled else []
    return Numbers(chosen, len(known) - len(unlike), len(known), tuple(unlike[:3]), tuple(unsure[:3]))


def in_order(names: Iterable[str]) -> list[str]:
    """Names by their numbers where all are numbers, else by the alphabet."""
    listed = list(names)
    by_number = {name: value for name in listed if (value := number(name)) is not None}
    return sorted(listed, key=(lambda name: (by_number[name], name)) if len(by_number) == len(listed) else None)


def is_code(cell: Any) -> bool:
    """Whether a cell is digits that count as written: with a zero before them, or more than fit a number."""
    inner = trimmed(cell) if isinstance(cell, str) else ""
    digits = inner.lstrip("+-")
    return digits.isdecimal() and len(digits) > 1 and (digits[0] == "0" or len(digits) > 18)
