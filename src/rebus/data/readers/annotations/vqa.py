"""VQAv2's two files: questions in one, answers in the other, joined by ``question_id``.

Source: Goyal et al. 2017, "Making the V in VQA Matter".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rebus.data.readers.annotations.boxes import Images, Row, folders_of, table_of, words_of
from rebus.data.readers.source import Source
from rebus.data.table import Table
from rebus.errors import DataError

_NAMES = ("file_name", "image", "image_name", "image_path")


def is_questions(content: Any) -> bool:
    """Whether a document holds the questions."""
    return _holds(content, "questions", {"question_id", "question"})


def is_answers(content: Any) -> bool:
    """Whether a document holds the answers."""
    return _holds(content, "annotations", {"question_id"})


def read_vqa(questions: dict[str, Any], answers: dict[str, Any], source: Source, root: Path | None = None) -> Table:
    """One row a question: ``image``, ``question``, ``answer`` (the usual one first) and ``question_type``.

    Args:
        questions: the one file.
        answers: the other.
        source: of the questions.
        root: the folder of the images; None: the file's own, or the one above.

    Raises:
        DataError: none of the images is there, or no question has an answer.
    """
    entries = {entry["question_id"]: entry for entry in answers["annotations"]}
    near = (str(questions.get("data_subtype") or answers.get("data_subtype")), *words_of(source.path))
    first = questions["questions"][0]
    tried = (Images(folder) for folder in (folders_of(source.path) if root is None else [root]))
    images = next((result for result in tried if _place(result, first, near) is not None), None)
    if images is None:
        raise DataError(
            source.path,
            f"the images of these VQA questions, e.g. one whose name ends in {first.get('image_id')}",
            f"none in '{source.path.parent}' or below",
            "put the folder of images beside the file",
        )
    rows: list[Row] = []
    for entry in questions["questions"]:
        answer = entries.get(entry["question_id"], {})
        texts = [str(item["answer"]) for item in answer.get("answers") or [] if item.get("answer") is not None]
        counts, usual = Counter(texts), answer.get("multiple_choice_answer")
        ordered = sorted(texts, key=lambda text: (text != usual, -counts[text]))
        place = _place(images, entry, near) or str(entry.get("image_id"))
        kind = answer.get("question_type")
        rows.append(
            {
                "image": place,
                "question": str(entry["question"]),
                "answer": ordered or ([str(usual)] if usual else None),
                "question_type": kind,
            }
        )
    if not any(row["answer"] for row in rows):
        raise DataError(source.name, "answers to its questions", "none of the same question_id", "name their own files")
    source.unused.add("questions without an answer", source.name, sum(row["answer"] is None for row in rows))
    source.unused.add("answers to questions that are not in the file", source.name, len(set(entries) - {
        entry["question_id"] for entry in questions["questions"]
    }))  # fmt: skip
    kept = [(number, row) for number, row in enumerate(rows, 1) if row["answer"] is not None]
    return table_of(source, images.root, [row for _, row in kept], [number for number, _ in kept], "question")


def _place(images: Images, entry: dict[str, Any], near: Sequence[str]) -> str | None:
    named = next((str(entry[key]) for key in _NAMES if entry.get(key)), None)
    if named is not None:
        return images.find(named, near)
    number = entry.get("image_id")
    result = images.find(str(number), near)
    return result if result is not None or not str(number).isdigit() else images.numbered(int(str(number)), near)


def _holds(content: Any, key: str, fields: set[str]) -> bool:
    entries = content.get(key) if isinstance(content, dict) else None
    first = entries[0] if isinstance(entries, list) and entries else None
    return isinstance(first, dict) and fields <= set(first)
