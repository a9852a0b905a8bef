"""From a question about a model's output to its explanation: the task, the output, the method, the readable pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict, Unpack

import numpy as np

from rebus.catalogue import note_or_text
from rebus.errors import DataError, nearest
from rebus.explain.columns import column_losses, column_scores
from rebus.explain.inputs import explained_task, image_of, row_of
from rebus.explain.registry import METHODS, Floats, Method, Scores
from rebus.explain.result import ColumnScore, Explanation, TokenScore
from rebus.explain.subject import Subject, quiet
from rebus.explain.trace import trace
from rebus.inference.predictor import Predictor
from rebus.tasks import Task
from rebus.tasks.cuts import counting
from rebus.tasks.explanation import Goal, Target
from rebus.tasks.pieces import units_of_text

ORDER = ("saliency", "relevance", "rollout", "attention", "gradients", "gradcam", "occlusion")


class ExplainOptions(TypedDict, total=False):
    """What of an answer is explained, and how.

    Attributes:
        columns: what else the task reads, by the table's names of columns or by role: ``{"passage": "..."}``.
        task: which task; left out: the one that ``ask`` would take.
        target: which output; left out: the model's own answer. A label or a tag; of a written answer, a word or its
            number from 1; of ``similar``, the text to compare with; of ``ner`` and ``extract``, words of the text.
        method: one of ``METHODS``; ``auto``: the one that was measured to be the best for this Run, else the first of
            those that fit.
    """

    columns: Mapping[str, Any] | None
    task: str | None
    target: str | int | None
    method: str


def explain(
    predictor: Predictor, *, image: Any = None, text: str = "", **options: Unpack[ExplainOptions]
) -> Explanation:
    """Why a model says what it says of one image and one text.

    Args:
        predictor: the model.
        image: a path, the bytes of an image file or an array (H, W, 3) of uint8; None: none, or the columns'.
        text: the question, the prompt, or what else the task reads.
        options: see ``ExplainOptions``.

    Returns:
        Relevance of the image's parts and of the text's pieces. For a model that writes, ``words`` has one
        explanation for each word of the answer, and what is said of the whole is their sum, or their mean.

    Raises:
        DataError: the task, the target or the method does not exist or does not fit; what is right is named.
        ImageError: the image cannot be read. MissingPackageError: a library of the extra ``explain`` is missing.
    """
    columns = options.get("columns") or {}
    asked = bool(text) or any(name in columns for name in _questions(predictor))
    task = explained_task(predictor, options.get("task"), asked=asked)
    method = method_for(predictor, task, options.get("method", "auto"))
    return explain_with(subject_of(predictor, task, image, text, columns, options.get("target")), method)


def subject_of(
    predictor: Predictor, task: Task, image: Any, text: str, columns: Mapping[str, Any], target: Target = None
) -> Subject:
    """One example with its goals, ready for any method; arguments and errors as for ``explain``."""
    values = row_of(task, text, columns)
    shown = image_of(predictor, task, image, values)
    subject = Subject(predictor, task, values, shown, cells=dict(columns))
    with quiet(predictor.model), counting() as cuts:
        task.explanation_targets(subject, target)
    if cuts.texts:
        subject.remarks.append(cuts.note)
    return subject


def explain_with(subject: Subject, name: str) -> Explanation:
    """The explanation of a subject whose goals are known, by a method that fits."""
    how = METHODS.get(name)
    result = how(subject)
    names, losses = column_losses(subject)
    weights = joint_weights(subject)
    remarks = tuple(dict.fromkeys([*([note_or_text(how.remark)] if how.remark else []), *subject.remarks]))
    items = [
        _made(subject, name, goal, item, weights[number], remarks, column_scores(subject, names, losses[:, number]))
        for number, (goal, item) in enumerate(zip(subject.goals, result, strict=True))
    ]
    if subject.whole is None:
        return items[0]
    mean = _mean_weights(weights)
    summed = losses.sum(1) if how.adds_up else losses.mean(1)
    columns = column_scores(subject, names, summed)
    whole = _made(subject, name, subject.whole, together(result, how), mean, remarks, columns)
    return replace(whole, words=tuple(items))


def methods_for(predictor: Predictor, task: str | None = None) -> list[str]:
    """The methods that fit a task of a model, those that say most first.

    Raises:
        DataError: there is no such task, or nothing about it can be explained.
    """
    chosen = explained_task(predictor, task)
    reads = set(predictor.model.specs[chosen.name].reads)
    if reads and not reads & {"image", "text"}:
        return ["occlusion"]  # columns alone: all that is said of them is
    names = [*ORDER, *(name for name in METHODS.names() if name not in ORDER)]
    return [name for name in names if METHODS.get(name).fits(predictor.model, predictor.model.head(chosen.name))]


def method_for(predictor: Predictor, task: Task, name: str) -> str:
    """The method to use. Raises DataError: there is none of this name, or it does not fit."""
    able = methods_for(predictor, task.name)
    if name == "auto":
        measured = best_method(predictor, task.name)
        return str(measured) if measured in able else able[0]
    if name not in METHODS.names():
        raise DataError.of("problem.no_method", method=name, hint=nearest(name, METHODS.names()))
    if name not in able:
        raise DataError.of("problem.method_unfit", task=task.name, method=name, methods=" or ".join(able))
    return name


def best_method(predictor: Predictor, task: str) -> str | None:
    """The method that was measured to be the best for a Run's task; None where none was measured.

    Raises:
        RunError: the Run's explain.json is damaged.
    """
    from rebus.explain.faithfulness.store import kept_method  # it measures what is made here

    return None if predictor.folder is None else kept_method(predictor.folder, task)


def joint_weights(subject: Subject) -> list[dict[str, float] | None]:
    """For each goal, the share of each modality in what a joint fusion gave; None where nothing is fused so."""
    model = subject.model
    none: list[dict[str, float] | None] = [None] * len(subject.goals)
    if (
        model.fusion is None
        or not model.fusion.blends
        or subject.outputs is not None
        or not (subject.head.writes or subject.head.fuses)
    ):
        return none
    blends = trace(subject).blends
    if "fusion.blend" not in blends:
        return none
    shares = [float(x) for x in blends["fusion.blend"][0]]
    first = dict(zip(model.fusion.modalities, shares, strict=True))
    if "fusion.enter_blend" not in blends:
        return [first] * len(subject.goals)
    result: list[dict[str, float] | None] = []
    for goal in subject.goals:
        vector, own = (float(x) for x in blends["fusion.enter_blend"][list(goal.at)].mean(0))
        entries = {name: share * vector for name, share in first.items()}
        result.append({**entries, "text": entries.get("text", 0.0) + own})
    return result


def together(scores: Sequence[Scores], how: Method) -> Scores:
    """What is said of several words at once: the sum where a method's parts add up, else the mean."""
    share = 1.0 if how.adds_up else 1.0 / len(scores)
    maps = [item.image for item in scores if item.image is not None]
    image: Floats | None = np.asarray(np.sum(maps, axis=0) * share, dtype=np.float32) if maps else None
    names = scores[0].streams
    streams = {n: np.asarray(np.sum([item.streams[n] for item in scores], axis=0) * share, np.float32) for n in names}
    return Scores(image, streams)


