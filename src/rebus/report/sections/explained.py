"""A few test examples with what their answers came from: the image's parts and the pieces of the text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rebus.catalogue import rendered, translate_name, translator
from rebus.errors import RebusError
from rebus.explain import Explanation, explain
from rebus.explain.page import pieces
from rebus.report.contents import Example, Section
from rebus.report.sections.examples import asked, shown
from rebus.report.sections.held_out import explained_texts
from rebus.report.sections.subject import Looked, Subject

COLUMNS = 4  # that are named beside an example


def explained(subject: Subject) -> Section | None:
    """Examples with maps and coloured texts; None where none are wanted or none can be explained."""
    texts = translator("explained", subject.lang)
    most = subject.recipe.report.explained
    if not most:
        return None

    def example(name: str, fields: dict[str, Any], **asked_for: Any) -> list[Example]:
        try:
            explanation = explain(subject.predictor, task=name, **asked_for)
        except RebusError as error:
            subject.warn("explained.failed", error, task=name)
            return []
        marked = [(piece["text"], piece["score"] or 0.0) for piece in pieces(explanation)]
        fields = {"answer": explanation.answer, **fields, "question": "" if explanation.tokens else asked_for["text"]}
        image = _overlay(explanation, asked_for.get("image"))
        return [Example(**fields, image=image, note=_note(explanation, subject.lang), marked=marked)]

    examples: list[Example] = []
    if subject.is_language_run:
        name = next(iter(subject.predictor.tasks))
        for text in explained_texts(subject, most):
            examples += example(name, {}, text=text)
    for looked, place in _chosen(subject.looked, most):
        answer, truth, mark = looked.shown[place]
        task = looked.task.name
        right = None if looked.task.answers == "number" else mark >= 1.0
        fields = {"answer": shown(answer), "truth": shown(truth), "group": texts("group", task=task), "right": right}
        examples += example(task, fields, **_row(looked, place))
    if not examples:
        return None
    command = f"rebus explain {subject.run.folder} --help"
    negative = any(score < 0 for item in examples for _, score in item.marked)
    paragraphs = [
        texts("text", signs=texts("signed" if negative else "unsigned")),
        texts("command", command=command),
    ]
    return Section("explanations", texts("title"), paragraphs, examples=examples, after="examples")


def _chosen(looked: list[Looked], most: int) -> list[tuple[Looked, int]]:
    """Places, the tasks by turns: of each a mistake that it is sure of, then an answer that is right, and so on."""
    queues = []
    for item in looked:
        marks = item.marks
        right, wrong = ([i for i in item.surest if (marks[i] >= 1.0) == good] for good in (True, False))
        step = max(1, len(right) // most)  # not only the easiest
        mixed = [i for pair in zip(wrong, right[::step], strict=False) for i in pair] or right[::step] or wrong
        queues.append([(item, i) for i in mixed])
    result: list[tuple[Looked, int]] = []
    while any(queues) and len(result) < most:
        for queue in queues:
            if queue and len(result) < most:
                result.append(queue.pop(0))
    return result


def _row(looked: Looked, place: int) -> dict[str, Any]:
    """The image, the text and the columns of a row, as ``explain`` takes them."""
    task, source, row = looked.task, looked.source, looked.rows[place]
    roles = task.settings.columns
    columns = {roles[role]: values[row] for role, values in source.values.items()}
    for name in source.inputs.modalities:
        columns = source.inputs.cells(name, row) | columns
    image = source.image(row)
    if image is not None and "image" in roles:
        columns[roles["image"]] = image
    return {"image": image, "text": asked(looked, place), "columns": columns}


def _overlay(explanation: Explanation, image: Any) -> Any:
    """The map over the image, the original beside it; the image alone where there is no map."""
    if explanation.image is None or explanation.shown is None:
        return image
    from rebus.explain.draw import overlay

    return np.asarray(overlay(explanation, side=True).convert("RGB"))


def _note(explanation: Explanation, lang: str) -> str:
    texts = translator("explained", lang)
    method = translate_name("method", explanation.method, lang)
    parts = [texts("note", target=rendered(explanation.target, lang), method=method)]
    if explanation.columns:
        shares = {column.column: column.share for column in explanation.columns[:COLUMNS]}
        parts.append(texts("columns", shares=_shares(shares)))
    if explanation.weights:
        weights = {translate_name("modality", name, lang): share for name, share in explanation.weights.items()}
        parts.append(texts("weights", shares=_shares(weights)))
    return " · ".join(parts)


def _shares(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
