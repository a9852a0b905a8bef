"""``/v1/predict``: what any task says of rows, and why."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import Response

from rebus.data.cells import is_blank
from rebus.data.image_sources import image_bytes, is_data_address
from rebus.data.role_cells import reader_of
from rebus.errors import ImageError, nearest
from rebus.inference.predictor import Predictor
from rebus.serve import images
from rebus.serve.answers import answer, encoded
from rebus.serve.bodies import BodyRoute
from rebus.serve.context import Context
from rebus.serve.errors import invalid, late
from rebus.serve.loading import Served
from rebus.serve.schemas import PredictReply, PredictRequest
from rebus.serve.texts import uncut
from rebus.serve.turns import Portions
from rebus.tasks import Prediction, Task

ROUTE = "/v1/predict"
TOGETHER = 8  # rows that are predicted in one portion
Json = dict[str, Any]


def router(context: Context) -> APIRouter:
    """The route."""
    routes = APIRouter(route_class=BodyRoute)

    @routes.post(ROUTE, tags=["Rebus"], response_model=PredictReply)
    async def predict(body: PredictRequest, request: Request) -> Response:
        """Predictions for rows with the columns that the model was trained on; ``/v1/models`` lists them."""
        served = context.model(body.model)
        context.note(ROUTE, body)
        task, rows = await context.by_aide(read(body, context, served.predictor), request)
        data = await context.at_desk(predict_rows(served.predictor, task, rows, body, context), request)
        return answer(await context.in_turn(context.readers, reply(served, task, data), request))

    return routes


def read(body: PredictRequest, context: Context, predictor: Predictor) -> Portions[tuple[Task, list[Json]]]:
    """The task, and the rows with their images opened; nothing in a row is taken for a path. Raises ApiError."""
    limits, task = context.limits, predictor.task(body.task)
    if len(body.rows) > limits.rows:
        raise invalid(f"at most {limits.rows} rows may be sent; there are {len(body.rows)}", "rows")
    if not body.explain and (body.target is not None or body.method is not None):
        raise invalid("target and method say how to explain: set explain to true", "explain")
    if body.explain and len(body.rows) > limits.explained:
        raise invalid(f"at most {limits.explained} rows are explained at once", "rows")
    column = task.settings.columns.get("image")
    count = sum(not _blank(task, "image", row.get(column)) for row in body.rows) if column else 0
    if count > limits.images:
        raise invalid(f"at most {limits.images} images may be sent in a request; there are {count}", "rows")
    rows, more = [], {item for several in predictor.recipe.data.inputs.values() for item in several}
    for number, row in enumerate(body.rows):
        embedded = dict(_embedded(predictor, row, number))
        plain = {name: value for name, value in row.items() if name not in embedded}
        checked = dict(_checked(task, plain, number, limits.text_length))
        rows.append({**_whole(task, row, number, more), **checked, **embedded})
        if column and not _blank(task, "image", row.get(column)):
            image = images.opened(predictor, str(row[column]), f"rows[{number}].{column[:64]}", limits)
            rows[-1][column] = image.pixels
        yield
    return task, rows


def _blank(task: Task, role: str, value: Any) -> bool:
    """Whether a cell says nothing, as in a table; a long text is not looked through."""
    return reader_of(task.settings, role)(value) is None if not isinstance(value, str) or len(value) < 1024 else False


def _checked(task: Task, row: Json, number: int, longest: int) -> Iterator[tuple[str, Any]]:
    """A row's cells; a blank image is none. Raises ApiError for an image that is no text, or a text too long."""
    for name, value in row.items():
        where = f"rows[{number}].{name[:64]}"
        if name == task.settings.columns.get("image"):
            if _blank(task, "image", value):
                value = None
            elif not isinstance(value, str):
                raise invalid(f"{where}: expected an image as a data URL", where)
        elif isinstance(value, str) and len(value) > longest:
            raise invalid(f"{where}: a text has at most {longest:,} characters", where)
        yield name, value


