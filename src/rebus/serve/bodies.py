"""A request's body as the object that a route is given, or one plain sentence about the first thing that is wrong.

A body is measured in portions before it is parsed, so that parsing and validating have an upper bound: no single call
holds the interpreter for more than some tens of milliseconds, whatever a client sends. Nothing here knows a model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, from_json
from starlette.requests import Request
from starlette.responses import Response

from rebus.data.image_sources import is_base64_image, is_data_address
from rebus.errors import nearest
from rebus.serve.context import Context
from rebus.serve.errors import ApiError, invalid
from rebus.serve.settings import Limits
from rebus.serve.turns import once

M = TypeVar("M", bound=BaseModel)
PORTION = 2**15  # bytes that are measured at once
SMALL = 2**14  # bytes of a body that is read where it arrives; a longer one is read by a thread
CONTENT = "rebus.content"  # of an ASGI scope: the body
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_LEVEL = np.zeros(256, dtype=np.int8)
_LEVEL[[ord("["), ord("{")]], _LEVEL[[ord("]"), ord("}")]] = 1, -1
_HALF = ("surrogate", "end of hex escape")  # what the parser says of half a character
_SHAPES = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
_EXPECTED = {
    "string_type": "a string",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
_HINTS = {
    "input_text": 'write {"type": "text", "text": "..."}',
    "input_image": 'write {"type": "image_url", "image_url": {"url": "data:image/png;base64,..."}}',
    "image": 'write {"type": "image_url", "image_url": {"url": "data:image/png;base64,..."}}',
}


def read_body(body: bytes | bytearray, model: type[M], limits: Limits) -> M:
    """A body as a route's object. Raises ApiError as ``read_json``, and where it is not such an object."""
    value = read_json(body, limits)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise refusal(error.errors(include_url=False, include_context=True), value) from None


def read_json(body: bytes | bytearray, limits: Limits) -> Any:
    """The value that JSON stands for. Raises ApiError where it is too large or too deep, or no JSON."""
    measure_json(body, limits)
    try:
        return from_json(body, allow_inf_nan=False, cache_strings="none")
    except ValueError as error:
        why = "the body is no JSON"
        if any(words in str(error) for words in _HALF):
            why = "the body holds half a character (a lone surrogate)"
        place = re.search(r"line \d+ column \d+", str(error))
        raise ApiError(400, why + (f": {place[0]}" if place else ""), "invalid_json") from None


def measure_json(body: bytes | bytearray, limits: Limits) -> None:
    """Look through a body in portions. Raises ApiError where parsing it could take long."""
    inside, rest = False, b""  # of a string; a backslash whose character is in the next portion
    depth = values = objects = keys = escapes = bare = text = 0
    head, length = b"", 0  # of the string that a portion ends in
    for start in range(0, len(body), PORTION):
        portion = rest + bytes(body[start : start + PORTION])
        rest = b""
        if inside and b'"' not in portion and b"\\" not in portion and portion.isascii():
            length += len(portion)  # the inside of a long string, as an image's base64
            if length > 6 * limits.text_length and not _is_image(head):
                raise ApiError(400, f"the body holds a text of more than {limits.text_length:,} characters")
            continue
        text += len(portion)
        if b"\\" in portion:
            portion, count = _ESCAPE.subn(b"", portion)
            escapes += count
            if portion.endswith(b"\\"):
                portion, rest = portion[:-1], b"\\"
        parts = portion.split(b'"')
        outside = b"".join(parts[1 if inside else 0 :: 2])
        inside ^= len(parts) % 2 == 0
        head, length = (parts[-1][:64], len(parts[-1])) if len(parts) > 1 else (head, length + len(portion))
        levels = np.cumsum(_LEVEL[np.frombuffer(outside, dtype=np.uint8)], dtype=np.int64)
        deepest = depth + int(levels.max(initial=0))
        depth += int(levels[-1]) if len(levels) else 0
        opened = outside.count(b"{")
        objects, bare = objects + opened, bare + len(outside)
        named = outside.count(b":")
        keys += named
        values += max(outside.count(b",") + named + outside.count(b"["), len(parts) // 4) + opened
        if deepest > limits.json_depth:
            raise ApiError(400, f"the body has lists in lists deeper than {limits.json_depth}", "json_too_deep")
        for number, most, what in (
            (values, limits.json_values, "values"),
            (objects, limits.json_objects, "objects"),
            (keys, limits.json_keys, "fields"),
            (escapes, limits.json_escapes, "escaped characters"),
            (bare, limits.json_bytes, "bytes outside strings"),
            (text, limits.text_mb * 2**20, "bytes beside images"),
        ):
            if number > most:
                raise ApiError(400, f"the body holds more than {most:,} {what}", "json_too_large")


def _is_image(head: bytes) -> bool:
    """Whether a string that begins so is an image."""
    start = head.decode("latin-1")
    return is_data_address(start) or is_base64_image(start)


def refusal(errors: Sequence[ErrorDetails], value: Any) -> ApiError:
    """What is wrong with a body, as one sentence that begins with the place.

    Where a value may be of several kinds, each kind has an error: the one that looked deepest is about the kind that
    the client meant.
    """
    deepest = max(errors, key=lambda error: (len(_path(error, value)[0]), error["type"] not in _EXPECTED))
    place, received = _path(deepest, value)
    name = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place).lstrip(".")
    words = _words(deepest, [error for error in errors if _path(error, value)[0] == place], received)
    return invalid(f"{name[:200] or 'the body'}: {words}", name[:200] or None, deepest["type"])


