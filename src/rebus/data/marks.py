"""What a row says of its text: tags on its words, spans of its characters, or the answer to a question about it.

Each reader says what is wrong with a row as (expected, found, do), or gives the row's spans. It knows no table.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from rebus.data.tagging import (
    Cut,
    Span,
    Style,
    Units,
    Writing,
    are_spans,
    as_list,
    as_tags,
    cut_for,
    fits,
    parts_of,
    spans_of,
    strict_spans_of,
    style_of,
    units_of,
    writing_of,
)

Wrong = tuple[str, str, str]  # expected, found, do
_LABEL_KEYS = ("label", "tag", "type", "entity")


@dataclass(frozen=True)
class Marks:
    """What the columns of a tagging task are like as a whole.

    Attributes:
        spans: the marks are spans in characters rather than tags on words.
        style: how tags are written.
        cut: how a text that is not a list of words is cut into units.
        names: tags that numbers stand for, in their order.
        writing: how tags are written, so that each can be read as ``B-PER`` or ``O``.
    """

    spans: bool = False
    style: Style = "prefix"
    cut: Cut = "script"
    names: tuple[str, ...] = ()
    writing: Writing = field(default_factory=Writing)

    @classmethod
    def of(cls, texts: Sequence[Any], cells: Sequence[Any], names: Sequence[str] = ()) -> Marks:
        """Look at a column of texts and one of tags or spans; rows that hold nothing are passed over."""
        known = [(text, cell) for text, cell in zip(texts, cells, strict=True) if text is not None and cell is not None]
        if any(are_spans(cell) or _triples(cell) for _, cell in known):
            return cls(spans=True, names=tuple(names))
        rows: list[list[str]] = []
        cuts: list[Cut | None] = []
        for text, cell in known:
            try:
                result = as_tags(cell, names)
            except ValueError:
                continue  # told of the row it is in
            rows.append(result)
            if as_list(text) is None:
                cuts.append(cut_for(text, len(result)))
        cut: Cut = "script"
        if cuts:
            cut = "words" if 2 * cuts.count("words") >= len(cuts) - cuts.count(None) else "characters"
        counts = Counter(tag for tags in rows for tag in tags)
        writing = writing_of(counts)
        style = style_of(map(writing.plain, counts))
        if style == "prefix":
            writing = _named(writing, rows)
        return cls(style=style, cut=cut, names=tuple(names), writing=writing)

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Marks:
        """What ``as_dict`` gave."""
        writing = Writing(**state.get("writing", {}))
        return cls(**{**state, "names": tuple(state.get("names", ())), "writing": writing})

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        entries = {"spans": self.spans, "style": self.style, "cut": self.cut, "names": list(self.names)}
        return {**entries, "writing": asdict(self.writing)}

    def writes_like(self, other: Marks) -> bool:
        """Whether tags of one are read alike by the other."""
        mine, its = self.writing, other.writing
        return (mine.shape, mine.outside) == (its.shape, its.outside)

    def said(self) -> str:
        """How the tags are written, for people; "" where marks are spans of characters."""
        if self.spans or self.style == "single":
            return ""
        shown = {"prefix": "B-LABEL", "suffix": "LABEL-B", "joined": "BLABEL", "bare": "B", "label": "LABEL"}
        outside = f", {self.writing.outside} outside" if self.writing.outside else ""
        return f"{self.writing.scheme} ({shown[self.writing.shape]}{outside})"

    def wrong(self, text: Any, cell: Any) -> Wrong | None:
        """What is wrong with a row's marks; None where nothing is."""
        if self.spans:
            return self._wrong_spans(text, cell)
        try:
            tags = as_tags(cell, self.names)
        except ValueError as error:
            do = "give task.label_names the names in their order" if self.names else "write the tag of each word alone"
            return "a tag, or the number of one", str(error), do
        if not self.names and any(tag.isdecimal() and tag != self.writing.outside for tag in tags):
            do = "say what the numbers mean with --set tasks.0.label_names=[O,B-PER,I-PER,...]"
            return "names of tags", f"the number {next(tag for tag in tags if tag.isdecimal())}", do
        listed = as_list(text)
        if listed is not None and any(not str(word or "").strip() for word in listed):
            return "words", "an empty one", "leave it and its tag out"
        units = self._units(text, len(tags))
        if len(units.offsets) != len(tags):
            what = "words" if listed is not None else "words (or characters)"
            return f"a tag for each of the {len(units.offsets)} {what}", f"{len(tags)} tags", "correct the row"
        bad = next((tag for tag in tags if not fits(self.writing.plain(tag), self.style)), None)
        if bad is not None:
            expected = "O or a tag such as B-PER (BIO, BIOES, BMES or BILOU), as in other rows"
            return expected, f"'{bad}'", "write all tags of the column in one scheme"
        return None

    def read(self, text: Any, cell: Any) -> tuple[Units, list[Span], list[Span]]:
        """A row that ``wrong`` has nothing against: its units, its spans in units and in characters.

        A span that begins or ends inside a unit counts that unit in.
        """
        if self.spans:
            units = units_of(text)
            result = sorted(_as_span(item) for item in as_list(cell) or [])
            return units, in_units(units, result), result
        tags = self._plain(cell)
        units = self._units(text, len(tags))
        spans = spans_of(tags, self.style)
        return units, spans, in_characters(units, spans)

    def keeps_rules(self, cell: Any) -> bool:
        """Whether tags with prefixes keep the rules of their scheme, so that every reader finds the same spans."""
        if self.spans or self.style != "prefix" or self.writing.scheme in ("IO", "IOB1"):
            return True
        tags = self._plain(cell)
        scheme: Literal["BIO", "BIOES"] = "BIOES" if any(parts_of(tag)[0] in "ES" for tag in tags) else "BIO"
        return strict_spans_of(tags, scheme) == spans_of(tags)

    def units(self, text: Any) -> Units:
        """The units of a text that has no marks yet."""
        return units_of(text, self.cut)

    def _plain(self, cell: Any) -> list[str]:
        """A cell's tags as ``B-PER`` and ``O``."""
        return [self.writing.plain(tag) for tag in as_tags(cell, self.names)]

    def _units(self, text: Any, count: int) -> Units:
        return units_of(text, cut_for(text, count) or self.cut) if as_list(text) is None else units_of(text)

    def _wrong_spans(self, text: Any, cell: Any) -> Wrong | None:
        do = "write spans as {start, end, label}: characters counted from 0, the end one past the last"
        if as_list(text) is not None:
            return "a text, as the marks are spans of characters", "a list of words", "join the words, or give tags"
        result: list[Span] = []
        for item in as_list(cell) or []:
            try:
                result.append(_as_span(item))
            except (KeyError, TypeError, ValueError):
                return "spans", repr(item)[:80], do
        for start, end, label in result:
            if not 0 <= start < end <= len(text):
                return f"spans inside the text of {len(text)} characters", f"{start} to {end} ({label})", do
            if not label.strip():
                return "a label for each span", f"none for {start} to {end}", do
            if not text[start:end].strip():
                return "spans that hold a word", f"blanks from {start} to {end}", do
        for first, second in itertools.pairwise(sorted(result)):
            if second[0] < first[1]:
                message = f"'{text[first[0] : first[1]]}' and '{text[second[0] : second[1]]}'"
                return "spans that do not overlap", message[:80], "keep one of them"
        return None


