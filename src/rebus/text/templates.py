"""Chat templates of other projects: Jinja in a sandbox, as transformers runs them, and safe for what users write.

A template gives one text in which special tokens are words like any other, so a user who writes ``<|im_end|>`` could
end their own turn. Here such words in a message are broken by a character that nobody wrote, and mended once the
template's own special tokens have been found.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from rebus.errors import DataError, RunError

_PROBE = "\U000f0000probe"
_PRIVATE = range(0xF0000, 0xFFFFE)  # characters that mean nothing to anybody


def render(
    template: str, messages: Sequence[Mapping[str, Any]], prompt: bool, words: Mapping[str, str], **more: Any
) -> str:
    """The text of a conversation.

    Args:
        template: in Jinja.
        messages: as the template wants them; contents that are lists of texts are joined.
        prompt: end where the model is to go on.
        words: bos_token, eos_token and so on.
        more: what else the template may read.

    Raises:
        DataError: the template refuses the messages. RunError: the template itself is broken.
    """
    import jinja2

    compiled = _compiled(template)
    try:
        return str(compiled.render(messages=messages, add_generation_prompt=prompt, **words, **more))
    except jinja2.exceptions.SecurityError as error:
        raise RunError("the chat template", "one that only lays out messages", f"'{error}'", "do not use it") from error
    except (jinja2.exceptions.TemplateError, TypeError, KeyError, AttributeError, ValueError) as error:
        do = "send roles and contents that the model's template knows"
        raise DataError(
            "the conversation", "messages that the model's chat template accepts", f"'{error}'", do
        ) from error


def segments(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    prompt: bool,
    words: Mapping[str, str],
    specials: Sequence[str],
) -> list[tuple[bool, str]]:
    """A conversation as (is a special token, text), in order; what users wrote is never a special token.

    Args:
        template: in Jinja.
        messages: see ``render``.
        prompt: see ``render``.
        words: see ``render``.
        specials: all special tokens of the tokenizer.

    Raises:
        DataError: a message is not one, holds an image, or is refused by the template.
        RunError: the template is broken.
    """
    shown = [imaged(message) for message in messages]
    if any(shown) and shows_images(template, words):
        given = [
            _parted(message, number) if show else _plain(message, number)
            for number, (message, show) in enumerate(zip(messages, shown, strict=True), 1)
        ]
    else:
        given = [_plain(message, number) for number, message in enumerate(messages, 1)]
    if wants_parts(template, words):
        given = [_as_parts(message) for message in given]
    known = re.compile("|".join(re.escape(name) for name in sorted(specials, key=len, reverse=True)) or r"(?!)")
    written = json.dumps(given, ensure_ascii=False)
    if not any(known.search(text) for text in _texts(given)):
        return [(True, render(template, given, prompt, words))]
    mark = next(chr(code) for code in _PRIVATE if chr(code) not in written)
    broken = [_map(message, lambda text: known.sub(lambda result: _broken(result[0], mark), text)) for message in given]
    return list(_cut(render(template, broken, prompt, words), known, mark))


def shows_images(template: str, words: Mapping[str, str]) -> bool:
    """Whether a template takes contents that are lists of parts, and says where among them an image is."""
    return _takes(template, tuple(words.items()))[1]


def wants_parts(template: str, words: Mapping[str, str]) -> bool:
    """Whether a template takes contents as lists of parts and nothing else: a plain text is lost in it."""
    plain, _, parts = _takes(template, tuple(words.items()))
    return parts and not plain


def imaged(message: Any) -> bool:
    """Whether a message holds an image."""
    content = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(content, list | tuple):
        return False
    return any(isinstance(part, Mapping) and part.get("type") == "image" for part in content)


@lru_cache(maxsize=16)
def _takes(template: str, words: tuple[tuple[str, str], ...]) -> tuple[bool, bool, bool]:
    """Whether a template takes a content that is a text, one with an image in it, and one that is a list of texts."""

    def told(content: Any) -> str | None:
        try:
            result = render(template, [{"role": "user", "content": content}], False, dict(words))
        except DataError:
            return None
        return (
            result if _PROBE in result and "'type'" not in result else None
        )  # a list printed as it is: not understood

    text = [{"type": "text", "text": _PROBE}]
    parts, shown = told(text), told([{"type": "image"}, *text])
    return told(_PROBE) is not None, shown not in (None, parts), parts is not None


def _broken(token: str, mark: str) -> str:
    return mark.join(token) if len(token) > 1 else token + mark


def _cut(text: str, known: re.Pattern[str], mark: str) -> Iterator[tuple[bool, str]]:
    end = 0
    for result in known.finditer(text):
        if result.end() < len(text) and text[result.end()] == mark:
            continue  # a special token of one character, written by a user
        if result.start() > end:
            yield False, text[end : result.start()].replace(mark, "")
        yield True, result[0]
        end = result.end()
    if end < len(text):
        yield False, text[end:].replace(mark, "")


def _plain(message: Any, number: int) -> dict[str, Any]:
    """A message with its content as one text. Raises DataError for anything else."""
    where = f"message {number}"
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        result = repr(message.get("role")) if isinstance(message, Mapping) else type(message).__name__
        raise DataError(where, "a role such as user, assistant or system", result, "name one of them")
    content = message.get("content")
    if isinstance(content, list | tuple):
        parts = [
            part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None for part in content
        ]
        if any(not isinstance(part, str) for part in parts):
            do = "send text, or train a model of Rebus on images"
            raise DataError(where, "text: this model's chat template has no images", "another part", do)
        content = "".join(str(part) for part in parts)
    if not (isinstance(content, str) or (content is None and message["role"] == "assistant")):
        raise DataError(where, "a text or a list of text parts", type(content).__name__, "send a text")
    return {**message, "content": content}


def _parted(message: Mapping[str, Any], number: int) -> dict[str, Any]:
    """A message with its parts, texts and images. Raises DataError for anything else."""
    parts: list[dict[str, Any]] = []
    for part in message["content"]:
        if isinstance(part, Mapping) and part.get("type") == "image":
            parts.append({"type": "image"})
        else:
            parts.append({"type": "text", "text": _plain({**message, "content": [part]}, number)["content"]})
    return {**_plain({**message, "content": ""}, number), "content": parts}


def _as_parts(message: dict[str, Any]) -> dict[str, Any]:
    content = message["content"]
    return {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else message


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)


def _map(value: Any, change: Any) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _map(part, change) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_map(part, change) for part in value]
    return value


@lru_cache(maxsize=16)
def _compiled(template: str) -> Any:
    """The template, in the environment that transformers gives it. Raises RunError where it is not Jinja."""
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """``{% generation %}`` marks what an assistant said; here the mark is only taken off."""

        tags = {"generation"}  # noqa: RUF012 - so Jinja wants it

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return jinja2.nodes.Scope(body).set_lineno(line)

    def refuse(message: str) -> None:
        raise jinja2.exceptions.TemplateError(message)

    def as_json(value: Any, ensure_ascii: bool = False, **how: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **how)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = as_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    try:
        return environment.from_string(template)
    except jinja2.exceptions.TemplateError as error:
        do = "fetch the tokenizer's files again"
        raise RunError("the chat template", "a template in Jinja", f"'{error}'", do) from error
