"""Tiny Runs, a Studio in a thread and a browser window, which several of its tests share."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rebus.recipe import Fusion, Recipe, TaskSettings, Tower

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = [name for name in ("gradio", "fastapi", "uvicorn", "playwright") if find_spec(name) is None]


def small(table: Path, task: str, columns: dict[str, str], **train: Any) -> Recipe:
    """Settings of a model that learns squares in seconds."""
    recipe = Recipe().replace(
        {
            "data.path": str(table),
            "data.split.column": "split",
            "image.size": 32,
            "text.vocab_size": 340,
            "text.max_length": 32,
            "model.image": Tower(kind="convnet", width=24, depth=1, heads=2, patch=8),
            "model.text": Tower(kind="decoder" if task == "answer" else "encoder", width=24, depth=2, heads=2),
            "model.fusion": Fusion(kind="unified" if task == "answer" else "joint", depth=1, heads=2),
            "tasks": [TaskSettings(name=task, columns={"image": "image", **columns}, max_new_tokens=24)],
        }
    )
    return recipe.replace(
        train=recipe.train.replace(
            {"batch_size": 12, "steps": 60, "precision": "fp32", "validate_every": 1000, **train}
        )
    )


@dataclass
class Running:
    """A Studio that runs.

    Attributes:
        address: of its server.
        app: the application.
        place: the folder it may reach.
    """

    address: str
    app: Any
    place: Path


def run_studio(run: Path | None, place: Path, lang: str = "en", **settings: Any) -> Iterator[Running]:
    """A Studio in a thread, until the iterator goes on."""
    from rebus.serve.run import listening, make_server
    from rebus.serve.settings import ServeSettings
    from rebus.studio.start import make_studio

    made = ServeSettings(port=0, drain=0.2, **settings)
    app, served = make_studio(made, run, roots=[place], lang=lang, upload_mb=1)
    if served is not None:
        served.load()
    socket = listening(made)
    server = make_server(app, made, socket)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    end = time.monotonic() + 30
    while not server.started and time.monotonic() < end:
        time.sleep(0.02)
    assert server.started
    yield Running(f"http://127.0.0.1:{socket.getsockname()[1]}", app, place)
    server.should_exit = True
    thread.join(15)


@dataclass
class Seen:
    """What a browser did and was told.

    Attributes:
        page: Playwright's.
        elsewhere: requests to other machines, which were refused.
        bad: answers of 400 and above, and errors of scripts.
        shots: folder of the screenshots.
    """

    page: Any
    shots: Path
    elsewhere: list[str] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)

    def shot(self, name: str) -> None:
        """Keep a screenshot."""
        self.page.screenshot(path=self.shots / f"{name}.png", full_page=True)

    def open(self, address: str) -> Any:
        """The Studio's page, ready."""
        self.page.goto(f"{address}/studio/")
        self.page.wait_for_selector("#ask-send")
        self.page.wait_for_timeout(300)
        return self.page

    def turn_to(self, name: str) -> None:
        """Choose a page."""
        self.page.get_by_role("tab", name=name, exact=True).click()


def look(chromium: Any, shots: Path, width: int = 1280, **more: Any) -> Iterator[Seen]:
    """A page of a fresh browser window in which all but loopback is refused."""
    context = chromium.new_context(viewport={"width": width, "height": 900}, **more)
    context.set_default_timeout(100_000)
    page = context.new_page()
    found = Seen(page, shots)

    def guard(route: Any) -> None:
        url = urlsplit(route.request.url)
        if url.scheme in ("http", "https", "ws", "wss") and url.hostname not in ("127.0.0.1", "localhost"):
            found.elsewhere.append(route.request.url)
            route.abort()
        else:
            route.continue_()

    context.route("**/*", guard)
    page.on("response", lambda answer: found.bad.append(answer.url) if answer.status >= 400 else None)
    page.on("pageerror", lambda error: found.bad.append(str(error)))
    yield found
    context.close()
    assert found.elsewhere == []