def _named(writing: Writing, rows: Sequence[Sequence[str]]) -> Writing:
    """The scheme, told from how tags follow each other: in IOB1 B only stands right after a span of its label."""
    if writing.scheme == "mixed":
        return replace(writing, doubt="the letters of several schemes are mixed; each is read by its own rule")
    if writing.scheme != "BIO":
        return writing
    loose = after = begun = 0
    for tags in rows:
        before = ("O", "")
        for letter, label in (parts_of(writing.plain(tag)) for tag in tags):
            same = before[0] != "O" and before[1] == label
            loose += letter == "I" and not same
            after += letter == "B" and same
            begun += letter == "B" and not same
            before = (letter, label)
    if loose and not begun:
        return replace(writing, scheme="IOB1")
    if loose and loose > 0.05 * (begun + after):
        return replace(writing, doubt=f"{loose} of {loose + begun + after} spans begin with I instead of B")
    return writing


def in_characters(units: Units, spans: Sequence[Span]) -> list[Span]:
    """Spans of units as spans of characters."""
    return [(units.offsets[start][0], units.offsets[end - 1][1], label) for start, end, label in spans]


def in_units(units: Units, spans: Sequence[Span]) -> list[Span]:
    """Spans of characters as spans of units; one that begins or ends inside a unit counts it in."""
    starts, ends = [start for start, _ in units.offsets], [end for _, end in units.offsets]
    result: list[Span] = []
    before = 0
    for start, end, label in spans:
        first, last = max(bisect_right(ends, start), before), bisect_left(starts, end)
        if first < last:  # two spans in one word: the first has it
            result.append((first, last, label))
            before = last
    return result


