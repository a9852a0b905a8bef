"""A few test examples with what their answers came from: the image's parts and the pieces of the text."""

from __future__ import annotations

from typing import Any

import numpy as np

from rebus.catalogue import Translator, rendered, translate_name, translator
from rebus.errors import RebusError
from rebus.explain import Explanation, explain
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
    examples: list[Example] = []
    if subject.is_language_run:
        examples = [
            one for text in explained_texts(subject, most) if (one := _told_text(subject, text, texts)) is not None
        ]
    for looked, place in _chosen(subject.looked, most):
        one = _told(subject, looked, place, texts)
        if one is not None:
            examples.append(one)
    if not examples:
        return None
    command = f"rebus explain {subject.run.folder} --help"
    negative = any(score < 0 for one in examples for _, score in one.marked)
    text = [
        texts("text", signs=texts("signed" if negative else "unsigned")),
        texts("command", command=command),
    ]
    return Section("explanations", texts("title"), text, examples=examples, after="examples")


def _chosen(looked: list[Looked], most: int) -> list[tuple[Looked, int]]:
    """Places, the tasks by turns: of each a mistake that it is sure of, then an answer that is right, and so on."""
    queues = []
    for one in looked:
        marks = one.marks
        right, wrong = ([i for i in one.surest if (marks[i] >= 1.0) == good] for good in (True, False))
        step = max(1, len(right) // most)  # not only the easiest
        mixed = [i for pair in zip(wrong, right[::step], strict=False) for i in pair] or right[::step] or wrong
        queues.append([(one, i) for i in mixed])
    found: list[tuple[Looked, int]] = []
    while any(queues) and len(found) < most:
        for queue in queues:
            if queue and len(found) < most:
                found.append(queue.pop(0))
    return found


def _told(subject: Subject, looked: Looked, place: int, texts: Translator) -> Example | None:
    task, source, row = looked.task, looked.source, looked.rows[place]
    named = task.settings.columns
    columns = {named[role]: values[row] for role, values in source.values.items() if role in named}
    for name in set(source.values) - set(named):
        columns |= source.values[name][row]
    image = source.image(row)
    column = task.settings.columns.get("image")
    if column is not None and image is not None:
        columns[column] = image
    try:
        found = explain(subject.predictor, image=image, text=asked(looked, place), columns=columns, task=task.name)
    except RebusError as error:
        told = texts("failed", task=task.name, where=error.where, found=error.found)
        if told not in subject.warnings:
            subject.warnings.append(told)
        return None
    answer, truth, mark = looked.shown[place]
    return Example(
        answer=shown(answer),
        truth=shown(truth),
        question="" if found.tokens else asked(looked, place),
        image=_overlay(found, image),
        right=None if task.answers == "number" else mark >= 1.0,
        group=texts("group", task=task.name),
        note=_note(found, subject.lang),
        marked=_marked(found),
    )


def _told_text(subject: Subject, text: str, texts: Translator) -> Example | None:
    try:
        found = explain(subject.predictor, text=text)
    except RebusError as error:
        name = next(iter(subject.predictor.tasks))
        told = texts("failed", task=name, where=error.where, found=error.found)
        if told not in subject.warnings:
            subject.warnings.append(told)
        return None
    return Example(answer=found.answer, note=_note(found, subject.lang), marked=_marked(found))


def _overlay(found: Explanation, image: Any) -> Any:
    """The map over the image, the original beside it; the image alone where there is no map."""
    if found.image is None or found.shown is None:
        return image
    from rebus.explain.draw import overlay

    return np.asarray(overlay(found, side=True).convert("RGB"))


def _marked(found: Explanation) -> list[tuple[str, float]]:
    """The text piece by piece with its scores, what stands between them at zero."""
    pieces: list[tuple[str, float]] = []
    at = 0
    for token in found.tokens:
        if token.start > at:
            pieces.append((found.text[at : token.start], 0.0))
        pieces.append((found.text[token.start : token.end], float(token.score)))
        at = max(at, token.end)
    if pieces and at < len(found.text):
        pieces.append((found.text[at:], 0.0))
    return pieces


def _note(found: Explanation, lang: str) -> str:
    texts = translator("explained", lang)
    note = texts("note", target=rendered(found.target, lang), method=translate_name("method", found.method, lang))
    if found.columns:
        first = [f"{one.column} {one.share:.0%}" for one in found.columns[:COLUMNS]]
        note += " · " + texts("columns", shares=", ".join(first))
    if found.weights:
        shares = ", ".join(
            f"{translate_name('modality', name, lang)} {share:.0%}" for name, share in found.weights.items()
        )
        note += " · " + texts("weights", shares=shares)
    return str(note)
