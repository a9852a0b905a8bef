"""Conversations as every part takes them: ``{"role", "content"}`` turns, whatever layout they were written in.

Read are OpenAI's messages (``role`` and ``content``, a text or a list of text and image parts, ``weight`` 0 for an
answer that is not to be learned), ShareGPT's turns (``from`` and ``value``), each as a list or as the JSON of one, and
a history of ``[question, answer]`` pairs. It knows no tokenizer: how turns become ids is ``rebus.text.chat``'s.
"""

from __future__ import annotations

import json
import re
from typing import Any

from rebus.data.lists import parse_list
from rebus.errors import DataError

Message = dict[str, Any]

ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "用户"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bard", "bing", "model", "bot", "助手"), "assistant"),
    **dict.fromkeys(("system", "developer", "系统"), "system"),
}
MARK = re.compile(r"[ \t]*<\|?image(?:_?\d+)?\|?>[ \t]*\n?")  # what stands in a text for an image beside it
_TEXT_PARTS = ("text", "input_text", "output_text")
_IMAGE_PARTS = ("image", "image_url", "input_image", "image_path")
_IMAGE_KEYS = ("image", "image_url", "url", "path", "image_path", "bytes", "source")
_IMAGE_FIELDS = ("url", "bytes", "path", "data")  # of an object that holds an image
_EXPECTED = 'turns: [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]'
_READ_FIELDS = frozenset(
    ("role", "from", "content", "value", "weight", "loss", "train", "train_on_turn", "shown", "name")
)
_PART_REMARKS = frozenset(
    ("type", "detail", "index", "text", "min_pixels", "max_pixels", "resized_height", "resized_width")
)
DO = "correct that row, or leave it out with --set data.on_bad=skip"


def turns_of(value: Any, where: str, images: list[Any] | None = None) -> list[Message]:
    """A cell's conversation, each turn as ``{"role": user | assistant | system, "content": text}``.

    An answer that is not to be learned keeps its ``"weight": 0``. A system turn without text stays: it keeps a chat
    template from putting a persona of its own there. A turn with an image in it is ``"shown": True``.

    Args:
        value: a list of turns, or the JSON of one.
        where: the row, for messages.
        images: takes the images that stand inside the turns: paths, addresses or bytes.

    Raises:
        DataError: no list of turns, a turn without a role or of an unknown one, without text, or no turn at all.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise _wrong(where, f"text that is not JSON ({str(error)[:60]})") from error
    if not isinstance(value, list | tuple):
        raise _wrong(where, "no list of turns")
    turns = [_turn(item, number, where, images) for number, item in enumerate(value, 1)]
    if not any(turn["content"].strip() or turn.get("shown") for turn in turns):
        raise _wrong(where, "a conversation without a turn")
    return turns


def without_marks(text: str) -> str:
    """A text beside an image without the marks (``<image>``) that stand for it."""
    return MARK.sub(" ", text).strip() if "<" in text else text


def is_turn(item: Any) -> bool:
    """Whether something looks like one turn of a conversation."""
    return isinstance(item, dict) and bool({"role", "from"} & set(item)) and bool({"content", "value"} & set(item))


def unread_fields(turns: Any) -> list[str]:
    """The fields of turns that nothing reads (``reasoning_content``, ``mask``), one for each time it says something."""
    text = [turn for turn in turns if isinstance(turn, dict)] if isinstance(turns, list | tuple) else []
    empty: tuple[Any, ...] = (None, "", [], {})
    return [name for turn in text for name, value in turn.items() if name not in _READ_FIELDS and value not in empty]


def is_learned(turn: Message) -> bool:
    """Whether a turn of ``turns_of`` is an answer to learn."""
    return bool(turn["role"] == "assistant" and turn.get("weight") != 0)


def answered(turns: list[Message]) -> int | None:
    """The place of the last turn of the assistant's that is learned; None where there is none."""
    places = [place for place, turn in enumerate(turns) if is_learned(turn)]
    return places[-1] if places else None


def history_of(value: Any, where: str) -> list[Message]:
    """Earlier turns, written as pairs ``[[question, answer], ...]``. Raises DataError where they are none."""
    pairs = parse_list(value) if isinstance(value, str) else value
    turns: list[Message] = []
    for pair in pairs if isinstance(pairs, list | tuple) else [value]:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise DataError(where, 'pairs of earlier turns: [["question", "answer"], ...]', repr(pair)[:60], DO)
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return turns


def _turn(item: Any, number: int, where: str, images: list[Any] | None) -> Message:
    if not isinstance(item, dict):
        raise _wrong(where, f"a turn that is not an object (turn {number})")
    speaker = item.get("role") if item.get("role") is not None else item.get("from")
    content = item.get("content") if item.get("content") is not None else item.get("value")
    if not isinstance(speaker, str) or not speaker.strip():
        raise _wrong(where, f"a turn without a speaker or without text: turn {number} has no role")
    role = ROLES.get(speaker.strip().lower())
    if role is None:
        raise DataError(where, "the roles user, assistant and system", f"'{speaker}' (turn {number})", DO)
    text, shows = (content, False) if isinstance(content, str) else _joined(content, number, where, images)
    if shows and role == "assistant":
        raise DataError(
            where, "images in questions", f"an image in an answer, which no task writes (turn {number})", DO
        )
    shows = shows or item.get("shown") is True  # where an image is shown, said by Rebus itself
    if not text.strip() and role != "system" and not shows:
        raise _wrong(where, f"a turn without a speaker or without text: turn {number} ({role}) is empty")
    turn: Message = {"role": role, "content": text}
    if shows:
        turn["shown"] = True
    unlearned = item.get("weight") == 0 or any(item.get(key) is False for key in ("loss", "train", "train_on_turn"))
    if unlearned and role == "assistant":
        turn["weight"] = 0
    return turn


def _joined(content: Any, number: int, where: str, images: list[Any] | None) -> tuple[str, bool]:
    """A list of parts as one text, and whether there is an image among them."""
    if content is None:
        return "", False
    if not isinstance(content, list | tuple):
        raise _wrong(where, f"a turn without a speaker or without text: turn {number} holds {type(content).__name__}")
    texts, shows = [], False
    for part in content:
        held = {key: value for key, value in part.items() if value is not None} if isinstance(part, dict) else {}
        kind = held.get("type", next(iter(held.keys() & {"text", *_IMAGE_PARTS}), type(part).__name__))
        if isinstance(part, str):
            texts.append(part)
        elif kind in _TEXT_PARTS and isinstance(held.get("text"), str):
            texts.append(held["text"])
        elif kind in _IMAGE_PARTS:
            shows = True
            image = next((held[key] for key in _IMAGE_KEYS if key in held), None)
            if isinstance(image, dict):
                image = next((image[key] for key in _IMAGE_FIELDS if image.get(key)), None)
            if image is None and (odd := sorted(set(held) - _PART_REMARKS)):
                received = f"an image part with {', '.join(odd)[:60]} and none of them (turn {number})"
                raise DataError(where, "a path, an address or bytes in each image part", received, DO)
            if image is not None and images is not None:
                images.append(image.removeprefix("file://") if isinstance(image, str) else image)
        else:
            raise DataError(where, "parts of text and images", f"a part of type '{kind}' (turn {number})", DO)
    return "\n".join(texts), shows


def _wrong(where: str, text: str) -> DataError:
    return DataError(where, _EXPECTED, text, DO)
