"""Follow one example: a Predictor and an input in, a Flow out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rebus.errors import DataError
from rebus.explain.explaining import subject_of
from rebus.explain.inputs import explained_task
from rebus.explain.subject import Subject
from rebus.inference.predictor import Predictor
from rebus.inference.session import missing_image
from rebus.report.flow.answers import answer_stations
from rebus.report.flow.capture import capture
from rebus.report.flow.fusion_view import fusion_station
from rebus.report.flow.inputs import input_stations
from rebus.report.flow.result import Flow
from rebus.report.labels import check_language
from rebus.tasks import Task


def flow(
    predictor: Predictor,
    *,
    image: Any = None,
    text: str = "",
    columns: Mapping[str, Any] | None = None,
    task: str | None = None,
    lang: str = "en",
) -> Flow:
    """One example followed through the model, station by station, from its real tensors.

    Args:
        predictor: the model.
        image: a path, the bytes of an image file or an array (H, W, 3) of uint8; None: none, or the columns'.
        text: the question, the prompt, or what else the task reads.
        columns: what else the task reads, by the table's names of columns or by role: ``{"passage": "..."}``.
        task: which task; None: the one that ``ask`` would take.
        lang: en or zh, of a page that names no language.

    Returns:
        Stations with shapes, images of what is in them, and the answer. A model that writes has written it first; it
        then reads it back in one pass, which is the pass that is told.

    Raises:
        DataError: the task does not exist, or it lacks something that it reads. ImageError: the image cannot be
        read. RecipeError: no such language.
    """
    check_language(lang)
    chosen = _chosen(predictor, task, asked=bool(text))
    subject = _subject(predictor, chosen, image, text, dict(columns or {}))
    captured = capture(subject)
    original = image if not missing_image(image) else subject.values.get("image", [None])[0]
    stations = [*input_stations(captured, original), *fusion_station(captured), *answer_stations(captured)]
    kind = "none" if predictor.model.fusion is None else predictor.recipe.model.fusion.kind
    fusion = "inline" if predictor.model.inline is not None else kind
    return Flow(chosen.name, fusion, subject.text or text, subject.answer, tuple(stations), lang)


def _chosen(predictor: Predictor, name: str | None, *, asked: bool) -> Task:
    known = predictor.tasks.get(name) if name is not None else next(iter(predictor.tasks.values()), None)
    if known is not None and not known.explains and (name is not None or len(predictor.tasks) == 1):
        return known
    return explained_task(predictor, name, asked=asked)


def _subject(predictor: Predictor, task: Task, image: Any, text: str, columns: dict[str, Any]) -> Subject:
    if task.explains:
        return subject_of(predictor, task, image, text, columns)
    if missing_image(image):
        image = columns.get(task.settings.columns.get("image", "image"))
    if text or missing_image(image):
        result = "a text" if text else "none"
        raise DataError(f"task '{task.name}'", "an image, and nothing else", result, "give one image, without a text")
    return Subject(predictor, task, {"image": [image]}, predictor.open_image(image, Path(), "the image"))
