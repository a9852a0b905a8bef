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


def text_encoding(head: bytes, where: str, encoding: str | None = None, whole: bool = False) -> str:
    """The name of the encoding that ``decode_text`` would use, told by the beginning of a file.

    Args:
        head: its first bytes, at least one.
        where: what messages call the file.
        encoding: the one that was named; None: found.
        whole: ``head`` is all there is, so that a character cut at its end is an error.

    Raises:
        DataError: the encoding is not known, or the file is no text.
    """
    if encoding is not None:
        try:
            "a".encode(_known(encoding, where))
        except (LookupError, ValueError, TypeError) as error:  # hex and the like turn bytes into bytes
            raise _no_encoding(encoding, where) from error
        return encoding
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name
    for signature, what, do in _BINARY:
        if head.startswith(signature):
            raise DataError(where, "text", what, do)
    wide = _wide_without_mark(head[: len(head) // 2 * 2])
    if wide is not None and head.count(0, 0, _SAMPLE) > 0.2 * len(head[:_SAMPLE]):
        return wide
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, whole)
    except UnicodeDecodeError:
        if wide is not None:
            return wide
        try:
            codecs.getincrementaldecoder("gb18030")().decode(head, whole)
        except UnicodeDecodeError:
            return "utf-8"  # whoever decodes the file names the byte
        return "gb18030" if _looks_chinese(head) and 0 not in head else "utf-8"
    return "utf-8"


def undecodable(where: str, encoding: str, at: int, line: int, byte: int, reason: str) -> DataError:
    """What to tell about byte number ``at`` of a file."""
    return DataError(
        f"{where}, byte {at}, line {line}",
        f"text in {encoding.upper()}",
        f"byte 0x{byte:02x}, which does not fit ({reason})",
        "save the file as UTF-8, or name its encoding with --set data.encoding=NAME (for example latin-1 or gb18030)",
    )


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
        raise _no_encoding(encoding, where) from error


def _no_encoding(encoding: str, where: str) -> DataError:
    return DataError(where, "the name of a text encoding", f"'{encoding}'", "use utf-8, utf-16, gb18030 or latin-1")


def _undecodable(content: bytes, where: str, encoding: str, error: UnicodeDecodeError) -> DataError:
    at = error.start
    return undecodable(where, encoding, at, _line(content, at), content[at], error.reason)


def _line(content: bytes, at: int) -> int:
    return content.count(b"\n", 0, at) + 1