def _made(
    subject: Subject,
    name: str,
    goal: Goal,
    scores: Scores,
    weights: dict[str, float] | None,
    remarks: tuple[str, ...],
    columns: tuple[ColumnScore, ...] = (),
) -> Explanation:
    tokens = []
    if scores.streams:
        for unit in units_of_text(subject.text, subject.places):
            total = sum(
                float(scores.streams[stream][list(members)].sum())
                for stream, members in unit.members.items()
                if stream in scores.streams
            )
            tokens.append(TokenScore(subject.text[unit.start : unit.end], total, unit.start, unit.end))
    image = None if scores.image is None else np.asarray(scores.image, dtype=np.float32)
    return Explanation(
        method=name,
        target=goal.target,
        score=goal.score,
        image=image,
        tokens=tuple(tokens),
        columns=columns,
        weights=weights,
        shown=subject.shown,
        text=subject.text,
        answer=subject.answer,
        remarks=remarks,
        span=goal.span,
    )


def _mean_weights(weights: Sequence[dict[str, float] | None]) -> dict[str, float] | None:
    known = [weight for weight in weights if weight is not None]
    return {name: float(np.mean([weight[name] for weight in known])) for name in known[0]} if known else None


def _questions(predictor: Predictor) -> set[str]:
    """Names under which a question may stand among the columns."""
    asked = [task for task in predictor.tasks.values() if task.asked_with == "question"]
    return {"question"} | {task.settings.columns.get(task.question_role or "", "") for task in asked}


__all__ = [
    "ORDER",
    "Target",
    "best_method",
    "explain",
    "explain_with",
    "method_for",
    "methods_for",
    "subject_of",
]
