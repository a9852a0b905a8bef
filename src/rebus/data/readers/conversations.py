"""Conversations in JSON: a row a conversation; or, where each is one question about an image, a row a question.

A record is ``{"id", "image", "conversations": [{"from": "human" | "gpt", "value": "..."}]}`` (LLaVA, ShareGPT) or
``{"images", "messages": [{"role", "content"}]}`` (OpenAI, TRL, Unsloth, ms-swift), where an image may also stand inside
a turn; or ``{"prompt", "completion"}``, each a list of turns (TRL).
Source: Liu, Li, Wu and Lee, 2023, "Visual Instruction Tuning".
"""

from __future__ import annotations

import itertools
import json
from typing import Any

from rebus.data.messages import DO, MARK, Message, answered, is_turn, turns_of, unread_fields, without_marks
from rebus.data.names import SYSTEM, named
from rebus.data.readers.source import Source
from rebus.errors import DataError

_KEYS = ("conversations", "messages")
_HALVES = ("prompt", "completion", "chosen", "rejected")  # parts of a conversation, in columns of their own
IMAGES = ("image", "images", "picture", "pictures", "img", "image_path", "image_paths")
Row = dict[str, Any]


def is_conversation(row: Row) -> bool:
    """Whether a record holds a list of turns."""
    turns = next((row[key] for key in _KEYS if key in row), None)
    if isinstance(turns, list) and turns and isinstance(turns[0], dict):
        return bool({"from", "role", "content", "value"} & set(turns[0]))
    return any(_are_turns(row.get(key)) for key in _HALVES)


def read_conversations(
    rows: list[Row], numbers: list[int], source: Source, skipped: list[DataError], word: str
) -> tuple[list[Row], list[int]]:
    """The rows of a file of conversations, and the number of the record each came from.

    Where every record is one question and its answer, and some show an image, the columns are ``image``, ``question``
    and ``answer``; else ``messages`` (or ``prompt`` and ``completion``), and ``image`` where a record shows one.
    Other keys of a record are kept as columns.

    Raises:
        DataError: what ``turns_of`` finds wrong with a record (unless broken rows are skipped).
    """
    result: list[Row] = []
    origin: list[int] = []
    for row, number in zip(rows, numbers, strict=True):
        try:
            result.append(_read(row, f"{source.name}, {word} {number}"))
            origin.append(number)
            for field in [field for key in (*_KEYS, *_HALVES) for field in unread_fields(row.get(key))]:
                source.unused.add(f"turns with '{field}', which is not read", f"{source.name}, {word} {number}")
            turns = result[-1].get("messages") or []
            last = answered(turns)
            if last is not None:
                kind = "turns after the last answer that is to be learned"
                source.unused.add(kind, f"{source.name}, {word} {number}", len(turns) - 1 - last)
        except DataError as error:
            if not source.skip_bad:
                raise
            skipped.append(error)
    if not any(row["image"] is not None for row in result):
        marked = sum(any(MARK.search(turn["content"]) for turn in row.get("messages") or []) for row in result)
        if 2 * marked > len(result):
            do = "name the images in a column 'image' or 'images', or remove the marks"
            raise DataError(source.name, "an image for each mark (<image>)", f"none in {marked} records", do)
        for row in result:
            del row["image"]
    elif all(_is_one_question(row.get("messages")) and not _has_system(row) for row in result):
        result = [_as_question(row) for row in result]
    return result, origin


def with_image(turns: list[Message], images: list[Any], where: str) -> tuple[list[Message], Any]:
    """Turns without image marks, and the cell that holds the image; a turn with a mark is ``"shown": True``.

    Args:
        turns: of ``turns_of``.
        images: the images beside them and inside them, in order.
        where: the row, for messages.

    Raises:
        DataError: there are more marks than images.
    """
    if not images:
        return turns, None
    marks = sum(len(MARK.findall(turn["content"])) for turn in turns)
    if marks > len(images):
        received = f"{marks} marks (<image>) and {len(images)} image{'s' if len(images) > 1 else ''}"
        raise DataError(where, "an image for each mark in the text", received, "correct that record")
    cleaned = []
    for turn in turns:
        content = turn["content"]
        if MARK.search(content):
            turn = {**turn, "content": without_marks(content), "shown": True}
        cleaned.append(turn)
    return cleaned, image_cell(images)


def image_cell(images: list[Any]) -> Any:
    """One image as it is; none as None; several as the text of a list, which is refused when it is opened."""
    if len(images) < 2:
        return images[0] if images else None
    return json.dumps([image if isinstance(image, str) else "an image in the table" for image in images])


def images_of(value: Any) -> list[Any]:
    """The images of a cell: a path, bytes, Hugging Face's ``{"bytes", "path"}``, or a list of these."""
    if isinstance(value, list | tuple):
        return [image for item in value for image in images_of(item)]
    if isinstance(value, dict):
        value = next((value[key] for key in ("bytes", "path", "url", "image") if value.get(key)), None)
        return images_of(value)
    return [] if value is None or (isinstance(value, str | bytes) and not value.strip()) else [value]


def _read(row: Row, where: str) -> Row:
    key = next((key for key in _KEYS if key in row), None)
    images = next((result for name in IMAGES if (result := images_of(row.get(name)))), [])
    kept = {name: value for name, value in row.items() if name not in (*_KEYS, *IMAGES)}
    inside: list[Any] = []
    if key is not None:
        turns = turns_of(row[key], where, inside)
        kept = {"messages": turns, **kept}
    else:
        kept |= {name: turns_of(row[name], where, inside) for name in _HALVES if _are_turns(row.get(name))}
        if not any(_are_turns(row.get(name)) for name in _HALVES):
            raise DataError(where, "a list of turns, as in the rows before", f"the keys {', '.join(row)}"[:80], DO)
    if key is not None and (images or inside):
        _in_turns(kept["messages"], where)
    name = "prompt" if key is None else "messages"
    image = image_cell(images or inside)
    if _are_turns(kept.get(name)):
        kept[name], image = with_image(kept[name], images or inside, where)
    return {"image": image, **kept}


def _in_turns(turns: list[Message], where: str) -> None:
    """Refuse a conversation about an image in which a question has no answer, or two follow each other."""
    items = [turn["role"] for turn in turns if turn["role"] != "system"]
    if items and items[-1] == "user":
        raise DataError(where, "questions and answers in turn", "a question without an answer", DO)
    twice = next((role for role, other in itertools.pairwise(["assistant", *items]) if role == other), None)
    if twice is not None:
        raise DataError(where, "questions and answers in turn", f"a turn of '{twice}' out of order", DO)


def _are_turns(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and is_turn(value[0])


def _is_one_question(turns: Any) -> bool:
    """Whether a conversation is a question and an answer to learn; a system turn without text counts for nothing."""
    items = [turn for turn in turns or [] if turn["role"] != "system" or turn["content"].strip()]
    return [turn["role"] for turn in items] == ["user", "assistant"] and items[1].get("weight") != 0


def _has_system(row: Row) -> bool:
    return any(named(name, SYSTEM) and isinstance(value, str) and value.strip() for name, value in row.items())


def _as_question(row: Row) -> Row:
    question, answer = (turn["content"] for turn in row["messages"] if turn["role"] != "system")
    rest = {name: value for name, value in row.items() if name not in ("image", "messages")}
    return {"image": row["image"], "question": question.strip(), "answer": answer.strip(), **rest}
