"""``/v1/predict``: what any task says of rows, and why."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from numpy.typing import NDArray
from starlette.responses import JSONResponse, Response

from rebus.run.predictor import Predictor
from rebus.serve import pictures
from rebus.serve.bodies import BodyRoute
from rebus.serve.context import Context, unless_gone
from rebus.serve.errors import invalid, late
from rebus.serve.schemas import PredictReply, PredictRequest
from rebus.tasks import Prediction, Task

ROUTE = "/v1/predict"
Json = dict[str, Any]


def router(context: Context) -> APIRouter:
    """The route."""
    routes = APIRouter(route_class=BodyRoute)

    @routes.post(ROUTE, tags=["Rebus"], response_model=PredictReply)
    async def predict(body: PredictRequest, request: Request) -> Response:
        """Predictions for rows with the columns that the model was trained on; ``/v1/models`` lists them."""
        served = context.model(body.model)
        context.note(ROUTE, body)
        limits = context.limits
        if len(body.rows) > limits.rows:
            raise invalid(f"at most {limits.rows} rows may be sent; there are {len(body.rows)}", "rows")
        if not body.explain and (body.target is not None or body.method is not None):
            raise invalid("target and method say how to explain: set explain to true", "explain")
        if body.explain and len(body.rows) > limits.explained:
            raise invalid(f"at most {limits.explained} rows are explained at once", "rows")
        name, data = await unless_gone(request, context.at_desk(predict_rows, served.predictor, body, context))
        return JSONResponse({"object": "list", "model": served.name, "task": name, "data": data})

    return routes


def predict_rows(predictor: Predictor, body: PredictRequest, context: Context) -> tuple[str, list[Json]]:
    """The task's name and each row's prediction as JSON. Raises ApiError, DataError."""
    task = predictor.task(body.task)
    rows = [_row(predictor, task, dict(row), number, context) for number, row in enumerate(body.rows)]
    told = predictor.predict(rows, task=task.name)
    data = [{"index": index, **as_json(one), "explanation": None} for index, one in enumerate(told)]
    if body.explain:
        end = time.monotonic() + context.limits.seconds
        for place, row in zip(data, rows, strict=True):
            if time.monotonic() > end:  # whoever asked was told so
                raise late()
            place["explanation"] = explained(predictor, task, row, body)
    return task.name, data


def explained(predictor: Predictor, task: Task, row: Mapping[str, Any], body: PredictRequest) -> Json:
    """Why the model says what it says of a row. Raises DataError where this task cannot be explained."""
    from rebus.explain import explain

    more: Json = {} if body.method is None else {"method": body.method}
    found = explain(predictor, columns=row, task=task.name, target=body.target, **more)
    return {key: plain(value) for key, value in found.to_json().items()}


def as_json(prediction: Prediction) -> Json:
    """A prediction's public parts."""
    return {
        "value": plain(prediction.value),
        "confidence": plain(float(prediction.confidence)),
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
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def _row(predictor: Predictor, task: Task, row: Json, number: int, context: Context) -> Json:
    """A row with its picture opened; nothing in it is ever taken for a path."""
    limits = context.limits
    column = task.settings.columns.get("picture")
    for name, value in row.items():
        where = f"rows[{number}].{name[:64]}"
        if name == column and value is not None:
            if not isinstance(value, str):
                raise invalid("a picture is a data URL", where)
            row[name] = _opened(predictor, value, context, where)
        elif isinstance(value, str) and len(value) > limits.text_length:
            raise invalid(f"a text has at most {limits.text_length:,} characters", where)
    return row


def _opened(predictor: Predictor, url: str, context: Context, where: str) -> NDArray[np.uint8]:
    return pictures.opened(predictor, url, context.limits, where).pixels
