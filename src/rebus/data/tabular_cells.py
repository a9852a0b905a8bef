"""How the cells of a column are read as numbers, dates or categories, for columns that are inputs by themselves.

The way is chosen once, from the training table's cells, and kept with the model, so that any other table is read alike.
It knows no tensors and no task. What is blank, a number or a label is decided in ``rebus.data.cells``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time
from typing import Any, Literal, get_args

from rebus.data import cells

ColumnKind = Literal["number", "date", "category"]
DateOrder = Literal["ymd", "dmy", "mdy"]

NEARLY = 0.95  # share of a column's cells that must be of a kind
_MEASURE = re.compile(r"(?P<number>[+-]?[\d.,' ’]*\d[\d.,]*(?:[eE][+-]?\d+)?)\s*(?P<unit>[^\d\s.,+-][^\d]{0,11})")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_TIME = r"(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,]\d+)?)?(?: ?(?P<half>[AaPp])\.?[Mm]\.?)?"
_ZONE = r"(?: ?(?:Z|UTC|GMT|[+-]\d\d:?\d\d))?"
_FORMS = [
    re.compile(rf"{form}(?:(?:[T ]|, ?){_TIME}{_ZONE})?")
    for form in (
        r"(?P<year>\d{4})(?P<mark>[-/.])(?P<month>\d{1,2})(?P=mark)(?P<day>\d{1,2})",
        r"(?P<year>\d{4})年(?P<month>\d{1,2})月(?:(?P<day>\d{1,2})日)?",
        r"(?P<first>\d{1,2})(?P<mark>[-/.])(?P<second_>\d{1,2})(?P=mark)(?P<year>\d{4}|\d\d)",
        r"(?:[A-Za-z]{3,9},? )?(?P<day>\d{1,2})(?:st|nd|rd|th)?[ -](?P<name>[A-Za-z]{3,9})\.?,?[ -](?P<year>\d{4})",
        r"(?P<name>[A-Za-z]{3,9})\.? (?P<day>\d{1,2})(?:st|nd|rd|th)?,? (?P<year>\d{4})",
    )
] + [re.compile(_TIME + _ZONE)]


@dataclass(frozen=True)
class CellReading:
    """How one column is read.

    Attributes:
        kind: ``number``, ``date`` or ``category``.
        style: number: the decimal mark.
        unit: number: what may stand behind it (``kg``, ``cm``).
        order: date: which comes first in ``1/2/2024``.
        sure: whether no other reading of the cells is as likely.
    """

    kind: ColumnKind
    style: cells.NumberStyle = "point"
    unit: str = ""
    order: DateOrder = "ymd"
    sure: bool = True

    def read(self, value: Any, words: Sequence[str] = cells.BLANKS) -> float | datetime | str | None:
        """One cell; None where it holds nothing that can be read so."""
        if cells.is_blank(value, words):
            return None
        if self.kind == "category":
            return cells.label(value)
        return as_date(value, self.order) if self.kind == "date" else self.number(value)

    def number(self, value: Any) -> float | None:
        """A cell as a number, its unit left out; None where it is none."""
        if isinstance(value, str):
            bare = cells.trimmed(value)
            if self.unit and bare.endswith(self.unit):
                bare = bare[: -len(self.unit)]
            number = cells.number(bare, self.style)
            return _TRUTH.get(bare.lower()) if number is None else number
        return cells.number(value, self.style)

    def as_dict(self) -> dict[str, Any]:
        """JSON values that ``CellReading(**...)`` takes."""
        return asdict(self)


_TRUTH = {"true": 1.0, "false": 0.0}


def reading_of(values: Sequence[Any], kind: ColumnKind, style: cells.NumberStyle | None = None) -> CellReading:
    """How a column of this kind is read, by what its cells allow; ``style``: its decimal mark, where it is known."""
    known = [value for value in values if not cells.is_blank(value, cells.BLANKS)]
    if kind == "number":
        unit = unit_of(known) or ""
        texts = [value.removesuffix(unit) if isinstance(value, str) else value for value in map(_trimmed, known)]
        written = cells.numbers([text for text in texts if isinstance(text, str)], style)
        return CellReading(kind, written.style, unit, sure=not written.unsure)
    if kind == "date":
        return _date_reading(known)
    return CellReading(kind)


def unit_of(values: Sequence[Any]) -> str | None:
    """The unit that stands behind the numbers of a column (``12 kg``), where nearly all its cells have the same."""
    texts = [cells.trimmed(value) for value in values if isinstance(value, str)]
    matches = [match for text in texts if (match := _MEASURE.fullmatch(text))]
    if not texts or len(matches) < NEARLY * len(values):
        return None
    (unit, count), *_ = Counter(match["unit"].strip() for match in matches).most_common(1)
    alike = count >= NEARLY * len(values) and unit not in ("%", "％")
    for style in get_args(cells.NumberStyle):
        if alike and all(cells.number(match["number"], style) is not None for match in matches[:100]):
            return unit
    return None


def are_dates(values: Sequence[Any]) -> bool:
    """Whether nearly all cells are dates, times of day or both."""
    count = sum(isinstance(value, date | time) or as_date(value) is not None for value in values)
    return bool(values) and count >= NEARLY * len(values)


def as_date(value: Any, order: DateOrder = "ymd") -> datetime | None:
    """A cell as a date with the time of day, without its zone; None where it is none.

    A time alone is of 1 January 1970, a month of its first day.
    """
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    if isinstance(value, time):
        return datetime(1970, 1, 1, value.hour, value.minute, value.second)
    if not isinstance(value, str) or len(value) > 60:
        return None
    match = next((match for form in _FORMS if (match := form.fullmatch(cells.trimmed(value)))), None)
    if match is None:
        return None
    parts = match.groupdict()
    year, month, day = int(parts.get("year") or 1970), parts.get("month") or 1, parts.get("day") or 1
    if parts.get("first"):
        day, month = parts["first"], parts["second_"]
        if order == "mdy" or (int(month) > 12 and order == "ymd"):
            day, month = month, day
        year += 0 if year > 99 else 2000 if year < 70 else 1900
    if parts.get("name"):
        short = str(parts["name"])[:3].lower()
        if short not in _MONTHS:
            return None
        month = _MONTHS.index(short) + 1
    hour = int(parts.get("hour") or 0)
    if parts.get("half"):
        hour = hour % 12 + (12 if str(parts["half"]) in "Pp" else 0)
    try:
        return datetime(year, int(month), int(day), hour, int(parts.get("minute") or 0), int(parts.get("second") or 0))
    except ValueError:
        return None


def _date_reading(known: Sequence[Any]) -> CellReading:
    """``dmy`` or ``mdy`` where a cell settles it; else dots and dashes are read as Europe does, slashes as America."""
    pairs = [
        (int(match["first"]), int(match["second_"]), match["mark"])
        for value in known
        if isinstance(value, str) and (match := _FORMS[2].fullmatch(cells.trimmed(value)))
    ]
    if not pairs:
        return CellReading("date")
    days_first, months_first = any(first > 12 for first, _, _ in pairs), any(second > 12 for _, second, _ in pairs)
    if days_first != months_first:
        return CellReading("date", order="dmy" if days_first else "mdy")
    return CellReading("date", order="mdy" if pairs[0][2] == "/" else "dmy", sure=pairs[0][2] == ".")


def _trimmed(value: Any) -> Any:
    return cells.trimmed(value) if isinstance(value, str) else value
