"""Marks that stand for an image inside a text: their names, and chat templates that learn to set them.

Names are Idefics3's, which transformers' processor has built in: ``<image>`` is repeated, once for each image token,
and stands between ``<fake_token_around_image><global-img>`` and ``<fake_token_around_image>``. Llava knows the first
alone. It knows no models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import tokenizers
from tokenizers import AddedToken

from rebus.text.foreign import Conventions
from rebus.text.templates import shows_images

IMAGE = "<image>"
BEFORE, AFTER = ("<fake_token_around_image>", "<global-img>"), ("<fake_token_around_image>",)
ALL = (IMAGE, *BEFORE, "<end_of_utterance>")  # the last is one that transformers' processor adds where it is lacking
# Contents that are lists of parts become texts, for templates that know nothing else
PREAMBLE = """\
{%- set flat = namespace(messages=[]) -%}
{%- for message in messages -%}
{%- if message['content'] is string or message['content'] is none -%}
{%- set flat.messages = flat.messages + [message] -%}
{%- else -%}
{%- set said = namespace(text='') -%}
{%- for part in message['content'] -%}
{%- set said.text = said.text + ('<image>' if part['type'] == 'image' else part['text']) -%}
{%- endfor -%}
{%- set flat.messages = flat.messages + [dict(message, content=said.text)] -%}
{%- endif -%}
{%- endfor -%}
{%- set messages = flat.messages -%}
"""


def with_images(template: str) -> str:
    """A chat template that takes images as well: ``<image>`` stands where a message shows one."""
    return template if template.startswith(PREAMBLE) else PREAMBLE + template


def with_marks(
    backend: tokenizers.Tokenizer, conventions: Conventions, words: Mapping[str, str], names: Sequence[str]
) -> tuple[tokenizers.Tokenizer, Conventions] | None:
    """A tokenizer with these special tokens after its own, and a chat template that takes images.

    Args:
        backend: stays as it is.
        conventions: its customs.
        words: the names of its special tokens, as its template uses them.
        names: of the tokens that it should have.

    Returns:
        Both anew; None where it has all of that.
    """
    missing = [name for name in names if backend.token_to_id(name) is None]
    result = conventions
    if result.template is not None and not shows_images(result.template, words):
        result = replace(result, template=with_images(result.template))
    if not missing and result is conventions:
        return None
    built = tokenizers.Tokenizer.from_str(backend.to_str())
    built.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in missing])
    if IMAGE in names:
        result = replace(result, config={**result.config, "image_token": IMAGE})
    return built, result