def _embedded(predictor: Predictor, row: Json, number: int) -> Iterator[tuple[str, Any]]:
    """Cells of other modalities that may name files: their bytes. Raises ApiError for what is no data URL."""
    for name, modality in predictor.processor.modalities.items():
        for column in modality.columns if modality.files and name != "image" else ():
            where, value = f"rows[{number}].{column[:64]}", row.get(column)
            if is_blank(value):
                continue
            if not isinstance(value, str) or not is_data_address(value):
                raise invalid(f"{where}: expected {name} as a data URL", where)
            try:
                yield column, image_bytes(value, where)
            except ImageError as error:
                raise invalid(f"{where}: expected {error.expected}; found {error.found}", where) from None


def _whole(task: Task, row: Json, number: int, more: Collection[str]) -> Json:
    """The columns that a row lacks and may lack, blank as a table's cells would be; ``more``: columns no task names.

    Raises:
        ApiError: it lacks one that is needed, or has a column that nobody knows in the place of one.
    """
    columns = task.settings.columns
    lacking = {role: columns[role] for role in task.inputs if role in columns and columns[role] not in row}
    if not lacking:
        return {}
    unknown = next((name for name in row if name not in (*columns.values(), *more)), None)
    needed = next((name for role, name in lacking.items() if task.roles[role].required), None)
    blank = all(_blank(task, role, row.get(columns[role])) for role in task.inputs if role in columns)
    blank = blank and all(is_blank(row.get(name)) for name in more)
    if needed is None and unknown is None and not blank:
        return dict.fromkeys(lacking.values())
    name = needed or next(iter(lacking.values()))
    where = f"rows[{number}]"
    if unknown is not None:
        hint = nearest(unknown[:64], columns.values())
        raise invalid(
            f"{where}: there is no column '{name}', and '{unknown[:64]}' is not one of the model's; {hint}", where
        )
    raise invalid(f"{where}: there is no column '{name}', which the task '{task.name}' predicts from", where)


def predict_rows(
    predictor: Predictor, task: Task, rows: list[Json], body: PredictRequest, context: Context
) -> Portions[list[Json]]:
    """Each row's prediction as JSON. Raises ApiError, DataError."""
    data: list[Json] = []
    for start in range(0, len(rows), TOGETHER):
        portion = rows[start : start + TOGETHER]
        with uncut("rows", lambda text, start=start, portion=portion: _place_of(text, portion, start)):  # type: ignore[misc]
            data += [as_json(prediction, task) for prediction in predictor.predict(portion, task=task.name)]
        yield
    for index, place in enumerate(data):
        place |= {"index": index, "explanation": None}
    if body.explain:
        end = time.monotonic() + context.limits.seconds
        for place, row in zip(data, rows, strict=True):
            if time.monotonic() > end:  # whoever asked was told so
                raise late()
            place["explanation"] = explained(predictor, task, row, body)
            yield
    return data


def _place_of(text: str, rows: list[Json], start: int) -> str:
    """The cell that a text came from, or the row, or just ``rows``."""
    cells = [(number, name, value) for number, row in enumerate(rows, start) for name, value in row.items()]
    matches = [(len(value), number, name) for number, name, value in cells if isinstance(value, str) and value in text]
    if not matches:
        return "rows"
    _, number, name = max(matches)
    return f"rows[{number}].{name[:64]}"


def reply(served: Served, task: Task, data: list[Json]) -> Portions[bytes]:
    """The answer."""
    yield
    return encoded({"object": "list", "model": served.name, "task": task.name, "data": data})


def explained(predictor: Predictor, task: Task, row: Mapping[str, Any], body: PredictRequest) -> Json:
    """Why the model says what it says of a row. Raises DataError where this task cannot be explained."""
    from rebus.explain import explain

    more: Json = {} if body.method is None else {"method": body.method}
    explanation = explain(predictor, columns=row, task=task.name, target=body.target, **more)
    return {key: plain(value) for key, value in explanation.to_json().items()}


def as_json(prediction: Prediction, task: Task) -> Json:
    """A prediction's public parts."""
    return {
        "value": plain(prediction.value),
        "confidence": plain(prediction.confidence),
        "scores": {str(key): float(value) for key, value in prediction.scores.items()},
    }


def plain(value: Any) -> Any:
    """A value as JSON: arrays as lists, what is no number as null."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | bool) else str(value)
