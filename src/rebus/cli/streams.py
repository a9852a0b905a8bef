"""Output to a terminal or pipe that is not UTF-8: what it cannot show is written in ASCII, and nothing fails."""

from __future__ import annotations

import codecs
import io
import sys

_HANDLER = "rebus-ascii"
_SIGNS = {
    **dict.fromkeys("‘’‚′", "'"),
    **dict.fromkeys("“”„″«»", "''"),  # no quote that would end a string of JSON
    **dict.fromkeys("–—−‑─━", "-"),
    **dict.fromkeys("│┃", "|"),
    **dict.fromkeys("·•", "*"),
    "…": "...",
    "×": "x",
    "→": "->",
    "≥": ">=",
    "≤": "<=",
    "±": "+-",
    "▲": "^",
    "▼": "v",
    "✓": "ok",
}


def write_what_can_be() -> None:
    r"""Let standard output and standard error write signs as ASCII, and other characters as ``\uXXXX``.

    Only characters that the stream's encoding lacks are written so; a file name that is no text is one such.
    """
    codecs.register_error(_HANDLER, _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_SIGNS.get(letter) or _escaped(letter) for letter in lacking), error.end


def _escaped(letter: str) -> str:
    r"""``\uXXXX``, two of them for characters beyond the first plane, as JSON has it."""
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
