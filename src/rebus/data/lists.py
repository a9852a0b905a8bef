"""Lists written as text in one cell: as JSON, as Python prints them, as NumPy prints them.

It runs nothing: the text is read into a syntax tree, and only constants, brackets and a few known wrappers are
taken from it.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from typing import Any

MOST_CHARACTERS = 1 << 18  # of a list that is not JSON: a syntax tree takes about a hundred times the text
_LOOKED_AT = 1000
_BRACKETS = {"[": "]", "(": ")", "{": "}"}
_JSON = json.JSONDecoder(strict=False)  # line ends inside quotes are read
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<value>(?:[rbuRBU]{0,2}(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
      |[+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])
      |[+-]?(?:nan|NaN|inf|Infinity|infinity)\b|None|True|False|null|true|false|NA|NaT))
    |(?P<call>(?:np\.|numpy\.)?[a-z_]+[0-9]*_?\()
    |(?P<keyword>(?:dtype|shape)\s*=\s*(?:(?:np\.|numpy\.)?[\w<>|]+|'[^']*'|\([\d,\s]*\)))
    |(?P<mark>[\[\](){},:])
    )""",
    re.VERBOSE | re.DOTALL,
)
_WRAPPERS = {"array", "list", "tuple", "set", "frozenset", "dict", "str_", "bytes_", "bool_", "str", "int", "float"}
_SIZED = re.compile(r"u?int\d*|float\d*|longlong|intc|intp|double")
_WORDS = {
    "null": None,
    "none": None,
    "na": None,
    "nat": None,
    "true": True,
    "false": False,
    "nan": float("nan"),
    "inf": float("inf"),
    "infinity": float("inf"),
}


def looks_like_list(text: str) -> bool:
    """Whether a text stands in square or round brackets, in braces, or in ``array(...)``."""
    stripped = text.strip()
    if stripped.startswith("array(") and stripped.endswith(")"):
        return True
    return len(stripped) > 1 and _BRACKETS.get(stripped[0]) == stripped[-1]


def parse_list(text: str) -> list[Any] | None:
    """The list that a text is: ``["a", 1]``, ``['a', 1]``, ``('a', 1)``, ``{'a'}``, or NumPy's ``['a' 1]``.

    Returns:
        Its items: text, numbers, True, False, None, lists and dictionaries; None where the text is no list.
    """
    value = parse_value(text)
    return value if isinstance(value, list) else None


def parse_value(text: str) -> list[Any] | dict[Any, Any] | None:
    """As ``parse_list``, dictionaries too: ``{'text': array(['x'], dtype=object)}`` is one."""
    if not looks_like_list(text):
        return None
    try:
        value = _JSON.decode(text.strip())
    except (ValueError, RecursionError):
        value = _python(text)
    return value if isinstance(value, (list, dict)) else None


def parse_column(cells: Sequence[str | None]) -> tuple[list[Any] | None, str]:
    """A column of text read as lists, if every cell that is not blank is one; or as dictionaries, if each is one.

    Returns:
        The lists or dictionaries, None for a blank cell; or None where the column is text. And what is to be warned of:
        some cells are lists, or look like lists, and others are not; else "".
    """
    written = [cell for cell in cells if cell and not cell.isspace()]
    alike = sum(map(looks_like_list, written[:_LOOKED_AT]))
    if not alike:
        return None, ""
    values = [parse_value(cell) if cell and not cell.isspace() else None for cell in cells]
    kinds = {type(value) for value in values if value is not None}
    lists = [value if isinstance(value, list) else None for value in values]
    count = sum(value is not None for value in values)
    if count == len(written) and (kinds == {list} or all(map(_has_names, values))):
        return values, ""
    count = sum(item is not None for item in lists)
    if 2 * max(alike, min(count, _LOOKED_AT)) < min(len(written), _LOOKED_AT):
        return None, ""
    odd = next(cell for cell, item in zip(cells, lists, strict=True) if item is None and cell and not cell.isspace())
    shown = odd if len(odd) <= 60 else odd[:57] + "..."
    return None, f"{len(written) - count} of {len(written)} cells cannot be read as lists, e.g. {shown}; all are text"


def _has_names(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and bool(value) and all(isinstance(key, str) for key in value))


def _python(text: str) -> Any:
    if len(text) > MOST_CHARACTERS:
        return None
    source = _with_commas(text)
    if source is None:
        return None
    try:
        return _value(ast.parse(source, mode="eval").body)
    except (SyntaxError, ValueError, TypeError, KeyError, RecursionError, MemoryError):
        return None


def _with_commas(text: str) -> str | None:
    """The text in Python's grammar, with the commas that NumPy leaves out; None: it holds something else."""
    parts: list[str] = []
    at, ended = 0, False  # whether a value ended just before
    stripped = text.strip()
    while at < len(stripped):
        match = _TOKEN.match(stripped, at)
        if match is None:
            return None
        kind, token = str(match.lastgroup), match[0].strip()
        if ended and (kind in ("value", "call") or token in ("[", "{", "(")):
            parts.append(",")
        if kind == "keyword":  # dtype=object: nothing is made of it
            token = "None" if parts and parts[-1] != "," else ""
        parts.append(token)
        ended = kind in ("value", "keyword") or token in ("]", ")", "}")
        at = match.end()
    return "".join(parts)


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=bytes() as content):
            return content.decode("utf-8")
        case ast.Constant(value=value) if value is not Ellipsis:
            return value
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            return [_value(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            return {_key(key): _value(value) for key, value in zip(keys, values, strict=True)}
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return +_value(operand)
        case ast.Name(id=name):
            return _WORDS[name.lower()]
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[only, *_]):
            if name in _WRAPPERS or _SIZED.fullmatch(name):
                return _value(only)
        case ast.Call(func=ast.Name(id="set" | "list" | "dict" | "tuple" | "frozenset"), args=[]):
            return []
    raise ValueError(type(node).__name__)


def _key(node: ast.expr | None) -> Any:
    key = _value(node) if node is not None else None
    if not isinstance(key, (str, int, float)):
        raise ValueError(key)
    return key
