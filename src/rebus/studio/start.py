"""Start a server with the Studio on it. What is not installed is told before anything heavy is imported."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rebus.checkpoints.run_folder import Run
from rebus.errors import MissingPackageError, RecipeError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from rebus.serve.loading import Served
    from rebus.serve.settings import ServeSettings

DRAIN = 2.0  # seconds; an open page keeps a connection that never ends


def make_studio(
    settings: ServeSettings, run: Path | None, *, roots: Sequence[Path], lang: str = "en", upload_mb: float = 64
) -> tuple[FastAPI, Served | None]:
    """The server's application with the Studio mounted, and its model, which is not loaded yet.

    Raises:
        MissingPackageError: the extra is not installed. RebusError: the Run or a folder is not there.
    """
    for package in ("gradio", "fastapi", "uvicorn"):
        if importlib.util.find_spec(package) is None:
            raise MissingPackageError(package, "studio", "rebus studio")
    from rebus.serve.app import create_app
    from rebus.serve.loading import Served
    from rebus.studio.app import mount
    from rebus.studio.session import StudioSettings

    for root in roots:
        if not root.is_dir():
            raise RecipeError(f"--root {root}", "a folder", "no such folder", "make it, or name another")
    if run is not None:
        Run.open(run)
    served = Served(run, settings) if run is not None else None
    result = StudioSettings(run, list(roots), lang, settings.limits.pixels, upload_mb, settings.api_key)
    return mount(create_app(settings, served), result, served), served


def run_studio(
    run: Path | None,
    *,
    roots: Sequence[Path],
    lang: str = "en",
    host: str = "127.0.0.1",
    port: int = 7860,
    api_key: str | None = None,
    api_key_file: Path | None = None,
    hosts: Sequence[str] = (),
    upload_mb: float = 64,
    begun: Callable[[str], None] | None = None,
) -> None:
    """Serve the Studio, and the model's API beside it, until Ctrl-C.

    Args:
        run: the model to talk with first; None: the newest below ``roots``.
        roots: folders that pages may reach.
        lang: en or zh, of the pages until somebody switches.
        host: to listen on.
        port: likewise.
        api_key: what visitors must know; needed on any address but this machine's own.
        api_key_file: a file that holds it.
        hosts: more names that requests may come to.
        upload_mb: most MiB of a dropped file.
        begun: called with the address.

    Raises:
        RebusError: something is not there, not allowed or not installed.
    """
    if importlib.util.find_spec("uvicorn") is None:
        raise MissingPackageError("uvicorn", "studio", "rebus studio")
    from rebus.serve.run import run_server
    from rebus.serve.settings import ServeSettings, read_key

    key = read_key(api_key_file) if api_key_file is not None else api_key
    settings = ServeSettings(host=host, port=port, api_key=key, drain=DRAIN, hosts=tuple(hosts))
    settings = replace(settings, limits=replace(settings.limits, body_mb=int(upload_mb) + 1))
    app, served = make_studio(settings, run, roots=roots, lang=lang, upload_mb=upload_mb)
    if served is not None:
        served.start()
    run_server(app, settings, on_start=begun)
