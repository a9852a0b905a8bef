"""The application: routes, guard and metrics put together. ``create_app`` and ``Served`` are what others build on."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rebus._version import __version__
from rebus.errors import RebusError
from rebus.serve import chat, completions, embeddings, predict, system
from rebus.serve.context import Context
from rebus.serve.errors import ApiError, of_rebus
from rebus.serve.guard import Guard
from rebus.serve.loading import Served
from rebus.serve.metrics import Metrics
from rebus.serve.schemas import ErrorReply
from rebus.serve.settings import ServeSettings

ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorReply, "description": "The request is refused."},
    "5XX": {"model": ErrorReply, "description": "The server cannot answer now."},
}


def create_app(settings: ServeSettings, served: Served | None) -> FastAPI:
    """Every route of the server.

    Args:
        settings: what is allowed; guards every route, those that are mounted later as well.
        served: the model, perhaps still loading; None: none, and the model's routes say so.
    """
    context = Context(settings, served, Metrics(served))
    app = FastAPI(
        title="Rebus",
        version=__version__,
        description="A model of texts and images behind OpenAI's protocol, and its other tasks under /v1/predict.",
        docs_url=None,  # the pages would load scripts from elsewhere
        redoc_url=None,
        responses=ERRORS,
    )
    for part in (chat, completions, embeddings, predict, system):
        app.include_router(part.router(context))
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(ApiError, _refused)
    app.add_exception_handler(RebusError, _mistake)
    app.add_middleware(Guard, context=context)
    if settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    app.state.context = context
    return app


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101 - it is registered for these
    return JSONResponse(error.body(), error.status, error.headers)


async def _mistake(request: Request, error: Exception) -> Response:
    assert isinstance(error, RebusError)  # noqa: S101 - it is registered for these
    return await _refused(request, of_rebus(error))


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for these
    texts = {
        400: "the body is no JSON that can be read",
        404: "there is no such route; /openapi.json lists them",
        405: "this route takes another method",
    }
    message = texts.get(error.status_code, "the request is refused")
    return JSONResponse(ApiError(error.status_code, message).body(), error.status_code, dict(error.headers or {}))


async def _not_valid(request: Request, error: Exception) -> Response:
    """The first thing that is wrong with a body; what the client sent is not sent back."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - it is registered for these
    first = error.errors()[0]
    place = [str(part) for part in first.get("loc", ()) if part not in ("body", "query", "path")]
    if first.get("type") == "json_invalid":
        return JSONResponse(ApiError(400, "the body is no JSON", "invalid_json").body(), 400)
    param = ".".join(place)[:200] or None
    more = len(error.errors()) - 1
    message = f"{param or 'the body'}: {first.get('msg', 'not valid')}" + (f" (and {more} more)" if more else "")
    return JSONResponse(ApiError(400, message, first.get("type"), param).body(), 400)
