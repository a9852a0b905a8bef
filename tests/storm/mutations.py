"""Damage to files: bits, lengths, numbers, keys and types, by what the file is."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any

import yaml

ODD: tuple[Any, ...] = (
    *(None, True, False, "", "x", "1", [], {}, [1], {"a": 1}, [[]], "\x00", "\ud800"),
    *(0, 1, -1, 2, 3, 7, 255, 2**16, 10**6, 2**31 - 1, 2**31, 10**9, 2**40, 2**63, 10**18, 10**30),
    *(0.5, -0.0, 1e-300, 1e308, float("inf"), float("nan")),
)
DEEP = 100_000  # brackets


def damage(path: Path, content: bytes, rng: random.Random) -> bytes:
    """A file's content with something wrong in it."""
    structured = {".json": _json, ".yaml": _yaml, ".safetensors": _safetensors}.get(path.suffix, _binary)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        change = structured if rng.random() < 0.75 else _bytes
        try:
            content = change(content, rng)
        except (ValueError, TypeError, AttributeError, struct.error, yaml.YAMLError, RecursionError):
            content = _bytes(content, rng)  # what is damaged already is no longer structured
    return content


def _bytes(content: bytes, rng: random.Random) -> bytes:
    kind = rng.randrange(8)
    if not content:
        return rng.randbytes(rng.randrange(64))
    start = rng.randrange(len(content))
    end = min(len(content), start + rng.choice((1, 2, 4, 16, 256, 4096)))
    if kind == 0:
        return content[:start]
    if kind == 1:
        return content[:start] + content[end:]
    if kind == 2:
        return content[:start] + bytes(end - start) + content[end:]
    if kind == 3:
        return content[:start] + rng.randbytes(end - start) + content[end:]
    if kind == 4:
        return content[:end] + content[start:end] * rng.choice((1, 3, 200)) + content[end:]
    if kind == 5:
        return content + rng.randbytes(rng.choice((1, 9, 5000)))
    flipped = bytearray(content)
    for _ in range(rng.choice((1, 1, 4, 32))):
        flipped[rng.randrange(len(flipped) if kind == 6 else min(len(flipped), 4096))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def _binary(content: bytes, rng: random.Random) -> bytes:
    """A number of four or eight bytes, mostly near the start, replaced."""
    changed = bytearray(content)
    size = rng.choice((4, 8))
    reach = len(changed) if rng.random() < 0.3 else min(len(changed), 6000)
    at = rng.randrange(max(1, reach - size))
    value = rng.choice((0, 1, 2, 7, 255, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1))
    changed[at : at + size] = struct.pack("<Q", value & (2**64 - 1))[:size]
    return bytes(changed)


def _json(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.02:
        return rng.choice((b"[" * DEEP, b'{"a":' * DEEP, b"[" * DEEP + b"]" * DEEP))
    return json.dumps(changed(json.loads(content), rng)).encode("utf-8", "surrogatepass")


def _yaml(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.02:
        return rng.choice((b"[" * 2000, b"a: &a [x]\nb: [*a, *a]\n", b"{" * 2000))
    value = changed(yaml.safe_load(content), rng)
    return json.dumps(value).encode("utf-8", "surrogatepass")  # YAML, too


def _safetensors(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.1:
        return struct.pack("<Q", rng.choice((0, 1, 2**16, 2**31, 2**63, 2**64 - 1))) + content[8:]
    (size,) = struct.unpack("<Q", content[:8])
    header = json.dumps(changed(json.loads(content[8 : 8 + size]), rng)).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


def changed(value: Any, rng: random.Random) -> Any:
    """A value of JSON with one thing in it deleted, renamed, repeated, or of another number or type."""
    places = list(_places(value))
    if not places:
        return rng.choice(ODD)
    holder, key = rng.choice(places)
    kind = rng.randrange(6)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[rng.choice((str(key) + "x", "", "..", str(key).upper()))] = holder.pop(key)
    elif kind == 2:
        other, there = rng.choice(places)
        if there in (other if isinstance(other, dict) else range(len(other))):
            holder[key], other[there] = other[there], holder[key]
    elif kind == 3 and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
        holder[key] = rng.choice((holder[key] + 1, holder[key] - 1, -holder[key], holder[key] * 1000, holder[key] / 2))
    elif kind == 4 and isinstance(holder[key], list):
        holder[key] = holder[key] * rng.choice((2, 50))
    else:
        holder[key] = rng.choice(ODD)
    return value


def _places(value: Any, depth: int = 0) -> Any:
    if depth > 8:
        return
    pairs = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, inner in pairs[:400]:
        yield value, key
        yield from _places(inner, depth + 1)
