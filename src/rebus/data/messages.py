"""Conversations as every part takes them: ``{"role", "content"}`` turns, whatever layout they were written in.

Read are OpenAI's messages (``role`` and ``content``, a text or a list of text parts, ``weight`` 0 for an answer that is
not to be learned) and ShareGPT's turns (``from`` and ``value``), each as a list or as the JSON of one. It knows no
tokenizer: how turns become ids is ``rebus.text.chat``'s.
"""

from __future__ import annotations

import json
from typing import Any

from rebus.errors import DataError

Message = dict[str, Any]

ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "用户"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bard", "bing", "model", "bot", "助手"), "assistant"),
    **dict.fromkeys(("system", "developer", "系统"), "system"),
}
_EXPECTED = 'turns: [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]'
_DO = "correct that row, or leave it out with --set data.on_bad=skip"


def turns_of(value: Any, where: str) -> list[Message]:
    """A cell's conversation, each turn as ``{"role": user | assistant | system, "content": text}``.

    An answer that is not to be learned keeps its ``"weight": 0``. A system turn without text stays: it keeps a chat
    template from putting a persona of its own there.

    Args:
        value: a list of turns, or the JSON of one.
        where: the row, for messages.

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
    turns = [_turn(item, number, where) for number, item in enumerate(value, 1)]
    if not any(turn["content"].strip() for turn in turns):
        raise _wrong(where, "a conversation without a turn")
    return turns


def is_turn(item: Any) -> bool:
    """Whether something looks like one turn of a conversation."""
    return isinstance(item, dict) and bool({"role", "from"} & set(item)) and bool({"content", "value"} & set(item))


def is_learned(turn: Message) -> bool:
    """Whether a turn of ``turns_of`` is an answer to learn."""
    return bool(turn["role"] == "assistant" and turn.get("weight") != 0)


def answered(turns: list[Message]) -> int | None:
    """The place of the last turn of the assistant's that is learned; None where there is none."""
    places = [place for place, turn in enumerate(turns) if is_learned(turn)]
    return places[-1] if places else None


def _turn(item: Any, number: int, where: str) -> Message:
    if not isinstance(item, dict):
        raise _wrong(where, f"a turn that is not an object (turn {number})")
    speaker = item.get("role") if item.get("role") is not None else item.get("from")
    content = item.get("content") if item.get("content") is not None else item.get("value")
    if not isinstance(speaker, str) or not speaker.strip():
        raise _wrong(where, f"a turn without a speaker or without text: turn {number} has no role")
    role = ROLES.get(speaker.strip().lower())
    if role is None:
        raise DataError(where, "the roles user, assistant and system", f"'{speaker}' (turn {number})", _DO)
    text = content if isinstance(content, str) else _joined(content, number, where)
    if not text.strip() and role != "system":
        raise _wrong(where, f"a turn without a speaker or without text: turn {number} ({role}) is empty")
    turn: Message = {"role": role, "content": text}
    if item.get("shown") is True:  # where a picture is shown, said by Rebus itself
        turn["shown"] = True
    if item.get("weight") == 0 and role == "assistant":
        turn["weight"] = 0
    return turn


def _joined(content: Any, number: int, where: str) -> str:
    """OpenAI's list of parts as one text."""
    if content is None:
        return ""
    if not isinstance(content, list | tuple):
        raise _wrong(where, f"a turn without a speaker or without text: turn {number} holds {type(content).__name__}")
    texts = []
    for part in content:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise DataError(where, "parts of text", f"a part of type '{kind}' (turn {number})", _DO)
        texts.append(part["text"])
    return "\n".join(texts)


def _wrong(where: str, found: str) -> DataError:
    return DataError(where, _EXPECTED, found, _DO)
