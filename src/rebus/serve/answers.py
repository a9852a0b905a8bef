"""An answer's JSON, encoded in portions: encoding all of a large one in one call would hold every other thread up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from starlette.responses import Response

PORTION = 256  # entries of a list that are encoded at once


def encoded(value: Any) -> bytes:
    """A value as JSON."""
    return "".join(_pieces(value)).encode("utf-8", "replace")


def answer(body: bytes) -> Response:
    """An answer of JSON that is encoded already."""
    return Response(body, media_type="application/json")


def _pieces(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield "{"
        for number, (key, item) in enumerate(value.items()):
            yield ("," if number else "") + _dumped(str(key)) + ":"
            yield from _pieces(item)
        yield "}"
    elif isinstance(value, list) and value and isinstance(value[0], dict | list):
        for number, item in enumerate(value):
            yield "," if number else "["
            yield from _pieces(item)
        yield "]"
    elif isinstance(value, list):
        for start in range(0, len(value) or 1, PORTION):
            yield ("," if start else "[") + _dumped(value[start : start + PORTION])[1:-1]
        yield "]"
    else:
        yield _dumped(value)


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
