"""How a conversation is laid out: ``<|bos|><|user|><|image|>What is it?<|assistant|>A cat.<|eos|>``.

The same layout twice: as a Jinja template that is saved with the tokenizer, and as a list of segments, where what users
wrote can never be mistaken for a special token.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rebus.errors import DataError

Message = Mapping[str, Any]
ROLES = ("user", "assistant", "system")

TEMPLATE = """\
{{- '<|bos|>' -}}
{%- for message in messages -%}
{%- if message['role'] not in ['user', 'assistant', 'system'] -%}
{{- raise_exception('a role is user, assistant or system') -}}
{%- endif -%}
{{- '<|' + message['role'] + '|>' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] -%}
{{- '<|image|>' if part['type'] == 'image' else part['text'] -}}
{%- endfor -%}
{%- endif -%}
{%- if message['role'] == 'assistant' -%}
{{- '<|eos|>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|assistant|>' -}}
{%- endif -%}
"""


def segments(messages: Sequence[Message], prompt: bool, mark: str = "<|image|>") -> Iterator[tuple[bool, str]]:
    """The conversation as (is a special token, text), in order; ``mark`` stands for an image.

    Raises:
        DataError: a role or a part of a content that is not known.
    """
    yield True, "<|bos|>"
    for number, message in enumerate(messages, 1):
        role = message.get("role")
        if role not in ROLES:
            raise DataError(f"message {number}", "the role user, assistant or system", repr(role), "name one of them")
        yield True, f"<|{role}|>"
        yield from _content(message.get("content"), number, mark)
        if role == "assistant":
            yield True, "<|eos|>"
    if prompt:
        yield True, "<|assistant|>"


def _content(content: Any, number: int, mark: str) -> Iterator[tuple[bool, str]]:
    text = ""
    for part in [{"type": "text", "text": content}] if isinstance(content, str) else _parts(content, number):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "image":
            if text:
                yield False, text
            text = ""
            yield True, mark
        elif kind == "text" and isinstance(part.get("text"), str):
            text += part["text"]
        else:
            raise _unknown(number, repr(part)[:80])
    if text:
        yield False, text


def _parts(content: Any, number: int) -> Sequence[Any]:
    if not isinstance(content, list | tuple):
        raise _unknown(number, type(content).__name__)
    return content


def _unknown(number: int, text: str) -> DataError:
    do = 'write parts as {"type": "image"} or {"type": "text", "text": "..."}'
    return DataError(f"message {number}", "a text or a list of text and image parts", text, do)
