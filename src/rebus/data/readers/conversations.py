"""Conversations in JSON: about pictures, a row a question and its answer; of text alone, a row a conversation.

A record is ``{"id", "image", "conversations": [{"from": "human" | "gpt", "value": "..."}]}``; ``messages`` with
``role`` and ``content`` is read alike. Liu, Li, Wu and Lee, 2023, "Visual Instruction Tuning".
"""

from __future__ import annotations

from typing import Any

from rebus.data.messages import turns_of
from rebus.data.readers.source import Source
from rebus.errors import DataError

_ASKS = {"human", "user"}
_ANSWERS = {"gpt", "assistant", "chatgpt", "bard"}
_KEYS = ("conversations", "messages")
_PICTURES = ("image", "picture", "images")


def is_conversation(row: dict[str, Any]) -> bool:
    """Whether a record holds a list of turns."""
    turns = _turns(row)
    return (
        isinstance(turns, list)
        and bool(turns)
        and isinstance(turns[0], dict)
        and bool({"from", "role", "content", "value"} & set(turns[0]))
    )


def read_conversations(
    rows: list[dict[str, Any]], numbers: list[int], source: Source, skipped: list[DataError], word: str
) -> tuple[list[dict[str, Any]], list[int]]:
    """Turn pairs where any record shows a picture, whole conversations where none does.

    Raises:
        DataError: as ``as_turns`` and ``as_messages``.
    """
    about_pictures = any(row.get(key) for row in rows for key in _PICTURES)
    return (as_turns if about_pictures else as_messages)(rows, numbers, source, skipped, word)


def as_messages(
    rows: list[dict[str, Any]], numbers: list[int], source: Source, skipped: list[DataError], word: str
) -> tuple[list[dict[str, Any]], list[int]]:
    """One row a conversation, its turns as ``{"role", "content"}``; other keys of the record are kept as columns.

    Raises:
        DataError: what ``turns_of`` finds wrong with a record (unless broken rows are skipped).
    """
    made: list[dict[str, Any]] = []
    origin: list[int] = []
    for row, number in zip(rows, numbers, strict=True):
        key = next((key for key in _KEYS if key in row), _KEYS[0])
        try:
            turns = turns_of(row.get(key), f"{source.name}, {word} {number}")
        except DataError as error:
            if not source.skip_bad:
                raise
            skipped.append(error)
            continue
        kept = {name: value for name, value in row.items() if name not in (*_KEYS, *_PICTURES)}
        made.append({"messages": turns, **kept})
        origin.append(number)
    return made, origin


def as_turns(
    rows: list[dict[str, Any]], numbers: list[int], source: Source, skipped: list[DataError], word: str
) -> tuple[list[dict[str, Any]], list[int]]:
    """One row a question and its answer, and the number of the record each came from.

    The placeholder ``<image>`` is removed and a system turn passed over. Other keys of the record are kept as columns.

    Raises:
        DataError: a record without turns, a turn without text, or turns out of order (unless broken rows are skipped).
    """
    made: list[dict[str, Any]] = []
    origin: list[int] = []
    for row, number in zip(rows, numbers, strict=True):
        try:
            pairs = _pairs(row, f"{source.name}, {word} {number}")
        except DataError as error:
            if not source.skip_bad:
                raise
            skipped.append(error)
            continue
        kept = {key: value for key, value in row.items() if key not in (*_KEYS, *_PICTURES)}
        picture = _picture(row, f"{source.name}, {word} {number}")
        for question, answer in pairs:
            made.append({"picture": picture, "question": question, "answer": answer, **kept})
            origin.append(number)
    return made, origin


def _turns(row: dict[str, Any]) -> Any:
    return next((row[key] for key in _KEYS if key in row), None)


def _pairs(row: dict[str, Any], where: str) -> list[tuple[str, str]]:
    turns = _turns(row)
    if not isinstance(turns, list) or not turns:
        raise _broken(where, "no list of turns")
    pairs: list[tuple[str, str]] = []
    question: str | None = None
    for turn in turns:
        speaker, text = _turn(turn, where)
        if speaker == "system":
            continue
        if speaker in _ASKS and question is None:
            question = " ".join(text.replace("<image>", " ").split()) if "<image>" in text else text.strip()
        elif speaker in _ANSWERS and question is not None:
            pairs.append((question, text.strip()))
            question = None
        else:
            raise _broken(where, f"a turn of '{speaker}' out of order")
    if not pairs or question is not None:
        raise _broken(where, "a question without an answer")
    return pairs


def _turn(turn: Any, where: str) -> tuple[str, str]:
    if not isinstance(turn, dict):
        raise _broken(where, "a turn that is not an object")
    speaker, text = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
    if not isinstance(speaker, str) or not isinstance(text, str):
        raise _broken(where, "a turn without a speaker or without text")
    return speaker.lower(), text


def _picture(row: dict[str, Any], where: str) -> Any:
    value = row.get("image", row.get("picture", row.get("images")))
    if isinstance(value, list):
        if len(value) > 1:
            raise DataError(
                where, "one picture a conversation", f"{len(value)}", "keep the picture that the questions are about"
            )
        value = value[0] if value else None
    return value


def _broken(where: str, found: str) -> DataError:
    return DataError(
        where,
        'turns in pairs: {"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}',
        found,
        "correct that record, or leave it out with --set data.on_bad=skip",
    )
