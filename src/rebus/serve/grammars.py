"""JSON schemas that clients send, looked at before a grammar is made of them.

A short schema can ask for an endless amount of work: by depth, by counting (``maxItems``, ``{2,99999}``), by long
expressions. What is within the limits is left to llguidance, whose expressions have no backtracking.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from rebus.serve.errors import ApiError, invalid
from rebus.serve.settings import Limits

WHERE = "response_format"
COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_REPEAT = re.compile(r"\{\s*(\d*)\s*,?\s*(\d*)\s*\}")


def check_schema(schema: Mapping[str, Any], limits: Limits) -> None:
    """Raises ApiError where a schema is too large to make a grammar of."""
    size = len(json.dumps(schema, ensure_ascii=False).encode("utf-8", "replace"))
    if size > limits.schema_kb * 1024:
        raise _refused(f"is {size:,} bytes long; at most {limits.schema_kb * 1024:,} are read")
    for depth, key, value in _walk(schema):
        if depth > limits.schema_depth:
            raise _refused(f"has more than {limits.schema_depth} levels")
        if key in COUNTS and isinstance(value, int | float) and value > limits.schema_repeats:
            raise _refused(f"counts to more than {limits.schema_repeats} in '{key}'")
        if key == "pattern" and isinstance(value, str):
            check_pattern(value, limits)
        if key == "patternProperties" and isinstance(value, Mapping):
            for pattern in value:
                check_pattern(str(pattern), limits)
        if key in ("$ref", "$dynamicRef", "$recursiveRef") and isinstance(value, str) and not value.startswith("#"):
            raise _refused("refers to another document; nothing is fetched")


def check_pattern(pattern: str, limits: Limits) -> None:
    """Raises ApiError where a regular expression is too long, or counts too far."""
    if len(pattern) > limits.pattern_length:
        raise _refused(f"holds an expression of more than {limits.pattern_length} characters")
    product = 1
    for match in _REPEAT.finditer(pattern):
        digits = [int(digit[:9]) for digit in match.groups() if digit]
        product *= max([*digits, 1])
        if product > limits.schema_repeats:
            raise _refused(f"holds an expression that counts to more than {limits.schema_repeats}")


def _walk(value: Any) -> Iterator[tuple[int, str, Any]]:
    """(depth, key, value) of everything in a schema, without recursion."""
    waiting: list[tuple[int, str, Any]] = [(1, "", value)]
    while waiting:
        depth, key, node = waiting.pop()
        yield depth, key, node
        if isinstance(node, Mapping):
            waiting += [(depth + 1, str(name), below) for name, below in node.items()]
        elif isinstance(node, list):
            waiting += [(depth + 1, "", below) for below in node]


def _refused(why: str) -> ApiError:
    return invalid(f"the JSON schema {why}", WHERE, "schema_too_complex")
