"""``/v1/models``, ``/health`` and ``/metrics``: what is served, whether it answers, how it fares."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from rebus.serve.context import Context
from rebus.serve.loading import Served
from rebus.serve.metrics import CONTENT_TYPE
from rebus.serve.schemas import Health, ModelCard, ModelList

Json = dict[str, Any]


def router(context: Context) -> APIRouter:
    """The routes."""
    routes = APIRouter()

    @routes.get("/v1/models", tags=["OpenAI"], response_model=ModelList)
    async def models() -> Response:
        """The model that is served, with its tasks and their columns."""
        return JSONResponse({"object": "list", "data": [card(context.model())]})

    @routes.get("/v1/models/{model}", tags=["OpenAI"], response_model=ModelCard)
    async def model(model: str) -> Response:
        """One model; its name is compared with the one that is served and is nothing else."""
        return JSONResponse(card(context.model(model)))

    @routes.get("/health", tags=["Server"], response_model=Health, responses={503: {"model": Health}})
    async def health() -> Response:
        """Whether requests are answered: 200, or 503 while the model is loading and while the server stops."""
        state = health_of(context)
        return JSONResponse(state, 200 if state["status"] == "ready" else 503)

    @routes.get(
        "/metrics",
        tags=["Server"],
        response_class=Response,
        responses={200: {"description": "In Prometheus' text format.", "content": {"text/plain": {}}}},
    )
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(context.metrics.page(), media_type=CONTENT_TYPE)

    return routes


def card(served: Served) -> Json:
    """A model as ``/v1/models`` lists it."""
    predictor = served.predictor
    tasks = [
        {"name": name, "columns": dict(task.settings.columns)}
        for name, task in predictor.tasks.items()
        if task.predicts or task.writes
    ]
    return {
        "id": served.name,
        "object": "model",
        "created": served.since,
        "owned_by": "rebus",
        "tasks": tasks,
        "sees_images": predictor.model.image is not None,
        "context": None if served.writer is None else served.writer.context,
    }


def health_of(context: Context) -> Json:
    """The state, and what is worth knowing of it. No path and no message of the system's is told."""
    served = context.served
    if served is None:
        return {"status": "no model", "details": []}
    details = []
    if served.loaded and not served.still_there:
        details.append("the model's folder is gone; the model answers from memory until the server is stopped")
    if served.state == "failed":
        details.append("the model could not be loaded; the server's log says why")
    if served.loaded and served.writer is not None and not served.writer.engine.alive and served.ready:
        return {"status": "failed", "details": ["what writes texts has stopped; restart the server"]}
    return {"status": served.state, "details": details}
