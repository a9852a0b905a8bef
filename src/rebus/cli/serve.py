"""``rebus serve``: a model behind HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rebus.cli.shared import AnyModel, Precision, say
from rebus.errors import MissingPackageError, RecipeError


def serve(
    run: AnyModel,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen; beyond this machine only with a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", help="0: any that is free.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", envvar="REBUS_API_KEY", show_envvar=True, help="What clients must show; better in a file."
        ),
    ] = None,
    api_key_file: Annotated[Path | None, typer.Option(metavar="FILE", help="A file that holds the key.")] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the model, as clients write it; else the folder's.")
    ] = None,
    temperature: Annotated[
        float, typer.Option(metavar="T", help="Of requests that do not say; 0: the likeliest words.")
    ] = 0.0,
    running: Annotated[int, typer.Option(metavar="N", help="Texts written at once.")] = 64,
    cache_mb: Annotated[int, typer.Option(metavar="MIB", help="Memory for keys and values of all texts.")] = 1024,
    drain: Annotated[
        float, typer.Option(metavar="SECONDS", help="What requests in progress get when the server is told to stop.")
    ] = 30.0,
    cors: Annotated[
        list[str] | None,
        typer.Option("--cors", metavar="ORIGIN", help="A web page's origin that may call. May be repeated."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="Another name of this machine. May be repeated."),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option("--limit", metavar="NAME=N", help="Change a cap, e.g. pixels=4000000; see docs/serving.md."),
    ] = None,
    log_prompts: Annotated[bool, typer.Option("--log-prompts", help="Write what people ask into the log.")] = False,
    precision: Precision = "fp32",
) -> None:
    """Serve a model: OpenAI's protocol for text and vectors, /v1/predict for every task."""
    try:
        import fastapi  # noqa: F401 - told here, before any work
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(error.name or "fastapi", "serve", "rebus serve") from error
    from rebus.serve.settings import Limits, ServeSettings, read_key

    if api_key_file is not None and api_key is not None:
        raise RecipeError("the API key", "one place", "--api-key and --api-key-file", "leave one out")
    settings = ServeSettings(
        host=host,
        port=port,
        api_key=api_key if api_key_file is None else read_key(api_key_file),
        name=name,
        precision=precision,
        temperature=temperature,
        running=running,
        cache_mb=cache_mb,
        drain=drain,
        cors=tuple(cors or ()),
        hosts=tuple(item.lower() for item in allow_host or ()),
        log_prompts=log_prompts,
        limits=Limits().changed(limit or ()),
    )
    from rebus.serve.run import serve_model

    serve_model(run, settings, log=lambda text: say(text, style="dim", err=True))
