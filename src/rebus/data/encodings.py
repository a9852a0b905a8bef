"""Bytes to text, strictly: what cannot be read is named by its byte and line, never replaced.

It does not know what the text means.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from rebus.data.charsets import readings
from rebus.errors import DataError

_BOMS = (  # UTF-32 first: its little-endian mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BINARY = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook", "unpack it, or let the name of a workbook end in .xlsx"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "let the file's name end in .xls"),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"%PDF-", "a PDF", "give a table: CSV, JSONL or Parquet"),
    (b"PAR1", "Parquet data", "let the file's name end in .parquet"),
    (b"\x89PNG", "an image", "give the table or the folder that names it"),
    (b"\xff\xd8\xff", "an image", "give the table or the folder that names it"),
    (b"SQLite format 3", "an SQLite database", "export the table as CSV"),
)
_SAMPLE = 1 << 16
_LARGE = 1 << 22
_MOST_WORDS = 2000
_AGREED, _ALONE = 2.5, 6.0  # nats by which the best encoding must be likelier than any other
_ALONE_EACH = 0.5  # and nats a byte where chardetng says otherwise
_PLAUSIBLE = 5.5  # nats a byte beyond ASCII: languages take 1 to 4.5, noise 6.5
_SLACK = 10.0  # nats that a rare letter may cost a short text
_ALIASES = {"windows-874": "cp874", "Shift_JIS": "cp932", "EUC-KR": "cp949", "GBK": "gb18030"}  # as Windows has them
_BEYOND = bytes(range(0x80, 0x100))
_WORD = re.compile(rb"[^\s,;\"'|.!?()]*[\x80-\xff][^\s,;\"']*")
_ASCII_WORD = re.compile(rb"(?<![\x80-\xff])\b[A-Za-z]+\b(?![\x80-\xff])")


class EncodingError(DataError):
    """Bytes that are text in two encodings, about as likely."""


@dataclass(frozen=True)
class Encoding:
    """The encoding of a file.

    Attributes:
        name: as Python's codecs know it.
        guessed: whether it was found from the letters, so that a person should be told.
        instead: the encoding that was named, where the file certainly is in another.
    """

    name: str
    guessed: bool = False
    instead: str = ""

    def said(self) -> str:
        """What a person should know of it; "": nothing."""
        if self.instead:
            return f"read as {self.name}, which it certainly is, not as {self.instead} (data.encoding)"
        return f"not UTF-8, read as {self.name}, which its letters fit best" if self.guessed else ""


def decode_text(content: bytes, where: str, encoding: str | None = None) -> tuple[str, Encoding]:
    """The text of a file, and the encoding it was in.

    Without ``encoding``: a byte-order mark decides; then UTF-8 and UTF-16 without a mark are tried, strictly; then the
    encodings of ``charsets``, of which one must be clearly likelier than all others.

    Raises:
        DataError: the bytes are not text in that encoding (the byte and the line are named), two encodings are about
            as likely (a line is shown in both), or they are no text at all.
    """
    result = find_encoding(content, where, encoding)
    text = _decode(content, result.name, where).removeprefix("\ufeff")
    if encoding is None and "\0" in text:
        at = content.index(b"\0")
        raise DataError(
            f"{where}, byte {at}, line {_line(content, at)}",
            "text",
            "a zero byte, as binary files have",
            "check that this is the table; if it is text, name its encoding with --set data.encoding=NAME",
        )
    return text, result


def find_encoding(head: bytes, where: str, encoding: str | None = None, whole: bool = True) -> Encoding:
    """The encoding of a file, told by its content or its beginning.

    Args:
        head: its first bytes, at least one.
        where: what messages call the file.
        encoding: the one that was named; None: found.
        whole: ``head`` is all there is, so that a character cut at its end is an error.

    Raises:
        EncodingError: two encodings are about as likely; a line is shown in both.
        DataError: the encoding is not known, or the file is no text.
    """
    if encoding is not None:
        named = _known(encoding, where)
        certain = None if named.startswith("utf") else _certain(head, whole)  # e.g. a setting made for another file
        return Encoding(named) if certain is None else Encoding(certain, instead=named)
    for mark, name in _BOMS:
        if head.startswith(mark):
            return Encoding(name)
    for signature, what, do in _BINARY:
        if head.startswith(signature):
            raise DataError(where, "text", what, do)
    wide = _wide_without_mark(head if whole else head[: len(head) // 4 * 4])
    if wide is not None:
        return Encoding(wide)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, whole)
    except UnicodeDecodeError:
        damaged = b"\0" in head or _mostly_utf8(head)  # whoever decodes the file names the byte
        return Encoding("utf-8") if damaged else _likeliest(head, where, whole)
    return Encoding(_escaped(head) or "utf-8", _escaped(head) is not None)


def undecodable(where: str, encoding: str, at: int, line: int, byte: int, reason: str) -> DataError:
    """What to tell about byte number ``at`` of a file."""
    return DataError(
        f"{where}, byte {at}, line {line}",
        f"text in {encoding.upper()}",
        f"byte 0x{byte:02x}, which does not fit ({reason})",
        "save the file as UTF-8, or name its encoding with --set data.encoding=NAME (for example latin-1 or gb18030)",
    )


def _certain(head: bytes, whole: bool) -> str | None:
    """The encoding of bytes that can hardly be in another: a mark says it, or they are several characters of UTF-8."""
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head, whole)
    except UnicodeDecodeError:
        return None
    return "utf-8" if sum(letter >= "\x80" for letter in text) >= 8 else None


def _escaped(content: bytes) -> str | None:
    """An encoding that is written in ASCII, with escape sequences."""
    if b"\x1b$" not in content or not content.isascii():
        return None
    for name in ("iso2022_jp", "iso2022_jp_2", "iso2022_kr"):
        try:
            if not codecs.getincrementaldecoder(name)().decode(content).isascii():
                return name
        except UnicodeDecodeError:
            continue
    return None


def _mostly_utf8(content: bytes) -> bool:
    """Whether most of what is beyond ASCII are characters of UTF-8, so that the rest is damage."""
    text = content[:_LARGE].decode("utf-8", "replace")
    damaged = text.count("\ufffd")
    whole = sum(letter >= "\x80" for letter in text) - damaged
    return whole >= 3 and damaged <= 0.2 * (whole + damaged)


def _likeliest(content: bytes, where: str, whole: bool) -> Encoding:
    """The old encoding of a text that is not UTF-8, if its letters tell."""
    words = [text[0] for text in islice(_WORD.finditer(content), _MOST_WORDS + 1)]
    if not whole:
        words = words[:-1] or words  # the last may be cut
    sample = b"\n".join(dict.fromkeys(words[:_MOST_WORDS]))  # a word that returns tells nothing new
    plain = Counter(word.decode("ascii").lower() for word in _ASCII_WORD.findall(content[:_LARGE]))
    usable = [reading for reading in readings(sample, plain) if not whole or _decodes(content, reading.encoding)]
    if not usable or usable[0].cost > _PLAUSIBLE * _beyond(sample) + _SLACK:
        return Encoding("utf-8")  # no language: whoever decodes the file names the byte
    best = usable[0]
    other = next((reading for reading in usable[1:] if reading.text != best.text), None)
    if other is None or other.cost - best.cost >= _margin(sample, best.text):
        return Encoding(best.encoding, True)
    first = next(
        (word for word in words if word.decode(best.encoding, "replace") != word.decode(other.encoding, "replace")),
        words[0],
    )
    line = _line(content, content.index(first))
    text = content.split(b"\n")[line - 1].strip()
    at = max(0, text.find(first) - 20)
    shown = [_shown(text[at : at + 60].decode(reading.encoding, "replace")) for reading in (best, other)]
    raise EncodingError(
        f"{where}, line {line}",
        "text whose encoding is certain",
        f"bytes that are '{shown[0]}' in {best.encoding} and '{shown[1]}' in {other.encoding}",
        f"choose with --set data.encoding={best.encoding} (or {other.encoding}), or save the file as UTF-8",
    )


def _margin(sample: bytes, text: str) -> float:
    """How much likelier the best encoding must be: less where chardetng, which knows pairs of letters, agrees."""
    from chardetng_py import EncodingDetector

    detector = EncodingDetector()
    detector.feed(sample, last=True)
    name = detector.guess(tld=None, allow_utf8=False)
    try:
        agreed = sample.decode(_ALIASES.get(name, name)) == text
    except (UnicodeDecodeError, LookupError):
        agreed = False
    return _AGREED if agreed else max(_ALONE, _ALONE_EACH * _beyond(sample))


def _beyond(sample: bytes) -> int:
    """How many bytes are beyond ASCII."""
    return len(sample) - len(sample.translate(None, _BEYOND))


def _decodes(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _shown(text: str) -> str:
    return " ".join(text.split())


def _wide_without_mark(content: bytes) -> str | None:
    """UTF-16's or UTF-32's byte order, told by where the zero bytes of ASCII characters (at least line ends) lie."""
    sample = content[: _SAMPLE // 4 * 4]
    if len(content) % 2 or b"\0" not in sample:
        return None
    zeros = [sample[place::4].count(0) for place in range(4)]
    quarter = 0.9 * len(sample) / 4
    if len(content) % 4 == 0 and min(zeros[2:]) >= quarter and _decodes(content, "utf-32-le"):
        return "utf-32-le"
    if len(content) % 4 == 0 and min(zeros[:2]) >= quarter and _decodes(content, "utf-32-be"):
        return "utf-32-be"
    even, odd = zeros[0] + zeros[2], zeros[1] + zeros[3]
    if not (odd > 4 * even or even > 4 * odd):
        return None
    name = "utf-16-le" if odd > even else "utf-16-be"
    text = sample.decode(name, "replace")
    marks = [
        (text.count(mark), sample.count(mark.encode())) for mark in "\n,"
    ]  # of ASCII with a zero byte few are left
    return name if sum(read for read, _ in marks) >= 0.5 * sum(there for _, there in marks) else None


def _known(encoding: str, where: str) -> str:
    try:
        name = codecs.lookup(encoding).name
        "a".encode(name)
    except (LookupError, ValueError, TypeError):  # hex and the like turn bytes into bytes
        raise DataError(
            where, "the name of a text encoding", f"'{encoding}'", "use e.g. utf-8, utf-16, gb18030 or latin-1"
        ) from None
    return name


def _decode(content: bytes, encoding: str, where: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise _undecodable(content, where, encoding, error) from error


def _undecodable(content: bytes, where: str, encoding: str, error: UnicodeDecodeError) -> DataError:
    at = error.start
    return undecodable(where, encoding, at, _line(content, at), content[at], error.reason)


def _line(content: bytes, at: int) -> int:
    return content.count(b"\n", 0, at) + 1


_UTF7 = re.compile(r"\+[A-Za-z0-9+/]{3,}-?")
_GARBLING = ("cp1252", "latin-1", "cp1251", "mac_roman")  # as which UTF-8 is often read by mistake


def garbled(texts: Iterable[str]) -> tuple[int, str, str]:
    """Texts that were decoded wrongly before they were saved: how many, the first, and what it would be; "" if lost.

    UTF-8 that was read as Windows-1252 (``cafÃ©``), letters that were lost (U+FFFD), and UTF-7 in most texts.
    """
    result: list[tuple[str, str]] = []
    seven: list[tuple[str, str]] = []
    count = 0
    for text in texts:
        count += 1
        if text.isascii():
            if "+" in text and _UTF7.search(text) and (read := _read_as(text, "ascii", "utf-7")):
                seven.append((text, read))
        elif "\ufffd" in text:
            result.append((text, ""))
        else:
            read = next((read for encoding in _GARBLING if (read := _read_as(text, encoding, "utf-8"))), "")
            result += [(text, read)] if read else []
    result += seven if 2 * len(seven) > count > 3 else []
    return (len(result), *result[0]) if result else (0, "", "")


def _read_as(text: str, written: str, read: str) -> str:
    try:
        other = text.encode(written).decode(read)
    except UnicodeError:
        return ""
    odd = any(unicodedata.category(letter) in ("Cc", "Cn", "Co") for letter in other)
    return "" if odd or other == text else other
