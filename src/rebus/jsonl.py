"""Lines of JSON text: divided at line feeds only.

``str.splitlines`` also divides at U+2028, U+0085, form feeds and others, which may stand inside a JSON string.
"""

from __future__ import annotations

from collections.abc import Iterator

_AROUND = " \t\r\n\ufeff"  # what may stand around the value: JSON's own blanks, and marks of files put end to end


def json_lines(text: str) -> Iterator[tuple[int, str]]:
    """Each line that is not blank, with its number from 1."""
    for number, line in enumerate(text.split("\n"), 1):
        if line := line.strip(_AROUND):
            yield number, line