def _path(error: ErrorDetails, value: Any) -> tuple[list[int | str], Any]:
    """An error's place without the names of the kinds that were tried, and what stands there."""
    place: list[int | str] = []
    for key in error["loc"]:
        if (isinstance(value, Mapping) and key in value) or (
            isinstance(value, list) and isinstance(key, int) and key < len(value)
        ):
            place, value = [*place, key], value[key]  # type: ignore[index]
    if error["type"] == "missing":
        place.append(error["loc"][-1])
    return place, value


def _words(error: ErrorDetails, same: Sequence[ErrorDetails], received: Any) -> str:
    kind, context = error["type"], error.get("ctx") or {}
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return "there is no such field here"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tag = str(received.get("type"))[:64] if isinstance(received, Mapping) and "type" in received else None
        types = re.findall(r"'(\w+)'", str(context.get("expected_tags", "")))
        if tag is None:
            return "expected an object with a 'type'" + f" of {' or '.join(types)}" * bool(types)
        hint = _HINTS.get(tag) or nearest(tag, types)
        return f"expected the type {' or '.join(map(repr, types))}, received '{tag}'; {hint}"
    if kind == "too_short":
        return "expected at least one entry, received none"
    if kind == "too_long":
        if not context.get("max_length"):
            return "must be empty: it is not supported"
        return f"expected at most {context.get('max_length', 0)} entries, received {len(received)}"
    expected = list(dict.fromkeys(_EXPECTED[other["type"]] for other in same if other["type"] in _EXPECTED))
    if expected:
        return f"expected {' or '.join(expected)}, received {_shape(received)}"
    return str(error["msg"])[:1].lower() + str(error["msg"])[1:]


def _shape(value: Any) -> str:
    if isinstance(value, list | dict) and not value:
        return "an empty list" if isinstance(value, list) else "an empty object"
    return _SHAPES.get(type(value), f"the number {str(value)[:32]}")


class Content:
    """A body as it was received; large ones are not copied.

    Attributes:
        size: bytes that were received.
    """

    def __init__(self) -> None:
        self.size, self._bytes = 0, bytearray()

    def add(self, piece: bytes) -> None:
        """Put more at the end."""
        self._bytes += piece
        self.size += len(piece)

    def take(self) -> bytearray:
        """All of it, once."""
        whole, self._bytes = self._bytes, bytearray()
        return whole


class BodyRoute(APIRoute):
    """A route whose body is validated by ``read_body``, in a thread if it is long, instead of in the event loop."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, given the body's object."""
        handler = super().get_route_handler()
        if self.body_field is None:
            return handler
        model = self.body_field.field_info.annotation
        assert isinstance(model, type) and issubclass(model, BaseModel)  # noqa: S101, PT018 - as our routes are written

        async def handle(request: Request) -> Response:
            context: Context = request.app.state.context
            content = request.scope[CONTENT].take()
            if len(content) <= SMALL:
                body = read_body(content, model, context.limits)
            else:
                body = await context.in_turn(context.readers, once(read_body, content, model, context.limits), request)
            return await handler(_Read(request.scope, request.receive, body))

        return handle


class _Read(Request):
    """A request whose body was read."""

    def __init__(self, scope: Any, receive: Any, value: BaseModel) -> None:
        super().__init__(scope, receive)
        self._value = value

    async def body(self) -> bytes:
        return b"read"

    async def json(self) -> Any:
        return self._value
