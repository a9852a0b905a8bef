"""Bytes to text, strictly: what cannot be read is named by its byte and line, never replaced.

It does not know what the text means.
"""

from __future__ import annotations

import codecs

from rebus.errors import DataError

_BOMS = (  # UTF-32 first: its little-endian mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BINARY = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook", "save the sheet as CSV in UTF-8"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "save the sheet as CSV in UTF-8"),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"%PDF-", "a PDF", "give a table: CSV, JSONL or Parquet"),
    (b"PAR1", "Parquet data", "let the file's name end in .parquet"),
    (b"\x89PNG", "a picture", "give the table or the folder that names it"),
    (b"\xff\xd8\xff", "a picture", "give the table or the folder that names it"),
    (b"SQLite format 3", "an SQLite database", "export the table as CSV"),
)
_SAMPLE = 1 << 16


def decode_text(content: bytes, where: str, encoding: str | None = None) -> str:
    """The text of a file.

    Without ``encoding``: a byte-order mark decides; then UTF-8, UTF-16 without a mark, and GB18030 are tried, strictly.

    Raises:
        DataError: the bytes are not text in that encoding (the byte and the line are named), or are no text at all.
    """
    if encoding is not None:
        return _decode(content, _known(encoding, where), where).removeprefix("\ufeff")
    for mark, name in _BOMS:
        if content.startswith(mark):
            return _decode(content, name, where)
    for signature, what, do in _BINARY:
        if content.startswith(signature):
            raise DataError(where, "text", what, do)
    wide = _wide_without_mark(content)
    if wide is not None and content.count(0, 0, _SAMPLE) > 0.2 * len(content[:_SAMPLE]):
        return _decode(content, wide, where)  # mostly ASCII in UTF-16: its bytes are valid UTF-8 too
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        return _fallback(content, where, error) if wide is None else _decode(content, wide, where)
    if "\0" in text:
        at = content.index(b"\0")
        raise DataError(
            f"{where}, byte {at}, line {_line(content, at)}",
            "text",
            "a zero byte, as binary files have",
            "check that this is the table; if it is text, name its encoding with --set data.encoding=NAME",
        )
    return text


def _fallback(content: bytes, where: str, error: UnicodeDecodeError) -> str:
    try:
        text = content.decode("gb18030")
    except UnicodeDecodeError:
        raise _undecodable(content, where, "UTF-8", error) from error
    if "\0" in text or not _looks_chinese(content):
        raise _undecodable(content, where, "UTF-8", error) from error
    return text


def _looks_chinese(content: bytes) -> bool:
    """Whether bytes that GB18030 accepts are probably meant so.

    Western 8-bit text is accepted too, as pairs of one high byte and one letter; in Chinese text nearly all second
    bytes are high as well.
    """
    pairs = high = position = 0
    sample = content[:_SAMPLE]
    while position < len(sample) - 1:
        if sample[position] < 0x80:
            position += 1
        elif 0x30 <= sample[position + 1] <= 0x39:  # four bytes
            position += 4
        else:
            pairs += 1
            high += sample[position + 1] >= 0xA1
            position += 2
    return high >= 0.6 * pairs


def _wide_without_mark(content: bytes) -> str | None:
    """UTF-16's byte order, told by where the zero bytes of ASCII characters (at least line ends) lie."""
    sample = content[:_SAMPLE]
    if len(content) % 2 or b"\0" not in sample:
        return None
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if odd > 4 * even:
        return "utf-16-le"
    return "utf-16-be" if even > 4 * odd else None


def _known(encoding: str, where: str) -> str:
    try:
        return codecs.lookup(encoding).name
    except (LookupError, ValueError):
        raise DataError(
            where, "a known text encoding", f"'{encoding}'", "use a name such as utf-8, utf-16, gb18030 or latin-1"
        ) from None


def _decode(content: bytes, encoding: str, where: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise _undecodable(content, where, encoding, error) from error
    except (LookupError, ValueError, TypeError) as error:
        raise DataError(
            where, "the name of a text encoding", f"'{encoding}'", "use utf-8, utf-16, gb18030 or latin-1"
        ) from error


def _undecodable(content: bytes, where: str, encoding: str, error: UnicodeDecodeError) -> DataError:
    at = error.start
    return DataError(
        f"{where}, byte {at}, line {_line(content, at)}",
        f"text in {encoding.upper()}",
        f"byte 0x{content[at]:02x}, which does not fit ({error.reason})",
        "save the file as UTF-8, or name its encoding with --set data.encoding=NAME (for example latin-1 or gb18030)",
    )


def _line(content: bytes, at: int) -> int:
    return content.count(b"\n", 0, at) + 1
