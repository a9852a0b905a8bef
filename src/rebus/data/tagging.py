"""Tags on words and the spans they mark: BIO, BIOES, BMES, BILOU, plain labels; and a row's text, cut into units.

A unit is what carries a tag: a word, or a character of Chinese. It knows no model and no table.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rebus.data.lists import parse_list

Span = tuple[int, int, str]  # first unit (or character), one past the last, label
Offset = tuple[int, int]
Style = Literal["prefix", "bare", "plain", "single"]
Cut = Literal["script", "words", "characters"]

OUTSIDE = "O"
ONLY = "span"  # the label of bare tags, which mark spans of one sort
_LETTERS = "BIESMLUW"
_PREFIX = re.compile(rf"([{_LETTERS}])[-_](.+)", re.DOTALL)
_SHAPES = {  # tag: letter and label in two groups, in the order in which they are tried
    "prefix": re.compile(rf"(?P<letter>[{_LETTERS}])[-_:/.|](?P<label>.+)", re.DOTALL | re.I),
    "suffix": re.compile(rf"(?P<label>.+)[-_:/.|](?P<letter>[{_LETTERS}])", re.DOTALL | re.I),
    "joined": re.compile(r"(?P<letter>[BIES])(?P<label>[A-Z][A-Za-z]*)"),
}
_OUTSIDE = (
    "O",
    "o",
    "0",
    "_",
    "-",
    "OUT",
    "out",
    "OUTSIDE",
    "outside",
    "NONE",
    "none",
    "None",
    "OTHER",
    "other",
    "Other",
)
_SAME = {"M": "I", "L": "E", "U": "S", "W": "S"}  # BMES, BILOU and BMEWO say the same as BIOES in other letters
_BARE = frozenset("BIESMLUWO")
_SCHEMES = {"BI": "BIO", "I": "IO", "B": "BIO", "BIES": "BIOES", "BILU": "BILOU", "BMES": "BMES", "BMEW": "BMEWO"}
_CJK = re.compile(
    "[\u2e80-\u2fdf\u3005\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


@dataclass(frozen=True)
class Writing:
    """How a column writes its tags, so that each can be written as ``B-PER`` and ``O``.

    Attributes:
        shape: where the letter stands: ``prefix`` (``B-PER``, ``b_per``), ``suffix`` (``PER-B``), ``joined``
            (``BPER``), ``bare`` (``B``), or ``label``: there is none.
        outside: the tag of words in no span; "": there is none.
        scheme: its name, for people.
        doubt: what may be meant otherwise, for people; "": nothing.
    """

    shape: Literal["prefix", "suffix", "joined", "bare", "label"] = "prefix"
    outside: str = OUTSIDE
    scheme: str = "BIO"
    doubt: str = ""

    def plain(self, tag: str) -> str:
        """A tag as ``B-PER``, ``B`` or ``O``; one that is not written so, as it is."""
        if tag == self.outside:
            return OUTSIDE
        if self.shape == "bare":
            return tag.upper()
        result = _SHAPES[self.shape].fullmatch(tag) if self.shape in _SHAPES else None
        return tag if result is None else f"{result['letter'].upper()}-{result['label']}"


def writing_of(counts: Counter[str]) -> Writing:
    """How a column writes its tags, found from all of them.

    Args:
        counts: tag: how many words have it.
    """
    known = {tag for tag in counts if tag.strip()}
    numbers = sum(tag.isdecimal() for tag in known) > 1  # of tags: 0 is one of them
    outside = next((mark for mark in _OUTSIDE if mark in known and not (numbers and mark == "0")), "")
    others = known - {outside}
    for shape in ("prefix", "suffix", "joined"):
        pairs = [(match["letter"], match["label"]) for tag in others if (match := _SHAPES[shape].fullmatch(tag))]
        if len(pairs) == len(others) > 0 and _is_scheme(shape, pairs, outside):
            return Writing(shape, outside or OUTSIDE, _scheme_name({letter.upper() for letter, _ in pairs}))
    if any(_PREFIX.fullmatch(tag) for tag in others):  # tags of another form among them are wrong, each in its row
        letters = {match[1] for tag in others if (match := _PREFIX.fullmatch(tag))}
        return Writing("prefix", OUTSIDE if OUTSIDE in known else outside or OUTSIDE, _scheme_name(letters))
    if {tag.upper() for tag in known} <= _BARE and {tag.upper() for tag in known} & {"B", "S"} and len(known) > 1:
        return Writing("bare", outside, _scheme_name({tag.upper() for tag in others}))
    return _of_labels(counts, outside)


def _is_scheme(shape: str, pairs: list[tuple[str, str]], outside: str) -> bool:
    """Whether letters and labels are those of tags: capital letters before a hyphen always are."""
    letters = {letter for letter, _ in pairs}
    if len({letter.islower() for letter in letters}) > 1:
        return False
    if shape == "prefix" and letters <= set(_LETTERS):
        return True
    begun = {label for letter, label in pairs if letter.upper() in "BSUW"}
    inside = {label for letter, label in pairs if letter.upper() not in "BSUW"}
    return bool(outside) and bool(begun & inside or (shape != "joined" and not inside))


def _scheme_name(letters: set[str]) -> str:
    letters = letters - {OUTSIDE}
    exact = next((name for full, name in _SCHEMES.items() if letters == set(full)), None)
    return exact or next((name for full, name in _SCHEMES.items() if letters <= set(full)), "mixed")


_NAME_PARTS = re.compile(r"[^a-z0-9]+")
_PLACES = frozenset(
    (
        "start",
        "end",
        "begin",
        "beg",
        "first",
        "last",
        "mid",
        "middle",
        "inside",
        "in",
        "inner",
        "single",
        "cont",
        "stop",
    )
)


def _of_labels(counts: Counter[str], outside: str) -> Writing:
    """Tags without letters: labels, of which one may stand for none."""
    parts = {tag: [part for part in _NAME_PARTS.split(tag.lower()) if part] for tag in counts}
    stems = Counter(
        (*words[:at], *words[at + 1 :])
        for words in parts.values()
        for at, word in enumerate(words)
        if len(words) > 1 and (word in _PLACES or word.isdigit())
    )
    stem = next((stem for stem, count in stems.most_common(1) if count > 1), None)
    if stem is not None or any(mark in tag for tag in counts for mark in "()*"):
        shown = [f"'{tag}'" for tag, words in parts.items() if stem is None or set(stem) <= set(words)][:3]
        doubt = f"{', '.join(shown)} are read as {len(shown)} labels, not as the beginning and the end of one"
        return Writing("label", outside, "labels", doubt)
    if outside in ("", OUTSIDE):
        return Writing("label", outside, "labels")
    share = counts[outside] / counts.total()
    if share >= 0.5 and len(counts) > 1:
        doubt = f"'{outside}', the tag of {share:.0%} of words, is read as no span"
        return Writing("label", outside, "labels", doubt)
    return Writing("label", "", "labels", f"'{outside}' is read as a label, not as no span ({share:.0%} of words)")


def style_of(tags: Iterable[str]) -> Style:
    """How a column of tags is written.

    Returns:
        ``prefix``: ``B-PER``; ``bare``: ``B``, ``M``, ``E``, ``S`` without labels, as in word segmentation; ``plain``:
        labels, and ``O`` for none, where neighbours of one label are one span; ``single``: a label for each word, as
        in part-of-speech tagging.
    """
    known = set(tags)
    if any(_PREFIX.fullmatch(tag) for tag in known):
        return "prefix"
    if known <= _BARE and "B" in known:
        return "bare"
    return "plain" if OUTSIDE in known else "single"


def fits(tag: str, style: Style) -> bool:
    """Whether a tag is written in the style of its column."""
    if style == "prefix":
        return tag == OUTSIDE or _PREFIX.fullmatch(tag) is not None
    return bool(tag.strip())


def parts_of(tag: str, style: Style = "prefix") -> tuple[str, str]:
    """The letter (B, I, E, S or O) and the label of a tag."""
    if tag == OUTSIDE and style != "single":
        return OUTSIDE, ""
    if style == "bare":
        return _SAME.get(tag, tag), ONLY
    result = _PREFIX.fullmatch(tag) if style == "prefix" else None
    if result is None:
        return ("S" if style == "single" else "I"), tag
    return _SAME.get(result[1], result[1]), result[2]


def spans_of(tags: Sequence[str], style: Style = "prefix") -> list[Span]:
    """The spans that tags mark, in units, read as the CoNLL evaluation reads them.

    A tag that cannot go on from the one before begins a span of its own, so no tag is lost. Source: Tjong Kim Sang and
    Buchholz 2000, "Introduction to the CoNLL-2000 Shared Task: Chunking", and its ``conlleval``.
    """
    spans: list[Span] = []
    begun: tuple[int, str] | None = None
    for place, tag in enumerate([*tags, OUTSIDE]):
        letter, label = parts_of(tag, style) if place < len(tags) else (OUTSIDE, "")
        goes_on = letter in "IE" and begun is not None and begun[1] == label
        if begun is not None and not goes_on:
            spans.append((begun[0], place, begun[1]))
            begun = None
        if letter != OUTSIDE and not goes_on:
            begun = (place, label)
        if letter in "ES" and begun is not None:
            spans.append((begun[0], place + 1, begun[1]))
            begun = None
    return spans


def strict_spans_of(tags: Sequence[str], scheme: Literal["BIO", "BIOES"]) -> list[Span]:
    """The spans whose tags keep every rule of the scheme; others are passed over."""
    spans: list[Span] = []
    place = 0
    while place < len(tags):
        letter, label = parts_of(tags[place])
        start, place = place, place + 1
        if scheme == "BIOES" and letter == "S":
            spans.append((start, place, label))
        if letter != "B":
            continue
        inside = "I" if scheme == "BIO" else "IE"
        while place < len(tags) and parts_of(tags[place])[0] in inside and parts_of(tags[place])[1] == label:
            place += 1
            if parts_of(tags[place - 1])[0] == "E":
                break
        if scheme == "BIO" or parts_of(tags[place - 1])[0] == "E":
            spans.append((start, place, label))
    return spans


def tags_of(spans: Iterable[Span], count: int, scheme: Literal["BIO", "BIOES"] = "BIO") -> list[str]:
    """``count`` tags that mark the spans, which do not overlap."""
    tags = [OUTSIDE] * count
    for start, end, label in spans:
        tags[start:end] = [f"B-{label}", *[f"I-{label}"] * (end - start - 1)]
        if scheme == "BIOES":
            tags[end - 1] = f"{'S' if end - start == 1 else 'E'}-{label}"
    return tags


@dataclass(frozen=True)
class Units:
    """A text and where its units stand in it.

    Attributes:
        text: the text; of a list of words, the words with spaces between them (none between Chinese characters).
        offsets: (start, end) of each unit, in characters.
        given: whether the row itself said what its words are.
    """

    text: str
    offsets: list[Offset]
    given: bool = False


def units_of(value: Any, cut: Cut = "script") -> Units:
    """A cell with text as units: a list of words as they are; text is cut.

    Args:
        value: the cell.
        cut: how text is cut: ``words`` at white space, ``characters`` each but white space, ``script``: words and
            signs, and each character of scripts that are written without spaces.
    """
    listed = as_list(value)
    if listed is not None:
        return _joined([str(word) for word in listed])
    text = "" if value is None else str(value)
    if cut == "words":
        return Units(text, [result.span() for result in re.finditer(r"\S+", text)])
    if cut == "characters":
        return Units(text, [(i, i + 1) for i, letter in enumerate(text) if not letter.isspace()])
    return Units(text, list(_by_script(text)))


def cut_for(value: Any, count: int) -> Cut | None:
    """How a text must be cut for ``count`` tags; None where neither words nor characters are as many."""
    for cut in ("words", "characters"):
        if len(units_of(value, cut).offsets) == count:
            return cut
    return None


def as_list(value: Any) -> list[Any] | None:
    """A list as it is, one written in a text (see ``rebus.data.lists``) as a list; None for any other text."""
    if isinstance(value, (list, tuple)):
        return list(value)
    return parse_list(value) if isinstance(value, str) else None


def as_tags(value: Any, names: Sequence[str] = ()) -> list[str]:
    """A cell of tags: a list, or text with spaces between them; numbers by their names.

    Raises:
        ValueError: a number that has no name, or a list in a tag's place; the message is what was found.
    """
    listed = as_list(value)
    tags = listed if listed is not None else str(value).split()
    odd = next((tag for tag in tags if isinstance(tag, list | tuple | dict)), None)
    if odd is not None:
        raise ValueError(f"{odd!r}, a word and its tag together"[:80])
    if not names:
        return ["" if tag is None else str(tag) for tag in tags]
    items = []
    for tag in tags:
        number = str(tag)
        if number in names:
            items.append(number)
        elif number.isdecimal() and int(number) < len(names):
            items.append(names[int(number)])
        else:
            raise ValueError(f"'{number}', which the {len(names)} label_names do not have")
    return items


def are_spans(value: Any) -> bool:
    """Whether a cell holds ``{"start": ..., "end": ..., "label": ...}`` rather than tags."""
    listed = as_list(value)
    return bool(listed) and all(isinstance(item, dict) for item in listed or [])


def _joined(words: list[str]) -> Units:
    text, offsets = "", []
    for word in words:
        if text and not (word and _CJK.match(word) and _CJK.match(text[-1])):
            text += " "
        offsets.append((len(text), len(text) + len(word)))
        text += word
    return Units(text, offsets, given=True)


def _by_script(text: str) -> Iterator[Offset]:
    start: int | None = None
    last = ""
    for place, letter in enumerate(text):
        sort = _sort(letter)
        if start is not None and not (sort == "mark" or (sort == last == "letter")):
            yield start, place
            start = None
        if start is None and sort != "space":
            start = place
        if sort != "mark":
            last = sort
    if start is not None:
        yield start, len(text)


def _sort(letter: str) -> str:
    if letter.isspace():
        return "space"
    category = unicodedata.category(letter)
    if category.startswith("M") or category == "Cf":  # accents, and what joins the parts of an emoji
        return "mark"
    if _CJK.match(letter):
        return "character"
    return "letter" if category[0] in "LN" or letter == "_" else "sign"
