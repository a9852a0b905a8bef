"""Texts for people by key, one file a language (``en.yaml``, ``zh.yaml``), and the notes that stored results keep.

    translate("ask.example", "zh", row=3, text="...")       a text with its gaps filled
    translate_list("problem.no_folder", "zh", typed="x")    one that is written as a list: its items
    Note("target.label", name="red")                         English for a terminal; a key with arguments where stored

It knows nothing of what the texts are about.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol

LANGUAGES = ("en", "zh")
_COMMA = {"en": ", ", "zh": "、"}


@cache
def texts(lang: str) -> dict[str, str | list[str]]:
    """Every text of a language by its key, ``group.name``. Raises ValueError: there is no such language."""
    import yaml

    if lang not in LANGUAGES:
        raise ValueError(f"no texts in '{lang}'")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(Path(__file__).with_name(f"{lang}.yaml").read_bytes())
    groups = loader.get_single_data()
    return {f"{group}.{name}": text for group, named in groups.items() for name, text in named.items()}


def translate(key: str, lang: str, /, **arguments: object) -> str:
    """A text in a language, its gaps filled. Raises KeyError: there is no such text, or a gap is not filled."""
    text = texts(lang)[key]
    assert isinstance(text, str), key  # noqa: S101 - which of both a key is stands in the files
    return _filled(text, lang, arguments)


class Translator(Protocol):
    """``translate`` for the texts of one group in one language, by their names in it."""

    def __call__(self, name: str, /, **arguments: object) -> str:
        """The text."""


def translator(group: str, lang: str) -> Translator:
    """Such a function."""

    def texts_of_group(name: str, /, **arguments: object) -> str:
        return translate(f"{group}.{name}", lang, **arguments)

    return texts_of_group


def translate_list(key: str, lang: str, /, **arguments: object) -> list[str]:
    """As ``translate`` for a text that is written as a list."""
    return [_filled(item, lang, arguments) for item in texts(lang)[key]]


def is_known(key: str) -> bool:
    """Whether there is such a text."""
    return key in texts("en")


def translate_name(group: str, name: str, lang: str) -> str:
    """The text ``group.name``; a name that is not in the catalogue, such as a plug-in's, as it is."""
    text = texts(lang).get(f"{group}.{name}")
    return text if isinstance(text, str) else name


def group_of(group: str, lang: str) -> dict[str, str | list[str]]:
    """The texts of a group by name, gaps unfilled, for templates."""
    return {key.partition(".")[2]: text for key, text in texts(lang).items() if key.startswith(f"{group}.")}


def render(value: object, lang: str) -> object:
    """A note in a language; a list as its items with commas; whatever else as it is."""
    if isinstance(value, Note):
        return translate(value.key, lang, **value.arguments)
    if isinstance(value, list | tuple):
        return _COMMA[lang].join(str(render(item, lang)) for item in value)
    return value


def _filled(text: str, lang: str, arguments: Mapping[str, object]) -> str:
    return text.format(**{name: render(value, lang) for name, value in arguments.items()})


class Note(str):
    """A text of the catalogue with its arguments: it reads as English, and can be rendered in any language.

    Args:
        key: of the text.
        arguments: for its gaps: JSON values, notes, and lists of them.
    """

    key: str
    arguments: dict[str, Any]

    def __new__(cls, key: str, /, **arguments: object) -> Note:
        """A text that is English from the start."""
        note = super().__new__(cls, translate(key, "en", **arguments))
        note.key, note.arguments = key, arguments
        return note

    def __reduce__(self) -> tuple[Any, ...]:
        return _note, (self.key, self.arguments)


def _note(key: str, arguments: dict[str, Any]) -> Note:
    return Note(key, **arguments)


def named(group: str, name: str) -> str:
    """The note ``group.name``; a name that is not in the catalogue, such as a plug-in's, as it is."""
    return Note(f"{group}.{name}") if is_known(f"{group}.{name}") else name


def note_or_text(text: str) -> str:
    """The note of a key; a text that is no key, such as a plug-in's sentence, as it is."""
    return Note(text) if is_known(text) else text


def rendered(value: object, lang: str) -> str:
    """What is rendered, as text."""
    return str(render(value, lang))


def to_json(value: Any) -> Any:
    """Values as they are stored: notes as ``{"key": ..., "arguments": {...}}``."""
    if isinstance(value, Note):
        return {"key": value.key, "arguments": to_json(value.arguments)}
    if isinstance(value, Mapping):
        return {name: to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value


def from_json(value: Any) -> Any:
    """What ``to_json`` stored; a note whose key this version does not know becomes text."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) != {"key", "arguments"}:
        return {name: from_json(item) for name, item in value.items()}
    arguments = from_json(value["arguments"])
    if value["key"] not in texts("en"):
        return f"{value['key']} ({', '.join(f'{name}: {item}' for name, item in arguments.items())})"
    return Note(value["key"], **arguments)
