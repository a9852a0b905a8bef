"""SQuAD's own JSON (also CMRC's and others') to rows of question, context and answers.

``{"data": [{"title", "paragraphs": [{"context", "qas": [{"question", "answers": [{"text", "answer_start"}]}]}]}]}``.
Source: Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rebus.data.readers.source import Source
from rebus.errors import DataError

Row = dict[str, Any]


def is_squad(row: Row) -> bool:
    """Whether a record is an article with paragraphs of questions, or one such paragraph."""
    parts = row.get("paragraphs", [row])
    first = parts[0] if isinstance(parts, list) and parts else None
    return isinstance(first, dict) and "qas" in first and "context" in first


def as_questions(
    rows: list[Row], numbers: list[int], source: Source, skipped: list[DataError], word: str
) -> tuple[list[Row], list[int]]:
    """One row a question, and the number of the record each came from; an impossible question has no answers.

    Raises:
        DataError: a record is laid out otherwise (unless broken rows are skipped).
    """
    built: list[Row] = []
    origin: list[int] = []
    for row, number in zip(rows, numbers, strict=True):
        try:
            result = list(_questions(row))
        except (KeyError, TypeError, AttributeError) as error:
            data_error = DataError(
                f"{source.name}, {word} {number}",
                'paragraphs of {"context", "qas": [{"question", "answers": [{"text", "answer_start"}]}]}',
                f"another layout ({error!r})"[:120],
                "correct that record, or leave it out with --set data.on_bad=skip",
            )
            if not source.skip_bad:
                raise data_error from error
            skipped.append(data_error)
            continue
        built += result
        origin += [number] * len(result)
    return built, origin


def _questions(row: Row) -> Iterator[Row]:
    titled = {"title": row["title"]} if "title" in row else {}
    for paragraph in row.get("paragraphs", [row]):
        for asked in paragraph["qas"]:
            answers = [] if asked.get("is_impossible") else asked.get("answers") or []
            yield {
                **titled,
                "question": asked["question"],
                "context": paragraph["context"],
                "answers": [answer["text"] for answer in answers],
                "answer_start": [answer.get("answer_start") for answer in answers],
            }