def _as_span(value: Any) -> Span:
    if isinstance(value, (list, tuple)):
        start, end, label = value
    else:
        start, end = value["start"], value["end"]
        label = (
            next(value[key] for key in _LABEL_KEYS if value.get(key) is not None)
            if set(_LABEL_KEYS) & set(value)
            else ""
        )
    if isinstance(start, bool) or int(start) != float(start) or int(end) != float(end):
        raise ValueError(start)
    return int(start), int(end), str(label)


def _triples(cell: Any) -> bool:
    listed = as_list(cell)
    return bool(listed) and all(isinstance(item, (list, tuple)) and len(item) == 3 for item in listed or [])


def answers_of(cell: Any, start: Any = None) -> list[tuple[str, int | None]]:
    """The answers in a cell, each with where it starts if that is said; none: the question has no answer.

    Args:
        cell: a text, several texts, or SQuAD's ``{"text": [...], "answer_start": [...]}``.
        start: the cell of a column of starts: a number, or one for each answer.
    """
    if isinstance(cell, dict):
        cell, start = cell.get("text"), cell.get("answer_start", start)
    texts = cell if isinstance(cell, (list, tuple)) else [cell]
    starts = list(start) if isinstance(start, (list, tuple)) else [start] * (1 if len(texts) == 1 else 0)
    starts += [None] * (len(texts) - len(starts))
    items = []
    for text, at in zip(texts, starts, strict=False):
        if text is None or not str(text).strip():
            continue
        blank = at is None or (isinstance(at, float) and at != at) or (isinstance(at, str) and not at.strip())
        items.append((str(text), None if blank else int(float(at))))
    return items


def find_answer(context: str, answer: str, start: int | None = None) -> tuple[int, int] | None:
    """Where an answer stands in its passage, (start, end) in characters; None where it does not.

    Without a start, its first place as a whole word, else its first place; if need be in other capitals.
    """
    if start is not None:
        if context[start : start + len(answer)] == answer:
            return start, start + len(answer)
        return None
    trimmed = answer.strip()
    for text, wanted in ((context, trimmed), (context.lower(), trimmed.lower())):
        if len(text) != len(context) or len(wanted) != len(trimmed):
            continue
        at = text.find(wanted)
        whole = at
        while whole >= 0 and not _whole(text, whole, whole + len(wanted)):
            whole = text.find(wanted, whole + 1)
        if at >= 0:
            best = whole if whole >= 0 else at
            return best, best + len(trimmed)
    return None


def wrong_answer(context: Any, cell: Any, start: Any = None) -> Wrong | None:
    """What is wrong with the answer to a question about a passage; None where nothing is."""
    try:
        answers = answers_of(cell, start)
    except (TypeError, ValueError):
        return "a whole number that says where the answer starts", repr(start)[:60], "correct it or leave it empty"
    text = "" if context is None else str(context)
    for answer, at in answers:
        if find_answer(text, answer, at) is not None:
            continue
        if at is None:
            do = "copy the answer from the passage, or leave it empty where the passage has none"
            return "an answer that stands in its passage", f"'{answer[:60]}', which does not", do
        there = text[max(at, 0) : max(at, 0) + len(answer)][:60]
        do = "count characters from 0, or leave the start out: the answer is then looked for"
        return f"'{answer[:60]}' at character {at} of the passage", f"'{there}'", do
    return None


def _whole(text: str, start: int, end: int) -> bool:
    before, after = text[start - 1 : start], text[end : end + 1]
    return not ((before + text[start]).isascii() and before.isalnum() and text[start].isalnum()) and not (
        (text[end - 1] + after).isascii() and after.isalnum() and text[end - 1].isalnum()
    )
